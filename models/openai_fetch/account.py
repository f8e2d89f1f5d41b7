"""The account to fetch from, and the errors of a fetch."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Record = dict[str, Any]
OPENAI = "https://api.openai.com/v1"
_SENDABLE = re.compile(r"[\x21-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")
_LONGEST = 200


class Stop(Exception):
    """An error that ends the fetch, in one line."""


class Refusal(Exception):
    """A request without a result: its HTTP status, 0 without an answer.

    `again` is whether a repetition may help, `wait` the seconds before it that the server asks for.
    """

    def __init__(self, message: str, status: int = 0, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.status, self.again, self.wait = status, again, wait

    def state(self, item: Record) -> str:
        """The state of the object that was requested, one of `kinds.STATES`."""
        expires = item.get("expires_at")
        if self.status in (404, 410):
            over = isinstance(expires, (int, float)) and 0 < expires < time.time()
            return "expired" if over or "expired" in str(self) else "missing"
        refused = self.status in (401, 403) or (self.status == 400 and "not allowed" in str(self).lower())
        return "forbidden" if refused else "failed"


@dataclass(frozen=True)
class Account:
    """An account: its key, its API's address, which ends in /v1, and a file of certificates to trust."""

    key: str = field(repr=False)
    base_url: str = OPENAI
    organization: str = ""
    project: str = ""
    ca_bundle: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers of each request.

        Raises:
            Stop: there is no key, or a value cannot be sent.
        """
        if not self.key:
            raise Stop("There is no key: set OPENAI_API_KEY, or name a file that holds it with --key-file.")
        own = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        if not all(_SENDABLE.fullmatch(value) for value in (self.key, *own.values())):
            raise Stop("The key, the organization or the project contains a space or a character that is not ASCII.")
        if not _is_address(self.base_url):
            raise Stop(f"OPENAI_BASE_URL must be an address such as {OPENAI}, without a user name or a query.")
        agent = {"Authorization": f"Bearer {self.key}", "Accept-Encoding": "identity", "User-Agent": "parley-fetch"}
        return {**agent, **{name: value for name, value in own.items() if value}}


def environment_account(key: str | None = None) -> Account:
    """The account that the variables of OpenAI's SDK name. `key` replaces OPENAI_API_KEY."""
    read = os.environ.get
    return Account(
        key=(read("OPENAI_API_KEY", "") if key is None else key).strip(),
        base_url=(read("OPENAI_BASE_URL") or OPENAI).strip(),
        organization=read("OPENAI_ORG_ID", "").strip(),
        project=read("OPENAI_PROJECT_ID", "").strip(),
        # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR itself.
        ca_bundle=read("REQUESTS_CA_BUNDLE") or read("CURL_CA_BUNDLE"),
    )


def printable(text: object, longest: int = _LONGEST) -> str:
    """A text on one line without control characters, for a terminal, at most `longest` characters."""
    whole = str(text).encode("utf-8", "replace").decode()  # a half of a surrogate pair cannot be printed
    line = " ".join(_CONTROL.sub(" ", whole).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        return False
    return bool(known) and _SENDABLE.fullmatch(text) is not None and not {"@", "?", "#"} & set(text)
