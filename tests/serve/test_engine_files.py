"""serve/fleet/engine_files.py: an engine stops where its template ends a turn, and serves the model's own template."""

import asyncio
import json
import socket
from pathlib import Path

import psutil
import pytest

from models.spec import EngineOptions, ModelSpec
from serve.fleet.engine_files import with_files
from serve.fleet.hub_files import download_small_files
from serve.fleet.placement import Share
from serve.fleet.vllm_command import command
from tests.fakes.hub import fake_hub
from tests.models.test_chat_templates import SILENT, SYSTEMLESS, TOKENS


def arguments(spec: ModelSpec, folder: Path) -> dict[str, str]:
    made = command(spec, Share("cpu", (0,), kv_cache_bytes=1), port=1, key="k", adapters=0)
    argv = with_files(made, spec, folder).argv
    return {name: value for name, value in zip(argv, (*argv[1:], ""), strict=True) if name.startswith("--")}


def test_an_engine_stops_where_its_template_ends_a_turn(tmp_path: Path) -> None:
    weights, made = tmp_path / "weights", tmp_path / "made"
    weights.mkdir()
    (weights / "tokenizer_config.json").write_text(
        json.dumps(TOKENS | {"added_tokens_decoder": {"2": {"content": "</s>"}, "5": {"content": "<end_of_turn>"}}})
    )
    settings = {"eos_token_id": 2, "temperature": 0.2, "max_new_tokens": 9}
    (weights / "generation_config.json").write_text(json.dumps(settings))
    (weights / "chat_template.jinja").write_text(SYSTEMLESS)
    spec = ModelSpec(id="m", kind="base", path=str(weights))
    given = arguments(spec, made)
    assert given["--chat-template"] == str(weights / "chat_template.jinja")
    stops = json.loads((Path(given["--generation-config"]) / "generation_config.json").read_text())
    assert stops == {"eos_token_id": [2, 5], "temperature": 0.2}
    # Another template, which ends its turns with the tokenizer's own token.
    own = spec.model_copy(update={"engine": EngineOptions(chat_template=SILENT)})
    given = arguments(own, made)
    assert Path(given["--chat-template"]).read_text() == SILENT
    assert "--generation-config" not in given
    # The operator's own choice stays.
    chosen = spec.model_copy(update={"engine": EngineOptions(extra_args=("--generation-config=vllm",))})
    assert "--generation-config" not in arguments(chosen, made)


@pytest.mark.long
async def test_a_hub_models_small_files_are_there_before_its_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TOKENS | {"added_tokens_decoder": {"2": {"content": "</s>"}, "5": {"content": "<end_of_turn>"}}}
    spec = ModelSpec(id="m", kind="base", path="acme/tiny")
    with fake_hub() as hub:
        hub.published["acme/tiny"] = {
            "config.json": b'{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "eos_token_id": 2}',
            "tokenizer_config.json": json.dumps(tokens).encode(),
            "chat_template.jinja": SYSTEMLESS.encode(),
            "model.safetensors": b"weights",
        }
        for name, value in {
            "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        assert "--generation-config" not in arguments(spec, tmp_path / "made")
        await download_small_files(spec)
        assert sorted(hub.downloaded) == ["chat_template.jinja", "config.json", "tokenizer_config.json"]
    given = arguments(spec, tmp_path / "made")
    stops = json.loads((Path(given["--generation-config"]) / "generation_config.json").read_text())
    assert stops == {"eos_token_id": [2, 5]}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    await download_small_files(spec)  # at once, without a hub


@pytest.mark.long
async def test_an_unreachable_hub_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    await download_small_files(ModelSpec(id="m", kind="base", path="acme/tiny"))
    (record,) = caplog.records
    assert record.getMessage().startswith("m: its configuration cannot be downloaded before the start: ")


async def test_a_hub_that_does_not_answer_delays_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in {"HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}.items():
            monkeypatch.setenv(name, value)
        others = psutil.Process().children()
        download = asyncio.create_task(download_small_files(ModelSpec(id="m", kind="base", path="acme/tiny")))
        children: list[psutil.Process] = []
        while not children:
            await asyncio.sleep(0.01)
            children = [child for child in psutil.Process().children() if child not in others]
        download.cancel()
        await asyncio.wait({download}, timeout=5)
        assert download.cancelled()
        assert not any(child.is_running() for child in children)
