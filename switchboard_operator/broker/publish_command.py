"""The call of publish.lua, most of which is written out at once, since it is made so often."""

from collections.abc import Sequence

from switchboard_operator import marks
from switchboard_operator.broker import channels, keys, resp, scripts
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.messages import Postback

NO_MAILBOX = 0  # postbacks kept
RENEWALS = 64  # in a lifetime: to renew one takes as long as to store a body

_HEAD = resp.parts("EVALSHA", scripts.PUBLISH.sha)
_LOADING_HEAD = resp.parts("EVAL", scripts.PUBLISH.text)
_COUNT = 2 + 1 + 8  # parts beside what is each postback's own: script, number of keys, arguments
_COUNT_EACH = 3 + 3  # keys and arguments of a postback
_ONCE, _STATE, _BODIES = (
    len(name.replace("%s", "")) for name in (keys.ONCE, keys.STATE, keys.BODIES)
)
_KEYS = b"".join(
    b"$%%d\r\n%b\r\n" % name.replace("%s", "%b").encode()
    for name in (keys.ONCE, keys.STATE, keys.BODIES)
)
_OWN = b"$%d\r\n%b\r\n$%d\r\n%b\r\n"  # to which it is added how many are kept


Part = tuple[bytes, bytes]  # what a call has for one postback: its keys, and its arguments


class PublishCommand:
    """Makes the commands that publish postbacks, and keep them as *rules* say."""

    def __init__(self, rules: MailboxRules) -> None:
        """Write out what is the same for all."""
        self._rules = rules
        self._kept = resp.parts(rules.size)
        self._not_kept = resp.parts(NO_MAILBOX)
        self._channels_and_rules = resp.parts(
            channels.ANYBODYS, channels.OWN, rules.most_bytes,
            rules.lifetime, rules.state_lifetime, rules.once_lifetime,
        )  # fmt: skip
        self._step = min(rules.lifetime, rules.state_lifetime) / RENEWALS

    def part(self, postback: Postback, *, kept: bool = True) -> Part:
        """Return the part of a call that is about *postback*, which may be *kept* or not at all."""
        session, key, body = postback.session.encode(), postback.key.encode(), postback.body
        length, size = len(session), len(body)
        kept = kept and bool(self._rules.size_for(postback.session))
        head = b" %b %d" % (session, size)
        return (
            _KEYS % (
                _ONCE + length + len(key), session, key,
                _STATE + length, session, _BODIES + length, session,
            ),
            _OWN % (len(head), head, size, body) + (self._kept if kept else self._not_kept),
        )  # fmt: skip

    def call(self, parts: Sequence[Part], now: float, *, load: bool) -> bytes:
        """
        Return the command that publishes what *parts* are about, *now* in seconds.

        *load* makes the script known to Redis if it was not.
        """
        count = len(parts)
        each_ones_keys, each_ones_arguments = zip(*parts, strict=True)
        step = f"{self._step:g}:{now // self._step:.0f}"  # another one for other lifetimes
        return b"".join([
            b"*%d\r\n" % (_COUNT + _COUNT_EACH * count),
            _LOADING_HEAD if load else _HEAD,
            resp.parts(3 * count),
            *each_ones_keys,
            self._channels_and_rules,
            resp.parts(step, marks.new_epoch()),
            *each_ones_arguments,
        ])  # fmt: skip
