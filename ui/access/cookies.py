"""Signed cookies for voters, invited raters and owners.

A cookie never contains a key. An owner's cookie contains the key's id, so revoking the key signs the owner out.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer
from starlette.requests import Request, cookie_parser

from models.database import Database
from models.errors import ParleyError
from models.keys import active_keys, check_key, keys_configured

OWNER_COOKIE = "parley_owner"
VOTER_COOKIE = "parley_voter"
RATER_COOKIE = "parley_rater"  # the voter of an invite, for one campaign's address alone
OWNER_SECONDS = 7 * 24 * 3600
VOTER_SECONDS = 365 * 24 * 3600
_KEYS_FRESH_S = 0.5


def cookie_attributes(request: Request, path: str, seconds: int) -> dict[str, Any]:
    """The attributes of a cookie: for this path only, hidden from scripts, and only over HTTPS if the page uses it."""
    return {
        "path": path, "max_age": seconds, "httponly": True, "samesite": "lax", "secure": request.url.scheme == "https",
    }  # fmt: skip


class Cookies:
    """Signs and verifies the cookies. A `cookies` argument is a request's whole Cookie header."""

    def __init__(self, secret: str) -> None:
        self._voters = URLSafeSerializer(secret, salt="parley voter")
        self._raters = URLSafeSerializer(secret, salt="parley voter of a campaign")
        self._owners = URLSafeTimedSerializer(secret, salt="parley owner")

    def new_voter(self) -> tuple[str, str]:
        """A new voter's id and the cookie value for it."""
        voter = secrets.token_urlsafe(18)
        return voter, str(self._voters.dumps(voter))

    def voter(self, cookies: str) -> str | None:
        """The voter's id, or None if the cookie is missing or not signed by us."""
        try:
            voter = self._voters.loads(cookie_parser(cookies).get(VOTER_COOKIE, ""))
        except BadData:
            return None
        return voter if isinstance(voter, str) else None

    def rater_value(self, campaign: str, voter: str) -> str:
        """The cookie value for a rater who opened an invite to a campaign."""
        return str(self._raters.dumps([campaign, voter]))

    def rater(self, cookies: str, campaign: str) -> str | None:
        """The voter's id in this campaign, or None if the cookie is missing, not signed by us or for another one."""
        try:
            signed = self._raters.loads(cookie_parser(cookies).get(RATER_COOKIE, ""))
        except BadData:
            return None
        return str(signed[1]) if isinstance(signed, list) and len(signed) == 2 and signed[0] == campaign else None

    def owner_value(self, key_id: str) -> str:
        """The cookie value for an owner who signed in with this key."""
        return str(self._owners.dumps(key_id))

    def owner_key_id(self, cookies: str) -> str | None:
        """The id of the key used to sign in, or None if the cookie is missing, forged or expired."""
        try:
            key_id = self._owners.loads(cookie_parser(cookies).get(OWNER_COOKIE, ""), max_age=OWNER_SECONDS)
        except BadData:
            return None
        return key_id if isinstance(key_id, str) else None


class Keyring:
    """The valid keys, read from the database at most twice a second."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._read_at = float("-inf")
        self._needed: bool | None = None
        self._owners: dict[str, str] = {}

    def needed(self) -> bool:
        """Whether any key exists. Without keys the page is open, and listens on loopback only.

        While the database does not answer, it is what was known last.

        Raises:
            ParleyError: the database has not answered yet.
        """
        try:
            self._refresh()
        except ParleyError:
            if self._needed is None:
                raise
        return bool(self._needed)

    def is_owner(self, key_id: str | None) -> bool:
        """Whether this is the id of a valid owner's key. Raises ParleyError: a key may have been revoked since."""
        self._refresh()
        return key_id in self._owners

    def owner_name(self, key_id: str | None) -> str | None:
        """The name of the valid owner's key with this id, or None."""
        self._refresh()
        return self._owners.get(key_id or "")

    def owner_key(self, secret: str) -> str | None:
        """The id of the owner's key with this secret, or None."""
        key = check_key(self._database, secret)
        self._read_at = float("-inf")  # a key created a moment ago is not in the cache
        return key.id if key is not None and key.role == "owner" else None

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._read_at < _KEYS_FRESH_S:
            return
        self._needed = keys_configured(self._database)
        keys = active_keys(self._database).values()
        self._owners = {key.id: key.name for key in keys if key.role == "owner"}
        self._read_at = now
