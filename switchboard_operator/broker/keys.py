"""The names of a session's keys in Redis; the braces put all of them into one slot."""


def state(session: str) -> str:
    """Name the hash with the session's epoch, last number, cursor and size in bytes."""
    return f"switchboard:{{{session}}}:state"


def bodies(session: str) -> str:
    """Name the list of its latest postbacks."""
    return f"switchboard:{{{session}}}:bodies"


def once(session: str, key: str) -> str:
    """Name what the postback with *key* became."""
    return f"switchboard:{{{session}}}:once:{key}"


def lease(session: str) -> str:
    """Name the instance that posts the session's messages."""
    return f"switchboard:{{{session}}}:lease"


def outcome(session: str, cid: str) -> str:
    """Name what became of the user message *cid*."""
    return f"switchboard:{{{session}}}:cid:{cid}"
