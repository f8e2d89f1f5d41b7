"""Keys: shown once, stored as digests, useless once revoked or expired."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from models.database import Database, utcnow
from models.errors import Invalid, NotFound
from models.keys import active_keys, check_key, create_key, key_digest, keys_configured, list_keys, revoke_key


def test_a_key_is_known_until_it_is_revoked_and_the_door_stays_locked(any_database: Database) -> None:
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


def test_an_expired_key_is_no_key(any_database: Database) -> None:
    secret = create_key(any_database, name="old", role="client", expires=utcnow() - timedelta(seconds=1))
    assert check_key(any_database, secret) is None


def test_the_database_never_holds_the_key(database: Database) -> None:
    secret = create_key(database, name="page", role="client")
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM keys")).all()
    assert secret not in str(rows)
    assert secret.removeprefix("pk-") not in str(rows)


@pytest.mark.parametrize(("name", "role"), [("", "client"), ("x" * 65, "client"), ("a\nb", "client"), ("a", "boss")])
def test_a_nameless_key_or_an_unknown_role_is_refused(database: Database, name: str, role: str) -> None:
    with pytest.raises(Invalid):
        create_key(database, name=name, role=role)  # pyrefly: ignore -- wrong on purpose


def test_nobody_unknown_is_let_in(database: Database) -> None:
    create_key(database, name="page", role="client")
    assert check_key(database, "") is None
    assert check_key(database, "pk-guess") is None
    with pytest.raises(NotFound):
        revoke_key(database, "nobody")
