"""What the loop's own complaints become."""

import asyncio
import gc
import ssl

import pytest

from tests.switchboards import Switchboard


def leave_unseen(error: Exception) -> None:
    """Let a future fail that nobody waits for."""
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    "error", [ssl.SSLError("no"), ConnectionResetError()], ids=["tls", "reset"]
)
async def test_a_link_that_fails_when_nobody_waits_for_it_any_more_is_no_error(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    leave_unseen(error)

    assert "never retrieved" not in caplog.text


@pytest.mark.plants_a_bug
async def test_any_other_failure_that_nobody_sees_is_logged(
    board: Switchboard, caplog: pytest.LogCaptureFixture
) -> None:
    assert board.app is not None

    leave_unseen(ZeroDivisionError())

    assert "never retrieved" in caplog.text
