"""Invite links: `/vote/i/TOKEN` for a person or a group, and `/vote/r/TOKEN`, a rater's own link for another device.

Each sets the voter's cookie for the campaign's address and goes there, so that the token leaves the address bar.
Managers and viewers use `/vote/i/TOKEN` too, and get a cookie for their campaign's management or report.
"""

import asyncio
from collections.abc import Mapping
from html import escape

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from evals.campaigns.campaign import Campaign
from evals.campaigns.invites import Invite, invite_of
from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.raters import Rater, join_by_invite, load_rater, rater_of
from models.errors import Conflict, Forbidden, Invalid, NotFound, ParleyError
from ui.access.cookies import RATER_COOKIE, VOTER_SECONDS, Cookies, cookie_attributes
from ui.access.roles import CAMPAIGN_ROOT, ROLE_COOKIE, ROLE_SECONDS, CampaignRoles
from ui.backend.context import PageContext
from ui.look.static_page import static_page
from ui.raters.limits import RateLimit
from ui.raters.texts import load_texts

# Requests from one address, which a whole team may share. Tokens are signed, so this only limits the load.
_TRIES_PER_MINUTE = 600


class RaterLinks:
    """The ASGI app behind the two kinds of links."""

    def __init__(self, context: PageContext, cookies: Cookies, roles: CampaignRoles, secret: str) -> None:
        self._context = context
        self._cookies = cookies
        self._roles = roles
        self._secret = secret
        self._limit = RateLimit(_TRIES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await (await self._respond(request))(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        kind, token = request.url.path.removeprefix("/vote/").split("/", 1)
        if request.method not in ("GET", "HEAD", "POST"):
            return Response(status_code=405)
        if not self._limit.allows(request.client.host if request.client else ""):
            return self._message(self._texts("en")["error_too_fast"], 429)
        try:
            if kind == "r":
                rater = await asyncio.to_thread(rater_of, self._context.database, self._secret, token)
                return self._to_campaign(request, rater)
            invite = await asyncio.to_thread(invite_of, self._context.database, self._secret, token)
            campaign = await asyncio.to_thread(load_campaign, self._context.database, invite.campaign)
        except (NotFound, Forbidden) as error:
            key = error.code if error.code in ("expired", "revoked") else "unknown"
            return self._message(self._texts("en")[f"invite_{key}"], error.status)
        if invite.role != "rater":
            return self._to_owner_side(request, invite)
        return await self._join(request, invite, campaign)

    async def _join(self, request: Request, invite: Invite, campaign: Campaign) -> Response:
        texts, database = self._texts(campaign.language), self._context.database
        known = self._cookies.rater(request.headers.get("cookie", ""), invite.campaign)
        if known is not None:
            rater = await asyncio.to_thread(load_rater, database, invite.campaign, known)
            if rater is not None and rater.invite_id == invite.id:
                return self._to_campaign(request, rater)
        name = None
        if invite.is_group:
            if request.method != "POST":
                return self._name_form(campaign, texts)
            async with request.form(max_files=0, max_fields=2, max_part_size=4096) as form:
                name = str(form.get("name", ""))
        try:
            rater = await asyncio.to_thread(join_by_invite, database, invite, name)
        except Invalid:
            return self._name_form(campaign, texts, texts["invite_no_name"], 400)
        except Conflict:
            return self._name_form(campaign, texts, texts["invite_name_taken"], 409)
        except ParleyError as error:
            return self._message(texts["invite_unknown"], error.status)
        return self._to_campaign(request, rater)

    def _to_campaign(self, request: Request, rater: Rater) -> Response:
        root = f"/vote/c/{rater.campaign}"
        response = RedirectResponse(f"{root}/", status_code=303)
        # Also for the link's own address, so that a group's link does not ask for a name twice.
        for path in (root, request.url.path):
            cookie = self._cookies.rater_value(rater.campaign, rater.voter)
            response.set_cookie(RATER_COOKIE, cookie, **cookie_attributes(request, path, VOTER_SECONDS))
        return response

    def _to_owner_side(self, request: Request, invite: Invite) -> Response:
        """Redirects to the campaign's management or to its report."""
        root = f"{CAMPAIGN_ROOT}{invite.campaign}"
        response = RedirectResponse(f"{root}/" if invite.role == "manager" else f"{root}/report", status_code=303)
        response.set_cookie(ROLE_COOKIE, self._roles.value(invite), **cookie_attributes(request, root, ROLE_SECONDS))
        return response

    def _name_form(self, campaign: Campaign, texts: Mapping[str, str], wrong: str = "", status: int = 200) -> Response:
        note = f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""
        body = f"""
          <h1>{escape(campaign.title)}</h1>
          <p>{escape(campaign.question)}</p>
          <form method="post">
            <label for="name">{escape(texts["invite_name"])}</label>
            <input id="name" name="name" maxlength="80" autocomplete="name" required autofocus
              aria-describedby="why">
            {note}
            <p class="fine" id="why">{escape(texts["invite_name_why"])}</p>
            <button type="submit">{escape(texts["invite_join"])}</button>
          </form>"""
        return static_page(campaign.title, body, status, campaign.language)

    def _message(self, text: str, status: int) -> Response:
        return static_page("Invite", f"<h1>Parley</h1><p role='alert'>{escape(text)}</p>", status)

    def _texts(self, language: str) -> Mapping[str, str]:
        return load_texts(language, self._context.settings.home)
