"""Managers and viewers of one campaign: they come by an invite link, and a signed cookie holds the invite's id."""

import time
from collections.abc import Callable

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import cookie_parser

from evals.campaigns.invites import Invite, Role, list_invites
from models.database import Database

ROLE_COOKIE = "parley_role"
ROLE_SECONDS = 90 * 24 * 3600
CAMPAIGN_ROOT = "/campaigns/c/"  # the address of one campaign for its managers and viewers
_FRESH_S = 2.0
_MOST = 1_000


class CampaignRoles:
    """The managers and viewers of campaigns. Invites are read again after two seconds, so revocation is quick."""

    def __init__(self, secret: str, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._signer = URLSafeSerializer(secret, salt="parley role")
        self._database = database
        self._clock = clock
        self._known: dict[str, tuple[float, Role | None]] = {}

    def value(self, invite: Invite) -> str:
        """The cookie value for the holder of this invite."""
        return str(self._signer.dumps([invite.campaign, invite.id]))

    def role(self, cookies: str, campaign: str) -> Role | None:
        """The role in this campaign by a valid invite; None without one, or for raters."""
        try:
            signed = self._signer.loads(cookie_parser(cookies).get(ROLE_COOKIE, ""))
        except BadData:
            return None
        if not isinstance(signed, list) or len(signed) != 2 or signed[0] != campaign:
            return None
        invite_id = str(signed[1])
        at, role = self._known.get(invite_id, (float("-inf"), None))
        if self._clock() - at > _FRESH_S:
            invites = list_invites(self._database, campaign)
            role = next((each.role for each in invites if each.id == invite_id and each.valid), None)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[invite_id] = (self._clock(), role)
        return role if role in ("manager", "viewer") else None
