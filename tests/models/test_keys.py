"""Keys: shown once, stored as digests, useless once revoked or expired."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.keys import (
    NO_LIMITS,
    KeyLimits,
    active_keys,
    change_key,
    check_key,
    create_key,
    find_key,
    key_digest,
    keys_configured,
    list_keys,
    parse_expiry,
    revoke_key,
)
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream


def test_a_key_is_valid_until_revoked_and_keys_stay_required(any_database: Database) -> None:
    assert not keys_configured(any_database)
    secret = create_key(any_database, name="page", role="owner")
    key = check_key(any_database, secret)
    assert key is not None
    assert (key.name, key.role) == ("page", "owner")
    assert active_keys(any_database) == {key_digest(secret): key}
    revoke_key(any_database, key.id)
    revoke_key(any_database, key.id)
    assert check_key(any_database, secret) is None
    assert active_keys(any_database) == {}
    assert keys_configured(any_database)
    assert [known.revoked is not None for known in list_keys(any_database)] == [True]


def test_an_expired_key_is_invalid(any_database: Database) -> None:
    secret = create_key(any_database, name="old", role="client", expires=utcnow() - timedelta(seconds=1))
    assert check_key(any_database, secret) is None


def test_the_database_does_not_store_the_secret(database: Database) -> None:
    secret = create_key(database, name="page", role="client")
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM keys")).all()
    assert secret not in str(rows)
    assert secret.removeprefix("pk-") not in str(rows)


@pytest.mark.parametrize(("name", "role"), [("", "client"), ("x" * 65, "client"), ("a\nb", "client"), ("a", "boss")])
def test_a_nameless_key_or_an_unknown_role_is_refused(database: Database, name: str, role: str) -> None:
    with pytest.raises(Invalid):
        create_key(database, name=name, role=role)  # pyrefly: ignore -- wrong on purpose


def test_an_unknown_key_is_invalid(database: Database) -> None:
    create_key(database, name="page", role="client")
    assert check_key(database, "") is None
    assert check_key(database, "pk-guess") is None
    with pytest.raises(NotFound):
        revoke_key(database, "nobody")


@pytest.fixture
def models(any_database: Database) -> Database:
    registry = Registry(any_database)
    upstream = Upstream(base_url="https://api.openai.com/v1", model="m")
    for name in ("org/one", "two", "gone"):
        registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream))
    registry.alias("bot", "org/one")
    registry.retire("gone")
    return any_database


def test_scope_and_limits_are_stored_and_changed(models: Database) -> None:
    limits = KeyLimits(60, 10_000, 10**12, 2.5)
    secret = create_key(models, name="shop", role="client", models=["org/one", "bot", "bot"], limits=limits)
    key = check_key(models, secret)
    assert key is not None
    assert (key.models, key.limits) == (("org/one", "bot"), limits)
    before = Registry(models).revision()
    end = utcnow() + timedelta(days=1)
    changed = change_key(models, key.id, models=None, limits=KeyLimits(daily_usd=1.0), expires=end)
    assert (changed.models, changed.limits, changed.expires) == (None, KeyLimits(daily_usd=1.0), end)
    assert check_key(models, secret) == changed
    assert Registry(models).revision() > before, "the gateway must see it"
    assert change_key(models, key.id, models=None, limits=KeyLimits(), expires=None).limits is NO_LIMITS


def test_a_retired_model_in_the_scope_does_not_block_a_new_limit(models: Database) -> None:
    secret = create_key(models, name="shop", role="client", models=["two"])
    Registry(models).retire("two")
    key = check_key(models, secret)
    assert key is not None
    changed = change_key(models, key.id, models=key.models, limits=KeyLimits(daily_usd=1.0), expires=None)
    assert (changed.models, changed.limits.daily_usd) == (("two",), 1.0)
    with pytest.raises(Invalid, match="nobody"):
        change_key(models, key.id, models=["two", "nobody"], limits=KeyLimits(), expires=None)


@pytest.mark.parametrize("scope", [[], ["nobody"], ["gone"], ["org/one", ""]])
def test_a_scope_needs_existing_models(models: Database, scope: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        create_key(models, name="shop", role="client", models=scope)
    assert refused.value.param == "models"
    assert list_keys(models) == []


def test_an_owner_has_no_scope(models: Database) -> None:
    with pytest.raises(Invalid, match="may use every model"):
        create_key(models, name="me", role="owner", models=["two"])


@pytest.mark.parametrize(
    "limits", [KeyLimits(0), KeyLimits(None, -1), KeyLimits(daily_tokens=2**63), KeyLimits(daily_usd=float("nan"))]
)
def test_a_limit_must_be_positive(database: Database, limits: KeyLimits) -> None:
    with pytest.raises(Invalid, match="above 0"):
        create_key(database, name="shop", role="client", limits=limits)


def test_names_are_unique_among_active_keys(any_database: Database) -> None:
    create_key(any_database, name="shop", role="client")
    with pytest.raises(Conflict, match="already an active key"):
        create_key(any_database, name="shop", role="client")
    first = find_key(any_database, "shop")
    revoke_key(any_database, first.id)
    create_key(any_database, name="shop", role="client")
    second = find_key(any_database, "shop")
    assert second.id != first.id
    assert find_key(any_database, first.id).revoked is not None
    with pytest.raises(Conflict, match="cannot be changed"):
        change_key(any_database, first.id, models=None, limits=NO_LIMITS, expires=None)
    with pytest.raises(NotFound):
        find_key(any_database, "nobody")


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("2026-11-22", datetime(2026, 11, 22, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2027-01-31", datetime(2027, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_a_key_expires_after_a_span_or_a_day(text: str, end: datetime) -> None:
    assert parse_expiry(text, NOW) == end


@pytest.mark.parametrize("text", ["", "soon", "0d", "-3d", "2026-11-21", "2026-13-01", "999999d", "30", "3 d"])
def test_an_invalid_expiry_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_expiry(text, NOW)
    assert refused.value.param == "expires"
