"""The ASGI app in front of the page: which addresses exist, who may open them, and the headers of every response.

It decides from the request alone and does not depend on the apps behind it.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evals.campaigns.campaign import OPEN
from models.errors import NotFound, Unavailable
from models.registry.registry import Registry
from ui.access.cookies import VOTER_COOKIE, VOTER_SECONDS, Cookies, Keyring
from ui.access.login import Login
from ui.access.openid import OPENID_PATH, OPENID_PATHS
from ui.access.origins import is_cross_site, is_loopback
from ui.access.roles import CAMPAIGN_ROOT, CampaignRoles
from ui.look.static_page import static_page

# The only routes that Gradio's own page requests. Gradio has many more (files, proxies, uploads, deep links,
# monitoring, its API); none of them is reachable here.
_GRADIO_ROUTES = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/assets/[\w./-]+|/static/[\w./-]+|/svelte/[\w./-]+"
    r"|/gradio_api/(queue/(join|data)|heartbeat/\w+|startup-events|cancel|reset|app_id|theme\.css)/?"
)
# The raters' page uses plain routes and not the event queue, so nothing can be sent to Gradio there.
_RATER_ROUTES = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/assets/[\w./-]+|/static/[\w./-]+|/svelte/[\w./-]+"
    r"|/gradio_api/(heartbeat/\w+|startup-events|app_id|theme\.css)/?"
)
_CAMPAIGN_PATH = re.compile(r"/vote/c/([a-z0-9-]{1,64})(/.*)?")
_log = logging.getLogger("parley.page")
_LOGO = "/logo"  # below a bot's path
_HEADERS = {
    # All content comes from this server; a model's answer with an image address must not make the browser fetch it.
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
    """The Gradio servers, and the endpoints beside them; those that owners may call, by path."""

    owners: ASGIApp
    vote: ASGIApp
    vote_api: ASGIApp
    vote_links: ASGIApp
    bot: ASGIApp
    bot_logo: ASGIApp
    manager: ASGIApp
    report: ASGIApp
    export: ASGIApp
    openid: ASGIApp
    owner_endpoints: Mapping[str, ASGIApp]


@dataclass(frozen=True)
class Identity:
    """Where the router finds out who asks: signed cookies, keys, and the roles of invites.

    `openid`: an OpenID Connect provider is configured.
    """

    cookies: Cookies
    keyring: Keyring
    roles: CampaignRoles
    openid: bool = False


class Router:
    """The ASGI app in front of the apps. Every request passes through it."""

    def __init__(self, apps: Apps, identity: Identity, registry: Registry) -> None:
        self._apps = apps
        self._cookies = cookies = identity.cookies
        self._keyring = keyring = identity.keyring
        self._roles = identity.roles
        self._registry = registry
        self._login = Login(cookies, keyring, openid=identity.openid)
        self._sign_in = f"<p><a href='{OPENID_PATH}'>Sign in with your organization</a></p>" if identity.openid else ""
        self._mark = files("ui.look").joinpath("mark.svg").read_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websockets here; the lifespan is the outer app's

        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # The outer app mounts this at the root and sets root_path; each app below gets its own.
        scope = {**scope, "root_path": ""}
        try:
            await self._route(scope, receive, send_with_headers)
        except Unavailable as error:
            if started:
                raise
            _log.warning("%s cannot be answered: %s", scope["path"], error)
            await _unavailable()(scope, receive, send_with_headers)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        if is_cross_site(scope["method"], headers):
            refusal = PlainTextResponse("This request comes from another site.", status_code=403)
            await refusal(scope, receive, send)
        elif (refusal := await asyncio.to_thread(self._refuse_rebinding, headers)) is not None:
            await refusal(scope, receive, send)
        elif path == "/health":
            await PlainTextResponse("ok")(scope, receive, send)
        elif path in ("/brand/mark.svg", "/favicon.ico", "/vote/favicon.ico"):
            await Response(self._mark, media_type="image/svg+xml", headers={"cache-control": "max-age=3600"})(
                scope, receive, send
            )
        elif path in ("/login", "/logout"):
            await (await self._login.respond(Request(scope, receive)))(scope, receive, send)
        elif path in OPENID_PATHS:
            await self._apps.openid(scope, receive, send)
        elif path == "/vote":
            await RedirectResponse("/vote/", status_code=307)(scope, receive, send)
        elif path.startswith("/vote/"):
            await self._vote(scope, receive, send)
        elif path.startswith(CAMPAIGN_ROOT):
            await self._campaign(scope, receive, send)
        elif path == "/bot" or path.startswith("/bot/"):
            await self._bot(scope, receive, send)
        else:
            await self._owners(scope, receive, send)

    async def _owners(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key_id = self._cookies.owner_key_id(headers.get("cookie", ""))
        if not await asyncio.to_thread(self._is_owner, key_id):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                response: Response = RedirectResponse(f"/login?after={quote(scope['path'])}", status_code=303)
            else:
                response = PlainTextResponse("This needs an owner's key. Sign in at /login.", status_code=401)
            await response(scope, receive, send)
        elif (endpoint := self._apps.owner_endpoints.get(scope["path"])) is not None:
            await endpoint(scope, receive, send)
        elif _GRADIO_ROUTES.fullmatch(scope["path"]):
            await self._apps.owners(scope, receive, send)
        else:
            await _not_found()(scope, receive, send)

    def _is_owner(self, key_id: str | None) -> bool:
        return not self._keyring.needed() or self._keyring.is_owner(key_id)

    async def _vote(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, campaign, root = scope["path"], OPEN, "/vote"
        if path.startswith(("/vote/i/", "/vote/r/")):
            await self._apps.vote_links(scope, receive, send)
            return
        if match := _CAMPAIGN_PATH.fullmatch(path):
            campaign, root = match[1], f"/vote/c/{match[1]}"
            if match[2] is None:
                await RedirectResponse(f"{root}/", status_code=307)(scope, receive, send)
                return
        inner = path.removeprefix(root)
        is_api = inner.startswith("/api/")
        if not is_api and not _RATER_ROUTES.fullmatch(inner):
            await _not_found()(scope, receive, send)
            return
        cookies = Headers(scope=scope).get("cookie", "")
        voter = self._cookies.rater(cookies, campaign) or self._cookies.voter(cookies)
        value: str | None = None
        if voter is None and inner == "/":
            voter, value = self._cookies.new_voter()
        scope = {**scope, "parley_voter": voter, "parley_campaign": campaign, "parley_root": root}
        if is_api:
            await self._apps.vote_api(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if value is not None and message["type"] == "http.response.start":
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                MutableHeaders(scope=message).append(
                    "set-cookie",
                    f"{VOTER_COOKIE}={value}; HttpOnly; Max-Age={VOTER_SECONDS}; Path=/vote; SameSite=lax{secure}",
                )
            await send(message)

        await self._apps.vote({**scope, "root_path": root}, receive, with_cookie)

    async def _campaign(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One campaign for its manager, its viewer, or an owner."""
        name, slash, inner = scope["path"].removeprefix(CAMPAIGN_ROOT).partition("/")
        cookies = Headers(scope=scope).get("cookie", "")
        role = await asyncio.to_thread(self._roles.role, cookies, name)
        if role is None and await asyncio.to_thread(self._is_owner, self._cookies.owner_key_id(cookies)):
            role = "manager"
        root = f"{CAMPAIGN_ROOT}{name}"
        scope = {**scope, "parley_campaign": name, "parley_managed": name}
        if role is None:
            page = static_page(
                "Invite",
                "<h1>You need an invite</h1><p>Open the link that you were sent, or ask for a new one.</p>"
                f"{self._sign_in}",
                403,
            )
            await page(scope, receive, send)
        elif inner == "report":
            await self._apps.report(scope, receive, send)
        elif role == "manager" and inner == "export":
            await self._apps.export(scope, receive, send)
        elif role == "manager" and not slash:
            await RedirectResponse(f"{root}/", status_code=307)(scope, receive, send)
        elif role == "manager" and _GRADIO_ROUTES.fullmatch(f"/{inner}"):
            await self._apps.manager({**scope, "root_path": root}, receive, send)
        else:
            await _not_found()(scope, receive, send)

    async def _bot(self, scope: Scope, receive: Receive, send: Send) -> None:
        rest = scope["path"].removeprefix("/bot").removeprefix("/")
        for name, inner in _split_bot_path(rest):
            if inner != _LOGO and not _GRADIO_ROUTES.fullmatch(inner or "/"):
                continue
            try:
                spec = await asyncio.to_thread(self._registry.resolve, name)
            except NotFound:
                continue
            root = f"/bot/{name}"
            if not inner:
                await RedirectResponse(f"{quote(root)}/", status_code=307)(scope, receive, send)
            elif inner == _LOGO:
                await self._apps.bot_logo({**scope, "parley_bot": spec.id}, receive, send)
            else:
                await self._apps.bot({**scope, "root_path": root, "parley_bot": spec.id}, receive, send)
            return
        page = static_page(
            "No such bot",
            "<h1>No such bot</h1><p>No model with this name is served here. It may have been renamed or retired. "
            "Ask the person who gave you the link.</p>",
            status=404,
        )
        await page(scope, receive, send)

    def _refuse_rebinding(self, headers: Headers) -> Response | None:
        """Without keys the page trusts loopback, so it refuses a foreign name that resolves to loopback."""
        if self._keyring.needed() or is_loopback(headers.get("host", "")):
            return None
        return PlainTextResponse(
            "Without keys this page answers only at localhost. Create a key: `parley keys create NAME --role owner`.",
            status_code=421,
        )


def _split_bot_path(rest: str) -> list[tuple[str, str]]:
    """Every reading of `<model>[/<path inside>]`, the longest model first, because an id may contain slashes."""
    cuts = [index for index, letter in enumerate(rest) if letter == "/"]
    whole = [(rest, "")] if rest and not rest.endswith("/") else []
    return whole + [(rest[:cut], rest[cut:]) for cut in reversed(cuts) if cut > 0]


def _unavailable() -> Response:
    return static_page(
        "Not available",
        "<h1>The database does not answer</h1><p>Nothing is lost. Reload this page in a moment.</p>",
        status=503,
    )


def _not_found() -> Response:
    return static_page("Page not found", "<h1>Page not found</h1><p>There is no page at this address.</p>", status=404)
