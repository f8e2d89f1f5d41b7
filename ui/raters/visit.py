"""The sender of a request: the campaign, the voter and the address that `ui.access.router` read from it."""

from dataclasses import dataclass

from starlette.types import Scope

from evals.campaigns.campaign import OPEN


@dataclass(frozen=True)
class Visit:
    """A rater's request. `voter`: from the signed cookie, None without one. `root`: the address of the campaign."""

    campaign: str
    voter: str | None
    address: str
    root: str


def visit_of(scope: Scope) -> Visit:
    """The visit in a request's scope; nothing of it comes from the request's body."""
    client = scope.get("client")
    return Visit(
        scope.get("parley_campaign", OPEN),
        scope.get("parley_voter"),
        client[0] if client else "",
        scope.get("parley_root", "/vote"),
    )
