"""Management over HTTP, for owners only, and its entries in the audit log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import parley
from models.audit import Actor, acting_as, read_audit
from models.chat_templates import read_template
from models.database import Database
from models.errors import Conflict
from models.jobs.jobs import enqueue
from models.keys import create_key
from models.settings.settings import Settings
from tests.models.folders import write_adapter, write_model
from tests.serve.gateways import Serving, serving
from tests.serve.test_gateway import ask

HOSTED = {"upstream": "http://127.0.0.1:1/v1"}


@pytest.fixture
def house(settings: Settings, database: Database) -> Iterator[Serving]:
    """A gateway with every room's routes."""
    with serving(settings, database, parley.api_routes(settings, database)) as running:
        yield running


class Caller:
    """Calls the management routes with a key."""

    def __init__(self, serving: Serving, key: str) -> None:
        self._root, self._key = f"{serving.base_url}/parley", key

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        data = json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        answered, content, _ = ask(self._root + path, method, data=data, key=self._key)
        assert answered == status, content
        return content


@pytest.fixture
def owner(house: Serving) -> Caller:
    secret = create_key(house.database, name="boss", role="owner")
    house.seen(lambda snapshot: snapshot.keys_needed)
    return Caller(house, secret)


def test_models_are_added_aliased_pinned_loaded_and_retired(house: Serving, owner: Caller, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "llama"))
    local = owner("POST", "/models", {"name": "llama", "path": folder, "engine": {"sleep_after_s": 60}})
    adapter = str(write_adapter(tmp_path / "a", r=128, base_model_name_or_path=folder))
    refused = owner("POST", "/models", {"name": "a", "path": adapter}, status=400)["error"]
    assert "its rank 128 is above 64" in refused["message"]
    assert refused["message"].endswith(f"`parley models add a --path {adapter} --base llama --merge`.")
    assert (local["kind"], local["registered"], local["state"]) == ("base", "listed", "stopped")
    assert local["engine"] == {"sleep_after_s": 60}
    plain = {"name": "plain", "path": folder, "engine": {"chat_template": "plain"}, "fold_system": True}
    assert owner("POST", "/models", plain)["engine"] == {"chat_template": read_template("plain")}
    assert house.registry.resolve("plain").fold_system == "later"
    assert owner("POST", "/models/plain/retire")["registered"] == "retired"
    for name in ("org/a", "b"):
        assert owner("POST", "/models", {"name": name, **HOSTED})["state"] == "ready"
    mutual = [
        owner("POST", f"/models/{model}/fallbacks", {"fallbacks": [fallback]})
        for model, fallback in (("org/a", "b"), ("b", "org/a"))
    ]
    assert [entry["fallbacks"] for entry in mutual] == [["b"], ["org/a"]]
    owner("POST", "/models/b/fallbacks", {"fallbacks": ["nobody"]}, status=400)
    assert owner("POST", "/aliases", {"name": "support", "to": {"org/a": 90, "b": 10}})["target"] == "org/a"
    assert owner("POST", "/models/llama/pin")["pinned"] is True
    assert "unpin it first" in owner("POST", "/models/llama/unload", status=409)["error"]["message"]
    assert owner("POST", "/models/llama/unpin")["pinned"] is False
    scaled = owner("POST", "/models/llama/scale", {"replicas": 1, "max_replicas": 3})
    assert (scaled["engine"], scaled["ready_replicas"]) == ({"sleep_after_s": 60, "max_replicas": 3}, 0)
    assert "hosted" in owner("POST", "/models/org/a/scale", {"replicas": 2}, status=400)["error"]["message"]
    assert owner("POST", "/models/llama/load")["id"] == "llama"
    assert owner("POST", "/models/llama/unload")["id"] == "llama"
    assert "is a hosted model" in owner("POST", "/models/org/a/load", status=400)["error"]["message"]
    refused = owner("POST", "/models/org%2Fa/retire", status=409)["error"]["message"]
    assert refused.startswith("The alias 'support' points to 'org/a'")
    assert owner("GET", "/aliases")["data"][0]["weights"] == {"b": 10, "org/a": 90}
    assert owner("DELETE", "/aliases/support")["deleted"] is True
    assert owner("POST", "/models/org/a/retire")["registered"] == "retired"
    listed = {entry["id"]: entry for entry in owner("GET", "/models")["data"]}
    assert listed.keys() == {"llama", "b"}
    assert len(owner("GET", "/models?all=true")["data"]) == 4
    assert owner("GET", "/models/org/a")["state"] == "retired"
    owner("GET", "/models/nobody", status=404)


def test_weights_are_imported_merged_and_exported_by_jobs(house: Serving, owner: Caller, tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path / "llama"), write_adapter(tmp_path / "a", r=128)
    gguf = tmp_path / "tiny.gguf"
    gguf.touch()
    owner("POST", "/models", {"name": "llama", "path": str(base)})
    new = {"name": "merged", "path": str(adapter), "base": "llama", "merge": True, "engine": {"max_model_len": 9}}
    assert "max_model_len" in owner("POST", "/models/import", new, status=400)["error"]["message"]
    job = owner("POST", "/models/import", new | {"engine": {}})
    assert (job["kind"], job["status"]) == ("import-model", "queued")
    assert (job["params"]["name"], job["params"]["merge"]) == ("merged", True)
    assert owner("GET", f"/jobs/{job['id']}")["id"] == job["id"]
    unpacked = owner("POST", "/models/import", {"name": "tiny", "path": str(gguf)})
    assert unpacked["params"]["path"] == str(gguf)
    small = write_adapter(tmp_path / "small")
    owner("POST", "/models", {"name": "small", "path": str(small), "base": "llama"})
    merge = owner("POST", "/models/small/merge", {"name": "small-merged"})
    assert (merge["kind"], merge["params"]) == ("merge-model", {"adapter": "small", "name": "small-merged"})
    export = owner("POST", "/models/llama/export", {"type": "q8_0"})
    assert export["params"] == {"model": "llama", "type": "q8_0", "file": "llama.q8_0.gguf"}
    for path, body, status, expected in [
        ("/models/import", {"name": "x", "path": str(base)}, 400, "There is nothing to import"),
        ("/models/import", {"name": "x", "path": str(base), "merge": True}, 400, "Only an adapter can be merged"),
        ("/models/import", {"name": "llama", "path": str(gguf)}, 409, "is taken"),
        ("/models/llama/merge", {"name": "x"}, 400, "only an adapter can be merged"),
        ("/models/nobody/merge", {"name": "x"}, 404, "There is no model"),
        ("/models/small/export", {}, 400, "no whole weights on this machine"),
        ("/models/llama/export", {"file": "../llama.gguf"}, 400, "file"),
        ("/models/llama/export", {"type": "q4"}, 400, "type"),
    ]:
        message = owner("POST", path, body, status=status)["error"]["message"]
        assert expected in message
        assert "\n" not in message


def test_a_refusal_is_one_line_and_names_the_field(house: Serving, owner: Caller, subtests: pytest.Subtests) -> None:
    for path, body, param, expected in [
        ("/models", {"name": "x"}, "path", "The model has no location"),
        ("/models", {"name": "x", **HOSTED, "engine": {"extra_args": ["--a"]}}, "engine.extra_args", "no such field"),
        ("/models", {"name": "x", **HOSTED, "engine": {"dtype": "int8"}}, "engine.dtype", "Input should be"),
        ("/models", {"name": "x", **HOSTED, "engine": {"max_model_len": 9}}, "engine", "not have its own engine"),
        ("/keys", {"name": "x", "daily_usd": -1}, "daily_usd", "greater than 0"),
        ("/keys", {"name": "x", "expires": "soon"}, "expires", "use days or hours"),
        ("/aliases", {"name": "x"}, "to", "Field required"),
        ("/aliases", {"name": "x", "to": {"a": 1}}, "to", "at least 2 items"),
        ("/aliases", {"name": "x", "to": {"a": 1, "b": -1}}, "to.b", "greater than 0"),
        ("/campaigns", {"name": "x", "models": ["a", "b"], "prompts": {}}, "prompts", "exactly one source"),
    ]:
        with subtests.test(path=path, body=body, param=param, says=expected):
            error = owner("POST", path, body, status=400)["error"]
            assert expected in error["message"]
            assert "\n" not in error["message"]
            assert error["param"] == param


def test_keys_are_created_changed_and_revoked(house: Serving, owner: Caller) -> None:
    made = owner("POST", "/keys", {"name": "shop", "requests_per_minute": 5, "expires": "30d"})
    assert made["secret"].startswith("pk-")
    assert "secret" not in owner("GET", f"/keys/{made['id']}")
    changed = owner("POST", "/keys/shop", {"requests_per_minute": None, "daily_tokens": 9})
    assert changed["limits"] == {
        "requests_per_minute": None, "tokens_per_minute": None, "daily_tokens": 9, "daily_usd": None,
    }  # fmt: skip
    assert changed["expires"] == made["expires"]
    owner("POST", "/keys", {"name": "shop"}, status=409)
    assert owner("POST", "/keys/shop/revoke")["state"] == "revoked"
    assert [key["name"] for key in owner("GET", "/keys")["data"]] == ["boss", "shop"]


def test_jobs_and_campaigns(house: Serving, owner: Caller) -> None:
    job_id = enqueue(house.database, "judge", {"judge": "x"})
    assert owner("GET", "/jobs?kind=judge&limit=1")["data"][0]["id"] == job_id
    assert owner("POST", f"/jobs/{job_id}/cancel")["status"] == "cancelled"
    owner("GET", "/jobs/nothing", status=404)
    for name in ("a", "b"):
        owner("POST", "/models", {"name": name, **HOSTED})
    body = {"name": "trial", "models": ["a", "b"], "prompts": {"stored": "all"}}
    assert "prompts" in owner("POST", "/campaigns", body, status=404)["error"]["message"]
    from evals.votes.prompts import add_prompts

    add_prompts(house.database, [{"prompt": "Hello?"}], source="test")
    assert owner("POST", "/campaigns", body)["state"] == "draft"
    assert owner("POST", "/campaigns/trial/close", status=409)["error"]["code"] == "not_open"
    assert owner("POST", "/campaigns/trial/open")["state"] == "open"
    assert owner("POST", "/campaigns/trial/close")["state"] == "closed"
    assert owner("GET", "/campaigns/trial")["models"] == ["a", "b"]
    assert owner("GET", "/campaigns")["first_id"] == "trial"
    assert owner("GET", "/campaigns/trial/report")["campaign"]


@pytest.mark.long
def test_a_clients_key_changes_nothing_and_every_change_names_its_owner(house: Serving, owner: Caller) -> None:
    client = Caller(house, create_key(house.database, name="app", role="client"))
    house.seen(lambda snapshot: len(snapshot.keys) == 2)
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("GET", "/audit"), ("GET", "/models"), ("GET", "/jobs")):
        client(method, path, status=403)
    owner("POST", "/models", {"name": "a", **HOSTED})
    owner("POST", "/aliases", {"name": "main", "to": "a"})
    ask(f"{house.base_url}/models/main", "DELETE", key=owner._key)
    with acting_as(Actor("page", "10.0.0.7")):
        house.registry.retire("a")
    page = owner("GET", "/audit?limit=4")
    changes = [(entry["actor"], entry["action"], entry["target"]) for entry in page["data"]]
    assert changes == [
        ("page", "model.retire", "a"),
        ("boss", "alias.remove", "main"),
        ("boss", "alias.set", "main"),
        ("boss", "model.add", "a"),
    ]
    assert page["has_more"]
    assert {entry["address"] for entry in page["data"]} == {"10.0.0.7", "127.0.0.1"}
    older = owner("GET", f"/audit?after={page['last_id']}")["data"]
    assert [(entry["action"], entry["target"]) for entry in older] == [("key.create", "app"), ("key.create", "boss")]
    assert "@" in older[0]["address"]
    assert [entry["action"] for entry in owner("GET", "/audit?target=main")["data"]] == ["alias.remove", "alias.set"]


def test_a_change_that_is_rolled_back_leaves_no_entry(database: Database) -> None:
    create_key(database, name="one", role="owner")
    with pytest.raises(Conflict, match="already an active key"):
        create_key(database, name="one", role="owner")
    assert [entry.target for entry in read_audit(database)] == ["one"]
