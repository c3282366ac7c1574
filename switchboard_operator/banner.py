"""What a process says of itself once it listens."""

from switchboard_operator import __version__
from switchboard_operator.settings import Settings


def text(url: str, settings: Settings) -> str:
    """Return the banner of a process at *url*; the chat's address is the first URL in it."""
    lines = [
        f"Switchboard Operator {__version__}",
        f"  Chat       {url}/chat",
        f"  Concierge  {settings.concierge_url}",
        "  Broker     memory: this process is the only one",
    ]
    if settings.allowed_origins == {"*"}:
        lines.append("  Note       any web origin may connect (ALLOWED_ORIGINS)")
    return "\n".join(lines)
