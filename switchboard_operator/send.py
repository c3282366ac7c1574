"""Send a postback as the Concierge would, and say what the answer means."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from switchboard_operator import signatures
from switchboard_operator.errors import Unreachable

PATIENCE = 10.0  # seconds for an answer

_MEANINGS: Mapping[int, str] = {
    HTTPStatus.ACCEPTED: "taken, but Redis does not answer: it is held, and delivered later",
    HTTPStatus.UNAUTHORIZED: "the signature is not taken: is CONCIERGE_POSTBACK_SECRET_KEY the"
    " switchboard's, is its clock right, does what is in between leave path and headers alone?",
    HTTPStatus.SERVICE_UNAVAILABLE: "too much waits for Redis already: try again later",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed request, ready to be sent within 15 minutes; the same once more counts as one."""

    url: URL
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the postback was taken, and what there is to tell."""

    taken: bool
    told: str


def content(
    to: str, text: str, sender: str, image: str | None, buttons: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a postback: *text* and, with it, an *image* or *buttons*."""
    said = {"to": to, "from": sender, "body": text}
    if image is not None:
        return {**said, "type": "image", "media_url": image}
    return {**said, "type": "button", "buttons": list(buttons)} if buttons else dict(said)


def payload_button(label: str, payload: Any) -> dict[str, Any]:
    """Return a button that says *label* and *payload* to the Concierge."""
    return {"type": "payload", "text": label, "payload": payload}


def link_button(label: str, url: str) -> dict[str, Any]:
    """Return a button that opens *url*."""
    return {"type": "url", "text": label, "url": url, "name": label}


def prepare(postback: Mapping[str, Any], base: str, secret: str, now: datetime) -> Prepared:
    """Sign *postback* for the switchboard at the URL *base*, with *secret*."""
    url = URL(f"{base}/", encoded=True)
    # ASCII alone, so that what is printed survives any terminal byte for byte.
    body = json.dumps(postback, separators=(",", ":"), allow_nan=False).encode("ascii")
    headers = signatures.sign("POST", url.raw_path_qs, "application/json", body, secret, now)
    return Prepared(url, headers, body)


def as_curl(prepared: Prepared) -> str:
    """Return the command that sends the same, for a shell; it holds no secret."""
    options = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in prepared.headers.items()]
    data = f"--data-raw {shlex.quote(prepared.body.decode())}"
    return " \\\n  ".join(["curl -i", *options, data, shlex.quote(str(prepared.url))])


async def post(prepared: Prepared) -> Answer:
    """
    Send it.

    Raises:
        Unreachable: nobody answers.
    """
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                prepared.url, data=prepared.body, headers=prepared.headers, allow_redirects=False
            ) as response,
        ):
            return _answer(response.status, response.headers, await response.read())
    except TimeoutError as exc:
        raise Unreachable(f"{prepared.url} does not answer within {PATIENCE:g} s") from exc
    except aiohttp.ClientError as exc:
        reason = getattr(exc, "strerror", None) or "it does not talk HTTP as we do"
        raise Unreachable(f"{prepared.url} can't be reached: {reason}") from exc


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    taken = status in {HTTPStatus.NO_CONTENT, HTTPStatus.ACCEPTED}
    meaning = _published(headers) if status == HTTPStatus.NO_CONTENT else _MEANINGS.get(status)
    return Answer(taken, f"{status}: {meaning or _detail(body)}")


def _published(headers: Mapping[str, str]) -> str:
    mark = headers.get("Switchboard-Message-Id")
    known = f"with the id {mark}" if mark else "without an id, since it is kept in no mailbox"
    if headers.get("Switchboard-Duplicate") == "true":
        return f"the same was sent before, {known}; it is not delivered again"
    return f"published {known}"


def _detail(body: bytes) -> str:
    """Return why a switchboard refuses, in its own words."""
    try:
        return msgspec.json.decode(body, type=_Refusal).detail
    except (msgspec.MsgspecError, UnicodeError):
        return "that is no answer of a switchboard; is the URL its address?"


class _Refusal(msgspec.Struct):
    detail: str
