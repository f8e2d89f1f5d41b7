"""The signing secret and the cookies: one secret a home, no forgeries, and the two kinds are not interchangeable."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from models.database import Database
from models.errors import ParleyError
from models.home.page_secret import page_secret
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.settings import Settings
from ui.access.cookies import OWNER_COOKIE, VOTER_COOKIE, Cookies, Keyring
from ui.access.roles import CampaignRoles
from ui.access.router import Identity, Router


def test_concurrent_calls_get_one_secret(home: Path):
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(page_secret, [home] * 64))
    assert len(secrets) == 1
    assert (home / "page-secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == ["page-secret"]


def test_a_damaged_secret_is_an_error(home: Path):
    home.mkdir()
    (home / "page-secret").write_text("")
    with pytest.raises(ParleyError, match="damaged"):
        page_secret(home)


def test_cookies_are_read_back_and_forgeries_are_not():
    ours, theirs = Cookies("a" * 40), Cookies("b" * 40)
    voter, value = ours.new_voter()
    assert ours.voter(f"x=1; {VOTER_COOKIE}={value}") == voter
    assert theirs.voter(f"{VOTER_COOKIE}={value}") is None
    assert ours.voter("") is None
    assert ours.owner_key_id(f"{OWNER_COOKIE}={ours.owner_value('01KEY')}") == "01KEY"
    assert ours.owner_key_id(f"{OWNER_COOKIE}={value}") is None
    assert ours.owner_key_id(f"{OWNER_COOKIE}={theirs.owner_value('01KEY')}") is None


def test_a_session_is_valid_at_another_hosts_page(home: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    cookies = Cookies(page_secret(home))
    (other / "page-secret").symlink_to(home / "page-secret")
    assert Cookies(page_secret(other)).owner_key_id(f"{OWNER_COOKIE}={cookies.owner_value('key')}") == "key"


def test_without_the_database_the_page_lives_and_says_what_is_wrong(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ui.access.cookies._KEYS_FRESH_S", 0.0)
    create_key(database, name="boss", role="owner")
    cookies = Cookies("a" * 40)
    identity = Identity(cookies, Keyring(database), CampaignRoles("a" * 40, database))
    router = Router(apps=cast(Any, None), identity=identity, registry=Registry(database))
    page = TestClient(router, follow_redirects=False, base_url="http://127.0.0.1")
    assert page.get("/").status_code == 401
    database.dispose()
    (settings.home / "parley.db").rename(tmp_path / "away.db")
    assert page.get("/health").status_code == 200
    for address in ("/", "/config", "/campaigns/c/any/", "/bot/any/"):
        answer = page.get(address)
        assert answer.status_code == 503
        assert "The database does not answer" in answer.text
        assert "content-security-policy" in answer.headers
    database.dispose()
    (settings.home / "parley.db").unlink()
    (tmp_path / "away.db").rename(settings.home / "parley.db")
    assert page.get("/").status_code == 401
