"""The call of publish.lua, which is written out at once, since it is made for each postback."""

from switchboard_operator import marks
from switchboard_operator.broker import keys, resp, scripts
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.messages import Postback, tag_place

NO_MAILBOX = 0  # postbacks kept
PROBE_LIFETIME = 60  # seconds

_HEAD = resp.parts("EVALSHA", scripts.PUBLISH.sha, 3)  # keys
# What is a postback's own: three keys, its body, the place of its tag, and an epoch.
_OWN = b"".join(
    b"$%%d\r\n%b\r\n" % name.replace("%s", "%b").encode()
    for name in (keys.ONCE, keys.STATE, keys.BODIES, "%s", "%s", "%s")
)
_ONCE, _STATE, _BODIES = (
    len(name.replace("%s", "")) for name in (keys.ONCE, keys.STATE, keys.BODIES)
)


_LOADING_HEAD = resp.parts("EVAL", scripts.PUBLISH.text, 3)


def loading(command: bytes) -> bytes:
    """Return *command* in a form by which Redis knows the script from then on, if it did not."""
    return command.replace(_HEAD, _LOADING_HEAD, 1)


class PublishCommand:
    """Makes the command that publishes a postback on *channel*, and keeps it as *rules* say."""

    def __init__(self, channel: str, rules: MailboxRules) -> None:
        """Write out what is the same for all."""
        sizes = (rules.most_bytes, rules.lifetime, rules.state_lifetime)
        self._rules = rules
        self._kept = _form(channel, rules.size, *sizes, rules.once_lifetime)
        self._not_kept = _form(channel, NO_MAILBOX, *sizes, rules.once_lifetime)
        self._probe = _form(channel, NO_MAILBOX, *sizes, PROBE_LIFETIME)

    def for_postback(self, postback: Postback) -> bytes:
        """Return the command as it goes out."""
        kept = self._rules.size_for(postback.session)
        return _filled(self._kept if kept else self._not_kept, postback)

    def for_probe(self, probe: Postback) -> bytes:
        """Return the command for *probe*, of which little is kept, and not for long."""
        return _filled(self._probe, probe)


def _form(channel: str, *limits: int) -> bytes:
    """Return a command to be filled in."""
    rest = resp.parts(channel, *limits).replace(b"%", b"%%")
    return b"*15\r\n" + _HEAD + _OWN + rest


def _filled(form: bytes, postback: Postback) -> bytes:
    session, key, body = postback.session.encode(), postback.key.encode(), postback.body
    cut, epoch = b"%d" % tag_place(body), marks.new_epoch().encode()
    length = len(session)
    return form % (
        _ONCE + length + len(key), session, key, _STATE + length, session, _BODIES + length,
        session, len(body), body, len(cut), cut, len(epoch), epoch,
    )  # fmt: skip
