"""Who may open a socket, and as which user: origin, room, session and cookie."""

from aiohttp import hdrs, web
from aiohttp_session import Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from switchboard_operator import sessions
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.settings import Settings

ANY_ORIGIN = "*"


class Admission:
    """The rules of an upgrade, with the cookies they read and write."""

    def __init__(self, settings: Settings) -> None:
        """Follow *settings*."""
        self._most = settings.max_connections
        self._any_origin = ANY_ORIGIN in settings.allowed_origins
        self._listed = settings.allowed_origins - {ANY_ORIGIN}
        self._clients_choose = settings.allow_client_sessions
        self._cookies = {
            secure: EncryptedCookieStorage(
                sessions.Cipher(settings.switchboard_secret_key, sessions.COOKIE_KEY),
                cookie_name=sessions.COOKIE_NAME,
                max_age=sessions.COOKIE_LIFETIME,
                httponly=True,
                samesite="Lax",
                secure=secure,
                decoder=sessions.decode_cookie,
            )
            for secure in (False, True)
        }

    def check_room(self, connections: int) -> None:
        """
        Check that there is room for one more beside so many *connections*.

        Raises:
            UpgradeRefused: there is none.
        """
        if self._most and connections >= self._most:
            raise UpgradeRefused("full", "this instance has as many as it may", status=503)

    def check_origin(self, origin: str | None, host: str) -> None:
        """
        Let in pages of the origins allowed, our own, and apps, which send no origin.

        *host* is what the client takes us for, with its port.

        Raises:
            UpgradeRefused: the origin is another one.
        """
        if not self._any_origin and not self._is_trusted(origin, host):
            raise UpgradeRefused("origin_not_allowed", "this origin may not connect", status=403)

    def session_named(self, session: str) -> str | None:
        """
        Return the session of an upgrade that names it and brings no cookie, None for none.

        Raises:
            UpgradeRefused: it is malformed or not the client's to use.
        """
        return sessions.choose([session], None, clients_choose=self._clients_choose)

    async def session_asked(self, request: web.Request) -> str | None:
        """
        Return the session id that an upgrade names, None if it names none.

        Raises:
            UpgradeRefused: it is malformed or not the client's to use.
        """
        asked = request.query.getall("session", [])
        if not any(asked):
            return None
        return sessions.choose(
            asked, await self._proven(request), clients_choose=self._clients_choose
        )

    async def session_of(self, request: web.Request) -> tuple[str, Session | None]:
        """
        Return the session id of an upgrade, and the cookie to set if the session rests on one.

        Raises:
            UpgradeRefused: the id asked for is malformed or not the client's to use.
        """
        trusted = self._trusts(request)
        cookie = await self._cookie(request) if trusted else None
        proven = cookie.get("id") if cookie is not None else None
        asked = request.query.getall("session", [])
        session = sessions.choose(asked, proven, clients_choose=self._clients_choose)
        if session is not None and session != proven:
            return session, None  # the client's own, which needs no cookie
        session = session or sessions.mint()
        if cookie is not None:
            cookie["id"] = session  # also renews its age
        return session, cookie

    async def set_cookie(
        self, request: web.Request, response: web.StreamResponse, cookie: Session
    ) -> None:
        """Put *cookie* on *response*, which must not have been prepared yet."""
        await self._cookies[_is_https(request)].save_session(request, response, cookie)

    async def _proven(self, request: web.Request) -> str | None:
        cookie = await self._cookie(request) if self._trusts(request) else None
        return cookie.get("id") if cookie is not None else None

    async def _cookie(self, request: web.Request) -> Session:
        try:
            return await self._cookies[False].load_session(request)
        except (ValueError, OverflowError):  # bytes that no cookie of ours has
            return await self._cookies[False].new_session()

    def _trusts(self, request: web.Request) -> bool:
        return self._is_trusted(request.headers.get(hdrs.ORIGIN), request.host)

    def _is_trusted(self, origin: str | None, host: str) -> bool:
        """Tell whether *origin* is absent, ours or listed by name: only then cookies count."""
        if origin is None:
            return True
        own = origin.partition("://")[2]
        return origin.lower() in self._listed or (own != "" and own.lower() == host.lower())


def _is_https(request: web.Request) -> bool:
    """Tell whether the user's side of the router speaks TLS."""
    return (
        request.headers.get("X-Forwarded-Proto", request.scheme).split(",")[0].strip().lower()
        == "https"
    )
