"""Say of what fails a check what is wrong and what to mend: in one line, with no secret."""

import ssl
from collections.abc import Callable, Iterator
from socket import gaierror

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from switchboard_operator.errors import ConciergeError

_OTHER_HOST = frozenset((62, 64))  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH of OpenSSL
_OTHER_TIME = frozenset((9, 10))  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
_AUTHENTICATION = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))

_Fault = tuple[type[BaseException] | tuple[type[BaseException], ...], str]
_REDIS_FAULTS: tuple[_Fault, ...] = (
    (gaierror, "has a name that can't be looked up; mend REDISCLOUD_URL"),
    (
        (ssl.SSLError, InvalidResponse),
        "talks otherwise; should REDISCLOUD_URL begin with redis:// or rediss://?",
    ),
    (ConnectionRefusedError, "refuses connections; start it, or mend REDISCLOUD_URL"),
    (BusyLoadingError, "is still loading its data; try again in a while"),
    (AuthenticationError, "refuses user and password; mend them in REDISCLOUD_URL"),
    (
        (TimeoutError, RedisTimeoutError),
        "does not answer in time; is it reachable from here, and is rediss:// right?",
    ),
    (
        (ConnectionResetError, RedisConnectionError),
        "breaks links off; should REDISCLOUD_URL begin with rediss://, or has it too many clients?",
    ),
)
_CONCIERGE_FAULTS: tuple[_Fault, ...] = (
    (gaierror, "has a name that can't be looked up; mend CONCIERGE_URL"),
    (ssl.SSLError, "does not talk TLS as we do; should CONCIERGE_URL begin with http://?"),
    (ConnectionRefusedError, "refuses connections; start it, or mend CONCIERGE_URL"),
)
_CONCIERGE_KINDS = {
    "connect": "can't be connected to; is it reachable from here, and is CONCIERGE_URL right?",
    "timeout": "does not answer in time; is it at CONCIERGE_URL, and well?",
    "link_lost": "does not answer in HTTP; is CONCIERGE_URL its address, or should it be https://?",
    "empty": "answers, but with no version; is CONCIERGE_URL its address?",
    "status_401": "answers status 401 to GET /version; let that be asked without a signature",
    "status_403": "answers status 403 to GET /version; let that be asked without a signature",
}


def of_redis(error: Exception) -> str:
    """Say what is wrong, in words of ours: an error's own may quote the URL and its password."""
    return _first(error, _of_redis) or (
        f"fails ({type(error).__name__}); is REDISCLOUD_URL the address of a Redis?"
    )


def of_concierge(error: ConciergeError) -> str:
    """Say what is wrong with a Concierge that told no version."""
    known = _first(error, _of_concierge) or _CONCIERGE_KINDS.get(error.kind)
    return known or (
        f"answers {error.kind.replace('_', ' ')} to GET /version; is CONCIERGE_URL its address?"
    )


def _first(error: Exception, words: Callable[[BaseException], str | None]) -> str | None:
    return next(filter(None, map(words, _causes(error))), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go from the innermost cause of *error*, which knows best, to itself."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)
    yield error


def _of_redis(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{_certificate(error, 'REDISCLOUD_URL')}, or set REDIS_TLS_VERIFY=0"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in (error.reason or ""):
        return "asks for a certificate, and we have none; let it ask for none (tls-auth-clients no)"
    if isinstance(error, NoPermissionError):  # redis-py has cut its code off
        return _refusal("NOPERM")
    if isinstance(error, ResponseError):
        return _refusal(str(error).partition(" ")[0])
    return _found(error, _REDIS_FAULTS)


def _of_concierge(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, "CONCIERGE_URL")
    return _found(error, _CONCIERGE_FAULTS)


def _found(error: BaseException, faults: tuple[_Fault, ...]) -> str | None:
    return next((words for kinds, words in faults if isinstance(error, kinds)), None)


def _certificate(error: ssl.SSLCertVerificationError, variable: str) -> str:
    if error.verify_code in _OTHER_HOST:
        return f"shows a certificate for another host; name that host in {variable}"
    if error.verify_code in _OTHER_TIME:
        return "shows a certificate that is not valid today; renew it, or set the clock"
    return "shows a certificate that is not trusted; name its issuer in SSL_CERT_FILE"


def _refusal(code: str) -> str:
    """Say what Redis means by *code*, the first word of its error."""
    if code in _AUTHENTICATION:
        return f"lets us do too little ({code}); mend user and password in REDISCLOUD_URL"
    if code == "READONLY":
        return "is a replica (READONLY); name the master in REDISCLOUD_URL"
    if code == "OOM":
        return "has no memory left (OOM); give it more (maxmemory), or lower MAILBOX_TTL"
    return f"refuses ({code}); look into its log, and at the database's number in REDISCLOUD_URL"
