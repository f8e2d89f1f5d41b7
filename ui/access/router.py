"""Who may reach what: the addresses of the page, the owners' key, the voter's cookie, and what every response says.

It decides from a request alone, and knows nothing of what the apps behind it show.
"""

import asyncio
import re
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import NotFound
from models.registry import Registry
from ui.access.cookies import VOTER_COOKIE, VOTER_SECONDS, Cookies, Keyring
from ui.access.login import Login
from ui.backend.uploads import KEEP
from ui.look.static_page import plain_page
from ui.owners.data.tab import CHECK

# All that Gradio's own page asks for. It has many more routes (files, proxies, uploads, deep links, monitoring,
# its API); nothing here needs them, so they do not exist.
_GRADIO = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/assets/[\w./-]+|/static/[\w./-]+|/svelte/[\w./-]+"
    r"|/gradio_api/(queue/(join|data)|heartbeat/\w+|startup-events|cancel|reset|app_id|theme\.css)/?"
)
_HEADERS = {
    # Everything is served from here; an answer that holds an image's address must not make the browser fetch it.
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; connect-src 'self' data: blob:; font-src 'self' data:; "
        "worker-src 'self' blob:; media-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@dataclass(frozen=True)
class Apps:
    """The three Gradio servers, what checks an owner's training data, and what keeps it."""

    owners: ASGIApp
    vote: ASGIApp
    bot: ASGIApp
    data: ASGIApp
    files: ASGIApp


class Doors:
    """The ASGI app in front of the three. Every request passes here, and only here."""

    def __init__(self, apps: Apps, cookies: Cookies, keyring: Keyring, registry: Registry) -> None:
        self._apps = apps
        self._cookies = cookies
        self._keyring = keyring
        self._registry = registry
        self._login = Login(cookies, keyring)
        self._mark = files("ui.look").joinpath("mark.svg").read_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websockets here; the lifespan is the outer app's

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # The outer app mounts this at the root and says so in root_path; each app below gets its own.
        scope = {**scope, "root_path": ""}
        await self._open(scope, receive, dressed)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        refusal = self._foreign(scope["method"], headers) or await asyncio.to_thread(self._rebound, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif path == "/health":
            await PlainTextResponse("ok")(scope, receive, send)
        elif path in ("/brand/mark.svg", "/favicon.ico", "/vote/favicon.ico"):
            await Response(self._mark, media_type="image/svg+xml", headers={"cache-control": "max-age=3600"})(
                scope, receive, send
            )
        elif path in ("/login", "/logout"):
            await (await self._login.answer(Request(scope, receive)))(scope, receive, send)
        elif path == "/vote":
            await RedirectResponse("/vote/", status_code=307)(scope, receive, send)
        elif path.startswith("/vote/"):
            await self._vote(scope, receive, send)
        elif path == "/bot" or path.startswith("/bot/"):
            await self._bot(scope, receive, send)
        else:
            await self._owners(scope, receive, send)

    async def _owners(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key_id = self._cookies.owner_key_id(headers.get("cookie", ""))
        if not await asyncio.to_thread(self._may_own, key_id):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                answer: Response = RedirectResponse(f"/login?after={quote(scope['path'])}", status_code=303)
            else:
                answer = PlainTextResponse("This needs an owner key: sign in at /login.", status_code=401)
            await answer(scope, receive, send)
        elif scope["path"] == CHECK:
            await self._apps.data(scope, receive, send)
        elif scope["path"] == KEEP:
            await self._apps.files(scope, receive, send)
        elif _GRADIO.fullmatch(scope["path"]):
            await self._apps.owners(scope, receive, send)
        else:
            await _nowhere()(scope, receive, send)

    def _may_own(self, key_id: str | None) -> bool:
        return not self._keyring.needed() or self._keyring.is_owner(key_id)

    async def _vote(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _GRADIO.fullmatch(scope["path"].removeprefix("/vote")):
            await _nowhere()(scope, receive, send)
            return
        voter = self._cookies.voter(Headers(scope=scope).get("cookie", ""))
        value: str | None = None
        if voter is None and scope["path"] == "/vote/":
            voter, value = self._cookies.new_voter()

        async def with_cookie(message: Message) -> None:
            if value is not None and message["type"] == "http.response.start":
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                MutableHeaders(scope=message).append(
                    "set-cookie",
                    f"{VOTER_COOKIE}={value}; HttpOnly; Max-Age={VOTER_SECONDS}; Path=/vote; SameSite=lax{secure}",
                )
            await send(message)

        await self._apps.vote({**scope, "root_path": "/vote", "parley_voter": voter}, receive, with_cookie)

    async def _bot(self, scope: Scope, receive: Receive, send: Send) -> None:
        rest = scope["path"].removeprefix("/bot").removeprefix("/")
        for name, inner in _splits(rest):
            if not _GRADIO.fullmatch(inner or "/"):
                continue
            try:
                spec = await asyncio.to_thread(self._registry.resolve, name)
            except NotFound:
                continue
            root = f"/bot/{name}"
            if not inner:
                await RedirectResponse(f"{quote(root)}/", status_code=307)(scope, receive, send)
            else:
                await self._apps.bot({**scope, "root_path": root, "parley_bot": spec.id}, receive, send)
            return
        page = plain_page(
            "No such bot",
            "<h1>No such bot</h1><p>No model of that name is served here. It may have been renamed or retired; "
            "ask whoever gave you the link.</p>",
            status=404,
        )
        await page(scope, receive, send)

    @staticmethod
    def _foreign(method: str, headers: Headers) -> Response | None:
        """A refusal where another site's page sends the request, else None. Cookies alone would let it in."""
        origin = headers.get("origin")
        if method in ("GET", "HEAD") or not origin:
            return None
        expected = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[0].strip()
        if urlsplit(origin).netloc == expected:
            return None
        return PlainTextResponse("This request comes from another site.", status_code=403)

    def _rebound(self, headers: Headers) -> Response | None:
        """Without keys the page trusts loopback, so a name that an attacker points at loopback is refused."""
        if self._keyring.needed() or is_loopback(headers.get("host", "")):
            return None
        return PlainTextResponse(
            "Without keys this page answers to localhost only. Make one with `parley keys create NAME --role owner`.",
            status_code=421,
        )


def _splits(rest: str) -> list[tuple[str, str]]:
    """Every way to read `<model>[/<address inside>]`, the longest model first: an id may hold slashes."""
    cuts = [index for index, letter in enumerate(rest) if letter == "/"]
    readings = [(rest, "")] if rest and not rest.endswith("/") else []
    return readings + [(rest[:cut], rest[cut:]) for cut in reversed(cuts) if cut > 0]


def is_loopback(host: str) -> bool:
    """Whether a Host header or an address to listen on means this machine alone."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _nowhere() -> Response:
    return plain_page("Not here", "<h1>Not here</h1><p>There is no such page.</p>", status=404)
