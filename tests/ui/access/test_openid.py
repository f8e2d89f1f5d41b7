"""Sign-in with OpenID Connect against a fake provider on a real socket: managers and viewers, and nobody else."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.invites import NewInvite, create_invite, revoke_invite
from evals.campaigns.lifecycle import create_campaign, list_campaigns
from evals.votes.prompts import add_prompts
from models.database import Database
from models.errors import Invalid
from tests.ui.conftest import NAMES, Keyed
from tests.ui.openid_provider import Provider, serving_provider
from ui.access.openid import OpenIdSignIn
from ui.access.roles import CampaignRoles

ANN = {"email": "Ann@example.com", "email_verified": True}


@pytest.fixture
def provider(keyed_page: Keyed) -> Iterator[Provider]:
    """The provider in the page's settings, where everybody is Ann."""
    with serving_provider(urlsplit(keyed_page.page.settings.oidc_issuer or "").port or 0) as provider:
        provider.claims = dict(ANN)
        yield provider


@pytest.fixture
def campaigns(keyed_page: Keyed) -> Database:
    """Two campaigns of the page."""
    database = keyed_page.page.database
    add_prompts(database, [{"prompt": "Where is my order?"}], "test")
    for name in ("first", "second"):
        if name not in {each.name for each in list_campaigns(database)}:
            create_campaign(database, NewCampaign(name, NAMES[:2], PromptSource(stored="all")), Path())
    return database


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def come_back(begun: Any) -> str:
    """Follows the redirect to the provider over HTTP; returns the target of its redirect, without the host."""
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.build_opener(_Stay).open(begun.headers["location"], timeout=10)
    assert answer.value.code == 302
    back = urlsplit(answer.value.headers["location"])
    return f"{back.path}?{back.query}"


def sign_in(client: TestClient) -> Any:
    return client.get(come_back(client.get("/login/oidc")))


@pytest.mark.long
def test_a_manager_signs_in_with_a_verified_address(keyed_page: Keyed, provider: Provider, campaigns: Database):
    invite = create_invite(campaigns, NewInvite("first", "ann@example.com", "manager"))
    client = keyed_page.page.browser()
    assert "/login/oidc" in client.get("/login").text
    answer = sign_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/campaigns/c/first/")
    assert client.get("/campaigns/c/first/").status_code == 200
    assert client.get("/campaigns/c/second/").status_code == 403
    assert client.get("/config").status_code == 401
    viewed = create_invite(campaigns, NewInvite("second", "ANN@example.com", "viewer"))
    several = sign_in(keyed_page.page.browser())
    assert "/campaigns/c/first/'" in several.text
    assert "/campaigns/c/second/report'" in several.text
    for each in (invite, viewed):
        revoke_invite(campaigns, each.id)
    assert sign_in(keyed_page.page.browser()).status_code == 403


@pytest.mark.long
@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email": None},
        {"email": "ben@example.com"},
        {"iss": "https://other.example.com"},
        {"aud": "another-page"},
        {"nonce": "replayed"},
        {"exp": 1_000_000_000},
    ],
)
def test_uninvited_addresses_are_refused(
    keyed_page: Keyed, provider: Provider, campaigns: Database, claims: dict[str, Any]
):
    invite = create_invite(campaigns, NewInvite("first", "ann@example.com", "manager"))
    assert sign_in(keyed_page.page.browser()).status_code == 303
    provider.claims |= claims
    client = keyed_page.page.browser()
    assert sign_in(client).status_code == 403
    assert client.get("/campaigns/c/first/").status_code == 403
    revoke_invite(campaigns, invite.id)


@pytest.mark.long
def test_a_foreign_key_a_forged_state_and_a_replay_are_refused(
    keyed_page: Keyed, provider: Provider, campaigns: Database
):
    invite = create_invite(campaigns, NewInvite("first", "ann@example.com", "manager"))
    client = keyed_page.page.browser()
    back = come_back(client.get("/login/oidc"))
    assert keyed_page.page.browser().get(back).status_code == 403  # another browser
    assert client.get(back.replace("state=", "state=x")).status_code == 403
    assert client.get("/login/oidc/back?error=access_denied").status_code == 403
    assert client.get(back).status_code == 303
    assert client.get(back).status_code == 403
    provider.key = RSAKey.generate_key(2048, {"kid": provider.kid})
    assert sign_in(keyed_page.page.browser()).status_code == 403
    revoke_invite(campaigns, invite.id)


@pytest.mark.long
def test_a_rater_gets_no_role(keyed_page: Keyed, provider: Provider, campaigns: Database):
    create_invite(campaigns, NewInvite("first", "ann@example.com", "rater"))
    assert sign_in(keyed_page.page.browser()).status_code == 403


def test_a_provider_that_is_down_is_one_line(keyed_page: Keyed, campaigns: Database):
    settings = keyed_page.page.settings
    app = OpenIdSignIn(settings, campaigns, CampaignRoles("secret", campaigns), "secret")
    answer = TestClient(app, follow_redirects=False).get("/login/oidc")
    assert answer.status_code == 502
    assert "is not available" in answer.text
    with pytest.raises(Invalid, match="needs oidc_client_id"):
        OpenIdSignIn(
            settings.model_copy(update={"oidc_client_id": None}), campaigns, CampaignRoles("s", campaigns), "secret"
        )
    without = settings.model_copy(update={"oidc_issuer": None})
    closed = OpenIdSignIn(without, campaigns, CampaignRoles("secret", campaigns), "secret")
    assert TestClient(closed).get("/login/oidc").status_code == 404
