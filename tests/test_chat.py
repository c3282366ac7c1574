"""The WebSocket endpoint on the classic wire."""

from tests.fakes import FakeConcierge
from tests.switchboards import SESSION, Switchboard


async def test_a_message_reaches_the_concierge_and_its_answer_the_user(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    socket = await board.connect()

    await socket.send_str('{"message": "Hi é🐶", "payload": {"big": 12345678901234567890, "a": 1}}')
    [incoming] = await concierge.has_accepted(1)
    answered = await board.postback({"to": SESSION, "from": "bot", "body": "Hello"})

    assert (
        incoming.body
        == (
            '{"Body":"Hi é🐶","From":"'
            + SESSION
            + '","Payload":{"big": 12345678901234567890, "a": 1}}'
        ).encode()
    )
    assert answered.status == 204
    assert await socket.receive_str() == '{"to":"' + SESSION + '","from":"bot","body":"Hello"}'
