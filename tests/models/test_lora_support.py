"""Which adapters vLLM serves, read from the source of the installed vLLM; test_real_engines.py asks vLLM itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.compatibility import lora_support
from models.compatibility.lora_support import must_be_merged, serves, supports_lora
from models.database import Database
from models.errors import Invalid
from models.registry.registry import Registry
from models.spec import ModelSpec


@pytest.mark.parametrize(
    ("adapter", "merged"),
    [
        ({"r": 64, "target_modules": ["q_proj"]}, False),
        ({"r": 65, "target_modules": ["q_proj"]}, True),
        ({"r": 8, "rank_pattern": {"q_proj": 128}}, True),
        # axolotl's patterns and Unsloth's expression, both of which vLLM 0.32 follows
        ({"r": 8, "rank_pattern": {".*layers.3.*q_proj": 32}, "alpha_pattern": {".*layers.3.*q_proj": 64}}, False),
        ({"r": 16, "target_modules": r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:q_proj|v_proj))"}, False),
        ({"r": 8, "modules_to_save": ["embed_tokens"]}, True),
        ({"r": 8, "target_modules": ["q_proj", "lm_head"]}, True),
        ({"r": 8, "target_modules": "all-linear", "modules_to_save": None}, False),
        ({"r": 8, "use_dora": True}, True),
        # Values of a type that PEFT does not write.
        ({"r": "8", "rank_pattern": [128], "target_modules": "q_proj"}, False),
        ({"r": None, "rank_pattern": {"q_proj": "128"}, "modules_to_save": "lm_head"}, True),
        ({"r": 8, "lora_bias": True}, True),
        ({"r": 8, "init_lora_weights": "pissa_niter_4"}, True),
        ({"r": 8, "init_lora_weights": "gaussian", "use_dora": False, "layer_replication": None}, False),
    ],
)
def test_which_adapters_no_engine_can_hold(adapter: dict[str, Any], merged: bool) -> None:
    assert bool(must_be_merged(adapter, 64, {"architectures": ["Qwen2ForCausalLM"]})) == merged


@pytest.mark.parametrize(
    ("architecture", "supported"),
    [
        ("FalconForCausalLM", False),
        ("GPT2LMHeadModel", False),
        ("Qwen2ForCausalLM", True),
        ("LlamaForCausalLM", True),
        ("MistralForCausalLM", True),  # by its base class, in another file
        ("Gemma3ForConditionalGeneration", True),
        ("NoSuchModel", None),
    ],
)
def test_which_architectures_take_adapters(architecture: str, supported: bool | None) -> None:
    assert supports_lora(architecture) is supported
    assert bool(must_be_merged({"r": 8}, 64, {"architectures": [architecture]})) is (supported is False)
    assert serves(architecture) is (supported is not None)


@pytest.mark.parametrize("config", [{"num_experts": 4}, {"text_config": {"num_local_experts": 8}}])
def test_a_build_for_cpus_takes_no_adapters_on_models_with_experts(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu in (True, False):
        monkeypatch.setattr(lora_support, "_is_cpu_build", lambda cpu=cpu: cpu)
        assert bool(lora_support.refuses_adapters(config)) is cpu
    assert lora_support.refuses_adapters({"num_experts": 1, "n_routed_experts": None}) is None


def test_an_adapter_that_its_base_cannot_take_is_refused_at_its_registration(
    database: Database, tmp_path: Path
) -> None:
    registry = Registry(database)
    for name, architecture in (("falcon", "FalconForCausalLM"), ("llama", "LlamaForCausalLM")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        (folder / "model.safetensors").touch()
        registry.register(ModelSpec(id=name, kind="base", path=str(folder)))
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "adapter_model.safetensors").touch()
    (tuned / "adapter_config.json").write_text(json.dumps({"r": 8, "target_modules": ["query_key_value"]}))
    adapter = {"kind": "adapter", "path": str(tuned), "lora_rank": 8}
    with pytest.raises(Invalid, match=r"vLLM serves FalconForCausalLM without LoRA adapters\. Merge it"):
        registry.register(ModelSpec(id="tuned", base="falcon", **adapter))
    assert registry.register(ModelSpec(id="tuned", base="llama", **adapter)).base == "llama"
