"""Needed and available memory: weights from headers, refusals that say what would fit."""

import json
import struct
from pathlib import Path

import pytest

from models.errors import Unavailable
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet.machine import Gpu, Machine
from serve.fleet.memory import CPU_OVERHEAD_BYTES, MemoryBudget, MemoryUse, available_bytes
from serve.fleet.model_files import find_model_files
from serve.fleet.placement import fit

GIB = 1024**3
# The shape of Qwen2.5-0.5B: 24 layers, two groups of 64, so 12,288 bytes per token.
CONFIG = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "hidden_size": 896, "max_position_embeddings": 32768,
}  # fmt: skip


def model(folder: Path, *, gib: float = 0.0, config: dict | None = None, name: str = "m", **options) -> ModelSpec:
    """A model whose header declares that many GiB of float32; the tensors are not written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    size = int(gib * GIB)
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return ModelSpec(id=name, kind="base", path=str(folder), engine=EngineOptions(**options))


def test_weights_are_counted_in_the_width_that_they_are_loaded_in(tmp_path: Path) -> None:
    weights = find_model_files(model(tmp_path / "m", gib=2.0))
    assert weights.loaded_bytes("float32") == 2 * GIB
    assert weights.loaded_bytes("bfloat16") == GIB
    assert weights.kv_bytes_per_token() == 12_288
    assert weights.context() == 32_768
    (tmp_path / "m" / "model.safetensors").write_bytes(b"garbage")
    assert weights.loaded_bytes("float32") == 7


@pytest.mark.parametrize("odd", [{"kv_lora_rank": 512}, {"sliding_window": 4096}, {"layer_types": ["linear"]}])
def test_a_cache_that_is_not_plain_is_not_guessed(tmp_path: Path, odd: dict) -> None:
    assert find_model_files(model(tmp_path / "m", config=odd)).kv_bytes_per_token() is None


def test_a_model_without_files_is_known_by_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    weights = find_model_files(ModelSpec(id="m", kind="base", path="org/name"))
    assert (weights.loaded_bytes("auto"), weights.embeds, weights.template) == (None, False, "")


def test_a_refusal_on_a_cpu_says_what_is_needed_and_what_is_free(settings: Settings, tmp_path: Path) -> None:
    machine = Machine((0, 1), 64 * GIB)
    memory = MemoryBudget(machine, settings, available=lambda: int(6.6 * GIB))
    small, big = (
        model(tmp_path / "s", gib=1, name="small", dtype="float32"),
        model(tmp_path / "b", gib=12, name="big", dtype="float32"),
    )
    fitted = fit(machine, [small, big], settings, {}, lambda shares, specs: memory.check(shares, specs, {}))
    assert set(fitted.shares) == {"small"}
    assert "big needs 13.8 GiB (12.0 GiB of weights, 0.5 GiB of KV cache" in fitted.refused["big"]
    assert "3.3 GiB are free" in fitted.refused["big"]


def test_running_engines_are_not_counted_twice_and_freed_memory_counts_as_free(
    settings: Settings, tmp_path: Path
) -> None:
    machine = Machine((0, 1), 64 * GIB)
    memory = MemoryBudget(machine, settings, available=lambda: 2 * GIB)
    spec = model(tmp_path / "m", gib=1, dtype="float32")
    share = fit(machine, [spec], settings, {}).shares
    with pytest.raises(Unavailable, match=r"1\.5 GiB are free"):
        memory.check(share, {"m": spec}, {"other": MemoryUse(3 * GIB, 3 * GIB)})
    memory.check(share, {"m": spec}, {}, freed=3 * GIB)
    roomy = MemoryBudget(machine, settings, available=lambda: 6 * GIB)
    roomy.check(share, {"m": spec}, {"other": MemoryUse(3 * GIB, 3 * GIB)})
    with pytest.raises(Unavailable, match=r"2\.5 GiB are free"):
        roomy.check(share, {"m": spec}, {"starts": MemoryUse(4 * GIB, GIB)})
    budget = MemoryBudget(machine, settings.model_copy(update={"engine_memory_gib": 4.0}))
    with pytest.raises(Unavailable, match=r"1\.0 GiB are free"):
        budget.check(share, {"m": spec}, {"other": MemoryUse(3 * GIB, 3 * GIB)})


def test_a_context_that_the_cache_cannot_hold_is_refused_with_one_that_it_can(
    settings: Settings, tmp_path: Path
) -> None:
    small = settings.model_copy(update={"cpu_kv_cache_gib": 0.1})
    machine = Machine((0,), 64 * GIB)
    memory = MemoryBudget(machine, small, available=lambda: 60 * GIB)
    refuse = lambda shares, specs: memory.check(shares, specs, {})  # noqa: E731 -- one line, used twice below
    refused = fit(machine, [model(tmp_path / "m")], small, {}, refuse).refused["m"]
    assert "a context of 32,768 tokens needs 0.4 GiB of KV cache, 0.1 GiB are planned" in refused
    assert "set max_model_len to 8736 or less" in refused
    assert fit(machine, [model(tmp_path / "m", max_model_len=8736)], small, {}, refuse).refused == {}


def test_on_a_gpu_the_share_must_hold_the_weights(settings: Settings, tmp_path: Path) -> None:
    machine = Machine((0,), 64 * GIB, (Gpu(0, "card", 24 * 1024),))
    memory = MemoryBudget(machine, settings)
    check = lambda shares, specs: memory.check(shares, specs, {})  # noqa: E731 -- one line, used twice below
    engines = [model(tmp_path / str(number), gib=8, name=f"m{number}", dtype="float32") for number in range(3)]
    fitted = fit(machine, engines, settings, {}, check)
    assert set(fitted.shares) == {"m0", "m1"}
    assert "needs 9.9 GiB on GPU 0 (8.0 GiB of weights, 0.4 GiB of KV cache" in fitted.refused["m2"]
    assert "its share would be 7.2 GiB" in fitted.refused["m2"]


def test_right_before_a_start_memory_is_measured(settings: Settings, tmp_path: Path) -> None:
    spec = model(tmp_path / "m")
    machine = Machine((0,), 64 * GIB)
    share = fit(machine, [spec], settings, {}).shares["m"]
    assert MemoryBudget(machine, settings, available=lambda: 60 * GIB).missing_for_start(spec, share) is None
    missing = MemoryBudget(machine, settings, available=lambda: CPU_OVERHEAD_BYTES).missing_for_start(spec, share)
    assert missing is not None
    assert missing.startswith("waiting for memory: it needs 2.3 GiB")


def test_the_machine_has_some_memory() -> None:
    assert available_bytes() > 0


def test_what_a_job_has_reserved_is_not_free(settings: Settings, tmp_path: Path) -> None:
    spec = model(tmp_path / "m")
    machine = Machine((0,), 64 * GIB)
    memory = MemoryBudget(machine, settings, available=lambda: 5 * GIB)
    share = fit(machine, [spec], settings, {}).shares
    assert memory.missing() == 0
    memory.reserved = 4 * GIB
    assert memory.missing() == 0
    assert memory.missing_for_start(spec, share["m"]) is not None
    with pytest.raises(Unavailable, match=r"0\.5 GiB are free"):
        memory.check(share, {"m": spec}, {})
    memory.reserved = 7 * GIB
    assert memory.missing() == 2 * GIB
