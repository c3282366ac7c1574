"""What a process says of itself once it listens."""

from urllib.parse import urlsplit

from switchboard_operator import __version__
from switchboard_operator.first_look import FirstLook
from switchboard_operator.settings import Settings


def text(url: str, settings: Settings, look: FirstLook) -> str:
    """Return the banner of a process at *url*; the chat's address is the first URL in it."""
    redis = f" ({_state(look.redis)})" if settings.rediscloud_url else ""
    lines = [
        f"Switchboard Operator {__version__}",
        f"  Chat       {url}/chat",
        f"  Status     {url}/",
        *_embedding(url),
        f"  Concierge  {settings.concierge_url} ({_state(look.concierge)})",
        f"  Broker     {broker(settings)}{redis}",
    ]
    if settings.allowed_origins == {"*"}:
        lines.append("  Note       any web origin may connect (ALLOWED_ORIGINS)")
    if settings.rediscloud_url.startswith("rediss:") and not settings.redis_tls_verify:
        lines.append("  Warning    the certificate of Redis is not verified (REDIS_TLS_VERIFY=0)")
    return "\n".join(lines)


def _embedding(url: str) -> list[str]:
    """Return the tags that put the chat on a page; from elsewhere its address is another one."""
    socket = url.replace("http", "ws", 1)
    return [
        f'  Embed      <script type="module" src="{url}/widget/switchboard-chat.js"></script>',
        f'             <switchboard-chat src="{socket}/"></switchboard-chat>',
    ]


def broker(settings: Settings) -> str:
    """Say what joins this instance with others, and show no secret."""
    if not settings.rediscloud_url:
        return "memory: this process is the only one (REDISCLOUD_URL)"
    address = urlsplit(settings.rediscloud_url)  # without user and password
    return f"Redis at {address.hostname}:{address.port or 6379}"


def _state(is_there: bool) -> str:
    return "is there" if is_there else "is not there yet"
