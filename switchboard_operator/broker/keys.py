"""The names of a session's keys in Redis; the braces put all of them into one slot."""

STATE = "switchboard:{%s}:state"  # of a session
BODIES = "switchboard:{%s}:bodies"
ONCE = "switchboard:{%s}:once:%s"  # of a session and a postback's key


def state(session: str) -> str:
    """Name the hash with the session's epoch, last number, cursor and size in bytes."""
    return STATE % session


def bodies(session: str) -> str:
    """Name the list of its latest postbacks."""
    return BODIES % session


def once(session: str, key: str) -> str:
    """Name what the postback with *key* became."""
    return ONCE % (session, key)


def lease(session: str) -> str:
    """Name the instance that posts the session's messages."""
    return f"switchboard:{{{session}}}:lease"


def outcome(session: str, cid: str) -> str:
    """Name what became of the user message *cid*."""
    return f"switchboard:{{{session}}}:cid:{cid}"
