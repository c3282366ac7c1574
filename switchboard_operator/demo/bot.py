"""What the demo's bot answers: one example of every frame a bot can send."""

from dataclasses import dataclass
from typing import Any

from msgspec import json

SLOW = 4.0  # seconds that the slow answer takes
PROMPT = 0.3  # seconds that any other takes

_MENU = [
    {"type": "payload", "text": "Show an image", "payload": {"demo": "image"}},
    {"type": "payload", "text": "Send an event", "payload": {"demo": "event"}},
    {"type": "payload", "text": "Take your time", "payload": {"demo": "slow"}},
    {
        "type": "url",
        "text": "What is a switchboard?",
        "url": "https://en.wikipedia.org/wiki/Telephone_switchboard",
        "name": "switchboard",
    },
]


@dataclass(frozen=True, slots=True)
class Reply:
    """A postback but for its address: `content` goes out after `delay` seconds."""

    content: dict[str, Any]
    delay: float = PROMPT


class Bot:
    """Remembers what each user said, so that it can take an answer back."""

    def __init__(self, picture_url: str) -> None:
        """Show the picture at *picture_url* when asked for one."""
        self._picture_url = picture_url
        self._said: dict[str, list[str]] = {}

    def replies(self, session: str, message: str | None, payload: Any) -> list[Reply]:
        """Return what to answer to a user's *message* or *payload*."""
        match payload:
            case {"type": "rollback"}:
                return [self._roll_back(session)]
            case {"demo": "image"}:
                return [
                    Reply(
                        {"body": "A switchboard", "type": "image", "media_url": self._picture_url}
                    )
                ]
            case {"demo": "event"}:
                details = json.encode({"rings": 3}).decode()
                return [
                    Reply(
                        {
                            "body": "The bell rang.",
                            "type": "event",
                            "name": "bell",
                            "payload": details,
                        }
                    )
                ]
            case {"demo": "slow"}:
                return [Reply({"body": "That took a while, and here it is."}, SLOW)]
        return self._answer(session, message or "")

    def _answer(self, session: str, message: str) -> list[Reply]:
        said = self._said.setdefault(session, [])
        said.append(message)
        if message.strip().lower() in {"image", "event", "slow"}:
            said.pop()
            return self.replies(session, None, {"demo": message.strip().lower()})
        return [
            Reply({"body": f"You said: {message}"}),
            Reply({"body": "What next?", "type": "button", "buttons": _MENU}),
        ]

    def _roll_back(self, session: str) -> Reply:
        said = self._said.get(session)
        if not said:
            return Reply({"body": "There is nothing to take back."})
        return Reply({"body": f"Forgotten: {said.pop()}"})
