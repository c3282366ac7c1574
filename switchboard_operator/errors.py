"""Everything that can go wrong and has a name, in one tree."""

from collections.abc import Sequence


class SwitchboardError(Exception):
    """Root of all errors that the switchboard raises on purpose."""


class SettingsError(SwitchboardError):
    """
    The configuration can't be used.

    `problems` holds one line for each fault: variable, reason, example. No line repeats a value,
    since a value may be a secret.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep *problems*, one line each."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class SignatureError(SwitchboardError):
    """
    A request isn't signed as the Concierge signs.

    `cause` is one of a fixed set of short names, fit for a metric label; the text is for the log
    and never for the sender.
    """

    def __init__(self, cause: str, detail: str) -> None:
        """Name the *cause* and tell the operator more in *detail*."""
        super().__init__(detail)
        self.cause = cause


class RequestRefused(SwitchboardError):
    """
    A request is answered with a refusal.

    `code` and `detail` go to the client, with *status* (HTTP).
    """

    def __init__(self, code: str, detail: str, *, status: int) -> None:
        """Say why."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status


class UpgradeRefused(RequestRefused):
    """A client may not open a socket, or not with the session it asks for."""


class BadFrame(SwitchboardError):
    """A user's frame isn't a message; `detail` may be shown to the user."""

    def __init__(self, detail: str) -> None:
        """Say in *detail*, in words of ours, what the frame lacks."""
        super().__init__(detail)
        self.detail = detail


class ProtocolBroken(SwitchboardError):
    """A client's frame is out of place, so that what it means by the next ones can't be known."""


class TokenRefused(SwitchboardError):
    """A token is not one of ours, or too old."""


class PostbackRefused(RequestRefused):
    """The Concierge's request is not one we take."""


class BrokerFull(PostbackRefused):
    """As many postbacks are held for Redis as can be."""

    def __init__(self) -> None:
        """Ask to try again later."""
        super().__init__("overloaded", "too much is held already", status=503)


class BrokerUnavailable(RequestRefused):
    """Redis is away, and what was asked can't wait for it."""

    def __init__(self) -> None:
        """Ask to try again later."""
        super().__init__("redis_unavailable", "Redis does not answer", status=503)


class ConciergeError(SwitchboardError):
    """
    The Concierge did not accept a user message.

    `kind` is one of a fixed set of short names, fit for a metric label.
    """

    def __init__(self, kind: str) -> None:
        """Name the *kind* of failure."""
        super().__init__(kind)
        self.kind = kind


class ConciergeUnavailable(ConciergeError):
    """The message can't have been processed: sending it again is safe."""


class ConciergeTimeout(ConciergeError):
    """The message may or may not have been processed: sending it again could double it."""


class ConciergeRejected(ConciergeError):
    """The Concierge refused the message for good."""


class AddressUnavailable(SwitchboardError):
    """Nothing can listen on the address asked for."""


class Unreachable(SwitchboardError):
    """No switchboard answers at the URL asked for."""
