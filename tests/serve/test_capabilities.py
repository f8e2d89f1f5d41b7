"""The capabilities of local models in /v1/models: the context length as vLLM derives it, tools, an adapter's base."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.spec import EngineOptions, ModelSpec
from serve.fleet.capabilities import Capabilities, read_capabilities

CONFIG = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 4096}
TOOLS = "{{ tools }}<tool_call>"


def read(
    folder: Path, template: str = "{{ messages }}", engine: dict[str, Any] | None = None, **config: Any
) -> Capabilities:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "chat_template.jinja").write_text(template)
    spec = ModelSpec(id="m", kind="base", path=str(folder), engine=EngineOptions(**engine or {}))
    known = read_capabilities(spec, None, adapters=False)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("config", "engine", "length"),
    [
        ({}, {}, 4096),
        ({}, {"max_model_len": 512}, 512),
        ({}, {"extra_args": ("--max-model-len", "256")}, 256),
        ({}, {"extra_args": ("--max-model-len=256",)}, 256),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, {}, 16384),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, {}, 4096),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, {}, 8192),
        ({"n_positions": 1024}, {}, 1024),
        ({"max_position_embeddings": None}, {}, None),
    ],
)
def test_the_context_is_the_one_that_vllm_derives(
    tmp_path: Path, config: dict[str, Any], engine: dict[str, Any], length: int | None
) -> None:
    assert read(tmp_path / "m", engine=engine, **config).context_length == length


def test_tools_follow_the_template_and_a_template_that_changes_is_read_again(tmp_path: Path) -> None:
    assert not read(tmp_path / "m").tools
    assert read(tmp_path / "m", TOOLS).tools
    assert not read(tmp_path / "m", TOOLS, {"tool_call_parser": "none"}).tools
    assert read(tmp_path / "m", engine={"tool_call_parser": "hermes"}).tools
    assert not read(tmp_path / "m", "").chat
    assert read(tmp_path / "m", vision_config={}).vision
    embeds = read(tmp_path / "m", architectures=["Qwen2Model"])
    assert (embeds.embeddings, embeds.chat, embeds.to_json()["logprobs"]) == (True, False, False)


def test_an_adapter_can_do_what_its_base_can(tmp_path: Path) -> None:
    read(tmp_path / "m", TOOLS)
    base = ModelSpec(id="m", kind="base", path=str(tmp_path / "m"))
    adapter = ModelSpec(id="a", kind="adapter", path=str(tmp_path / "a"), base="m")
    known = read_capabilities(adapter, base, adapters=True)
    assert known is not None
    assert (known.tools, known.context_length) == (True, 4096)
