"""The registry on both databases: immutable versions, aliases that move in one step, one-line errors."""

import os
import threading
import time
from pathlib import Path

import pytest

from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.files.atomic import publish_folder
from models.registry.registry import Registry, parse_spec
from models.spec import ModelSpec, Parity


@pytest.fixture
def weights(tmp_path: Path) -> str:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


@pytest.fixture
def registry(any_database: Database) -> Registry:
    return Registry(any_database)


def base(weights: str, name: str = "base", **fields: object) -> ModelSpec:
    return parse_spec(id=name, kind="base", path=weights, **fields)


def adapter(weights: str, name: str = "tuned", **fields: object) -> ModelSpec:
    return parse_spec(**{"id": name, "kind": "adapter", "path": weights, "base": "base", "lora_rank": 16} | fields)


def test_a_registered_model_is_listed_and_resolved(registry: Registry, weights: str) -> None:
    spec = base(weights, engine={"max_model_len": 4096, "extra_args": ["--x"]}, description="a base")
    registry.register(spec)
    assert registry.list() == [spec]
    assert registry.resolve("base") == spec


def test_an_id_is_one_immutable_version(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    with pytest.raises(Conflict, match="taken"):
        registry.register(base(weights))
    registry.retire("base")
    with pytest.raises(Conflict, match="taken"):
        registry.register(base(weights))


def test_concurrent_registrations_of_one_name_give_one_model(registry: Registry, weights: str) -> None:
    ends: list[str] = []

    def register() -> None:
        try:
            registry.register(base(weights))
            ends.append("registered")
        except Conflict:
            ends.append("refused")

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["refused"] * 7 + ["registered"]
    assert len(registry.list()) == 1


def test_a_candidate_is_resolved_but_not_listed(registry: Registry, weights: str) -> None:
    registry.register(base(weights, state="candidate"))
    assert registry.list() == []
    assert [spec.id for spec in registry.list(include_candidates=True)] == ["base"]
    assert registry.resolve("base").state == "candidate"
    registry.set_state("base", "listed")
    assert [spec.id for spec in registry.list()] == ["base"]


def test_an_alias_resolves_moves_and_is_removed(registry: Registry, weights: str) -> None:
    registry.register(base(weights, "v1"))
    registry.register(base(weights, "v2"))
    registry.alias("support", "v1")
    assert registry.resolve("support").id == "v1"
    registry.alias("support", "v2")
    assert registry.resolve("support").id == "v2"
    assert registry.aliases() == {"support": "v2"}
    registry.unalias("support")
    with pytest.raises(NotFound):
        registry.resolve("support")


def test_an_alias_never_hides_a_model_nor_points_at_nothing(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    with pytest.raises(Conflict):
        registry.alias("base", "base")
    with pytest.raises(NotFound):
        registry.alias("other", "nobody")
    with pytest.raises(Invalid):
        registry.alias("../up", "base")
    registry.alias("other", "base")
    with pytest.raises(Conflict):
        registry.register(base(weights, "other"))


def test_a_model_with_aliases_or_adapters_cannot_be_retired(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    registry.register(adapter(weights))
    registry.alias("support", "tuned")
    with pytest.raises(Conflict, match="tuned"):
        registry.retire("base")
    with pytest.raises(Conflict, match="support"):
        registry.retire("tuned")
    registry.unalias("support")
    registry.retire("tuned")
    registry.retire("base")
    assert registry.list() == []
    assert {spec.id for spec in registry.list(include_retired=True)} == {"base", "tuned"}
    with pytest.raises(NotFound, match="retired"):
        registry.resolve("tuned")


def test_every_change_raises_the_revision(registry: Registry, weights: str) -> None:
    revisions = [registry.revision()]
    for change in (
        lambda: registry.register(base(weights)),
        lambda: registry.alias("other", "base"),
        lambda: registry.unalias("other"),
        lambda: registry.set_state("base", "candidate"),
        lambda: registry.retire("base"),
    ):
        change()
        revisions.append(registry.revision())
    assert revisions == sorted(set(revisions))


def test_a_refused_change_changes_nothing(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    before = registry.revision()
    with pytest.raises(Conflict):
        registry.register(base(weights))
    assert registry.revision() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": "nobody"}, "nobody"),
        ({"lora_rank": 65}, "Merge it"),
        ({"path": "/nowhere"}, "/nowhere"),
    ],
)
def test_an_adapter_that_could_not_be_served_is_refused(
    registry: Registry, weights: str, fields: dict, message: str
) -> None:
    registry.register(base(weights))
    with pytest.raises(Invalid, match=message):
        registry.register(adapter(weights, **fields))


def test_weights_other_than_safetensors_are_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Invalid, match="safetensors"):
        registry.register(base(str(tmp_path)))


def test_a_hub_id_is_accepted_where_a_folder_is(registry: Registry) -> None:
    registry.register(base("Qwen/Qwen3-0.6B"))
    spec = registry.resolve("base")
    assert spec.path == "Qwen/Qwen3-0.6B"
    assert spec.folder is None


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "", "kind": "base", "path": "/x"},
        {"id": "a b", "kind": "base", "path": "/x"},
        {"id": "../x", "kind": "base", "path": "/x"},
        {"id": "x" * 256, "kind": "base", "path": "/x"},
        {"id": "x", "kind": "other", "path": "/x"},
        {"id": "x", "kind": "base"},
        {"id": "x", "kind": "adapter", "path": "/x"},
        {"id": "x", "kind": "hosted"},
        {"id": "x", "kind": "hosted", "upstream": {"base_url": "ftp://x", "model": "m"}},
        {"id": "x", "kind": "hosted", "upstream": {"base_url": "http://x", "model": "m", "credential": "sk-123"}},
        # An engine would get that variable, whose name does not show that it holds a key.
        {"id": "x", "kind": "hosted", "upstream": {"base_url": "http://x", "model": "m", "credential": "ACME_LOGIN"}},
        {"id": "x", "kind": "base", "path": "/x", "colour": "red"},
    ],
)
def test_a_spec_that_makes_no_sense_is_one_line(fields: dict) -> None:
    with pytest.raises(Invalid) as caught:
        parse_spec(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ({"base_url": "api.openai.com"}, "starts with https://"),
        ({"base_url": "https://x", "credential": "sk-proj-abc"}, "never the key itself"),
        ({"base_url": "https://x", "credential": ""}, "never the key itself"),
        ({"base_url": "https://x", "credential": "ACME_LOGIN"}, "KEY, TOKEN or SECRET"),
    ],
)
def test_an_invalid_upstream_is_explained(upstream: dict, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        parse_spec(id="x", kind="hosted", upstream={"model": "m"} | upstream)
    assert "pattern" not in str(caught.value)
    assert "sk-proj" not in str(caught.value)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-4B", "ft:gpt-4o-mini-2024-07-18:acme:support:abc123", "a", "v1.2_x@y+z"])
def test_common_model_names_are_valid(name: str) -> None:
    assert parse_spec(id=name, kind="base", path="/x").id == name


def test_only_unclaimed_folders_are_swept(registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def published() -> Path:
        with publish_folder(tmp_path / "models") as pending:
            (pending.path / "model.safetensors").write_bytes(b"w")
        return pending.final

    named, left, fresh = published(), published(), published()
    registry.register(ModelSpec(id="named", kind="base", path=str(named)))
    killed = published()  # registered by another process that died before it removed the mark
    registry.register(ModelSpec(id="killed", kind="base", path=str(killed)))
    (killed / ".unnamed").touch()
    by_hand = tmp_path / "models" / "by-hand"
    by_hand.mkdir()
    long_ago = time.time() - 120
    for folder in (named, left, killed, by_hand):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (long_ago, long_ago))
    with caplog.at_level("WARNING"):
        assert registry.sweep_unclaimed(tmp_path / "models") == (left,)
    assert str(left) in caplog.text
    assert sorted((tmp_path / "models").iterdir()) == sorted([named, fresh, killed, by_hand])
    assert not (killed / ".unnamed").exists()


def test_a_parity_is_stored_beside_the_state(registry: Registry, weights: str) -> None:
    registry.register(ModelSpec(id="m", kind="base", path=weights, state="candidate"))
    measured = Parity(checked=utcnow(), probes=16, source="tests", tokens=200, dtype="bfloat16", agreement=0.99, kl=0.1)
    registry.set_parity("m", measured)
    assert registry.resolve("m").parity == measured
    assert registry.list() == []
    registry.set_parity("m", measured.model_copy(update={"kl": 0.2}), "listed")
    assert [spec.parity.kl for spec in registry.list() if spec.parity] == [0.2]


def hosted(name: str, *fallbacks: str) -> ModelSpec:
    upstream = {"base_url": "https://upstream.example/v1", "model": name}
    return parse_spec(id=name, kind="hosted", upstream=upstream, fallbacks=fallbacks)


def test_fallbacks_are_models_that_exist(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    registry.register(hosted("second", "base"))
    registry.register(hosted("first", "second", "base"))
    assert registry.resolve("first").fallbacks == ("second", "base")
    registry.alias("other", "base")
    with pytest.raises(Invalid, match="is an alias"):
        registry.register(hosted("third", "other"))
    with pytest.raises(Invalid, match="not registered"):
        registry.register(hosted("third", "nobody"))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"id": "one", "fallbacks": ["one"]}, "its own fallback"),
        ({"id": "one", "fallbacks": ["two", "two"]}, "listed twice"),
        ({"id": "one", "upstream": {"base_url": "http://x", "model": "y", "usd_per_million_input": -1}}, "greater"),
        ({"id": "one", "engine": {"tool_call_parser": "--port"}}, "pattern"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(fields: dict[str, object], fault: str) -> None:
    whole = {"kind": "hosted", "upstream": {"base_url": "https://upstream.example/v1", "model": "m"}}
    with pytest.raises(Invalid, match=fault):
        parse_spec(**whole | fields)


def test_an_engine_is_pinned_by_any_of_its_names(registry: Registry, weights: str) -> None:
    registry.register(base(weights))
    registry.register(adapter(weights))
    registry.register(hosted("far"))
    registry.alias("other", "base")
    before = registry.revision()
    assert registry.pin("other").id == "base"
    assert registry.pinned() == {"base"}
    assert registry.revision() > before
    registry.unpin("base")
    assert registry.pinned() == set()
    with pytest.raises(Invalid, match="runs on the engine of 'base'"):
        registry.pin("tuned")
    with pytest.raises(Invalid, match="hosted"):
        registry.pin("far")
