"""Sign-in of managers and viewers with OpenID Connect, if the settings name a provider.

`GET /login/oidc` sends the browser to the provider, which sends it back to `/login/oidc/back`. The person gets the
roles of the manager and viewer invites for their e-mail address, which the provider must have verified. The
browser gets the same cookies as by those invites' links, so a revoked invite ends the access.
"""

import asyncio
import logging
from collections.abc import Sequence
from html import escape
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from evals.campaigns.invites import Invite, personal_invites
from models.database import Database
from models.errors import Invalid
from models.settings.settings import Settings
from ui.access.cookies import cookie_attributes
from ui.access.roles import CAMPAIGN_ROOT, ROLE_COOKIE, ROLE_SECONDS, CampaignRoles
from ui.look.static_page import static_page

OPENID_PATH = "/login/oidc"
_BACK = f"{OPENID_PATH}/back"
OPENID_PATHS = (OPENID_PATH, _BACK)
_COOKIE, _SECONDS = "parley_oidc", 600  # state and nonce of a sign-in that has begun
_TIMEOUT_S = 10.0
_log = logging.getLogger("parley.page")


class OpenIdSignIn:
    """The ASGI app at `/login/oidc`.

    Raises:
        Invalid: the settings name a provider and no client id.
    """

    def __init__(self, settings: Settings, database: Database, roles: CampaignRoles, secret: str) -> None:
        if settings.oidc_issuer and not settings.oidc_client_id:
            raise Invalid("oidc_issuer needs oidc_client_id: set both or neither.", param="oidc_client_id")
        self._settings = settings
        self._database = database
        self._roles = roles
        self._begun = URLSafeTimedSerializer(secret, salt="parley openid connect")
        self._client: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request({**scope, "session": self._session(scope)}, receive)
        if request.method != "GET" or self._settings.oidc_issuer is None:
            response = static_page("Page not found", "<h1>Page not found</h1>", status=404)
        elif request.url.path == _BACK:
            response = await self._back(request)
        else:
            response = await self._begin(request)
        await response(scope, receive, send)

    async def _begin(self, request: Request) -> Response:
        try:
            address = f"{request.url.scheme}://{request.headers['host']}{_BACK}"
            response: Response = await self._provider().authorize_redirect(request, address)
        except Exception as error:  # any failure of the provider's server is one line for the person
            _log.warning("the OpenID Connect provider failed: %s", error)
            return _message("The sign-in provider is not available. Try again later.", 502)
        session = str(self._begun.dumps(request.session))
        response.set_cookie(_COOKIE, session, **cookie_attributes(request, OPENID_PATH, _SECONDS))
        return response

    async def _back(self, request: Request) -> Response:
        try:
            issuer = {"iss": {"essential": True, "value": self._settings.oidc_issuer}}
            token = await self._provider().authorize_access_token(request, claims_options=issuer)
            person = token["userinfo"]
        except Exception as error:  # a forged, late or refused sign-in, or a provider that fails
            _log.warning("a sign-in with OpenID Connect failed: %s", error)
            return _message("The sign-in failed. Start again from the sign-in page.", 403)
        address = str(person.get("email") or "")
        if not address or person.get("email_verified") is not True:
            return _message(
                "The provider did not confirm your e-mail address. Ask the campaign's owner for a link instead.",
                403,
            )
        invites = await asyncio.to_thread(personal_invites, self._database, address, ("manager", "viewer"))
        if not invites:
            return _message(f"Nobody has invited {address} to manage or view a campaign. Ask its owner.", 403)
        return self._signed_in(request, invites)

    def _signed_in(self, request: Request, invites: Sequence[Invite]) -> Response:
        """The cookies of these invites, and the way to their campaigns."""
        # Of two invites to one campaign, a manager's comes last and wins.
        by_campaign = {each.campaign: each for each in sorted(invites, key=lambda each: each.role == "manager")}
        targets = {
            name: f"{CAMPAIGN_ROOT}{name}/{'' if each.role == 'manager' else 'report'}"
            for name, each in sorted(by_campaign.items())
        }
        if len(targets) == 1:
            response: Response = RedirectResponse(next(iter(targets.values())), status_code=303)
        else:
            rows = "".join(f"<li><a href='{target}'>{escape(name)}</a></li>" for name, target in targets.items())
            response = static_page("Your campaigns", f"<h1>Your campaigns</h1><ul>{rows}</ul>")
        for name, each in by_campaign.items():
            attributes = cookie_attributes(request, f"{CAMPAIGN_ROOT}{name}", ROLE_SECONDS)
            response.set_cookie(ROLE_COOKIE, self._roles.value(each), **attributes)
        response.delete_cookie(_COOKIE, path=OPENID_PATH)
        return response

    def _session(self, scope: Scope) -> dict[str, Any]:
        """What `_begin` stored in the browser; empty if it is missing, forged or old."""
        try:
            session = self._begun.loads(Request(scope).cookies.get(_COOKIE, ""), max_age=_SECONDS)
        except BadData:
            return {}
        return session if isinstance(session, dict) else {}

    def _provider(self) -> Any:
        """Authlib's client; it reads the provider's addresses and keys when it first needs them."""
        if self._client is None:
            from authlib.integrations.starlette_client import OAuth

            settings = self._settings
            secret = settings.oidc_client_secret
            self._client = OAuth().register(
                "parley",
                server_metadata_url=f"{(settings.oidc_issuer or '').rstrip('/')}/.well-known/openid-configuration",
                client_id=settings.oidc_client_id,
                client_secret=secret.get_secret_value() if secret else None,
                client_kwargs={
                    "scope": "openid email", "code_challenge_method": "S256", "timeout": _TIMEOUT_S,
                },
            )  # fmt: skip
        return self._client


def _message(text: str, status: int) -> Response:
    return static_page("Sign in", f"<h1>Sign in</h1><p role='alert'>{escape(text)}</p>", status)
