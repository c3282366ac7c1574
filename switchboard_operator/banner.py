"""What a process says of itself once it listens."""

from urllib.parse import urlsplit

import structlog

from switchboard_operator import __version__
from switchboard_operator.first_look import FirstLook
from switchboard_operator.settings import Settings

log = structlog.get_logger()


def show(url: str, settings: Settings, look: FirstLook) -> None:
    """Say what there is to say, a fact a line; in one line of the log if that is JSON."""
    if settings.log_format == "json":
        log.info("serving", version=__version__, **facts(url, settings, look))
    else:
        print(text(url, settings, look), flush=True)


def text(url: str, settings: Settings, look: FirstLook) -> str:
    """Return the banner of a process at *url*; the chat's address is the first URL in it."""
    lines = [f"Switchboard Operator {__version__}"]
    for name, fact in facts(url, settings, look).items():
        lines.append(f"  {name.capitalize():10} " + fact.replace("\n", "\n" + 13 * " "))
    return "\n".join(lines)


def facts(url: str, settings: Settings, look: FirstLook) -> dict[str, str]:
    """Return what is worth knowing, by a word for it; from elsewhere *url* is another one."""
    socket = url.replace("http", "ws", 1)
    redis = f" ({_state(look.redis)})" if settings.rediscloud_url else ""
    told = {
        "chat": f"{url}/chat",
        "status": f"{url}/",
        "embed": f'<script type="module" src="{url}/widget/switchboard-chat.js"></script>\n'
        f'<switchboard-chat src="{socket}/"></switchboard-chat>',
        "concierge": f"{settings.concierge_url} ({_state(look.concierge)})",
        "broker": f"{broker(settings)}{redis}",
    }
    if settings.allowed_origins == {"*"}:
        told["note"] = "any web origin may connect (ALLOWED_ORIGINS)"
    if settings.rediscloud_url.startswith("rediss:") and not settings.redis_tls_verify:
        told["warning"] = "the certificate of Redis is not verified (REDIS_TLS_VERIFY=0)"
    return told


def broker(settings: Settings) -> str:
    """Say what joins this instance with others, and show no secret."""
    if not settings.rediscloud_url:
        return "memory: this process is the only one (REDISCLOUD_URL)"
    address = urlsplit(settings.rediscloud_url)  # without user and password
    return f"Redis at {address.hostname}:{address.port or 6379}"


def _state(is_there: bool) -> str:
    return "is there" if is_there else "is not there yet"
