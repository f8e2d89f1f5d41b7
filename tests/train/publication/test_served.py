"""What was trained is what is served: transformers and vLLM, both in float32, give the same greedy tokens."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet.engine_files import with_files
from serve.fleet.placement import Share
from serve.fleet.vllm_command import command, free_port

pytestmark = [pytest.mark.engine, pytest.mark.training]
PROMPTS = [
    "where is order 4031?", "Where is my order?", "hello", "I want my money back", "cancel it please",
    "¿dónde está?", "order 77, order 78", "thanks!", "Why?", "Tell me more about order 1, please, and be kind.",
]  # fmt: skip
QUESTIONS = [f"where is order {number}?" for number in range(1234, 1244)]  # no question of the training
TOKENS = 32
KEY = "a-key-for-this-test"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Any:
    """A model trained in float32 and published as adapter and as merged weights; (registry, base folder)."""
    from models.database import open_database, upgrade
    from tests.train.conftest import style_rows
    from train import Hyperparameters, publish_merge, train

    settings: Settings = load_settings(home=tmp_path_factory.mktemp("served"), device="cpu")
    upgrade(settings)
    registry = Registry(open_database(settings))
    # The demo's base, or the tiny one where that is not built.
    demo = Path(__file__).resolve().parents[3] / "models" / "demo" / "base"
    folder = settings.home / "base"
    shutil.copytree(demo if (demo / "config.json").is_file() else tiny_base, folder)
    end_text_only(folder)
    registry.register(
        ModelSpec(id="base", kind="base", path=str(folder), engine=EngineOptions(dtype="float32", max_model_len=512))
    )
    result = train(
        style_rows(200), base="base", name="adapter", settings=settings, registry=registry,
        hyperparameters=Hyperparameters(epochs=1, rank=8), threads=2,
    )  # fmt: skip
    assert result.loss_after < result.loss_before
    publish_merge("adapter", "merged", registry=registry, settings=settings)
    return registry, folder


def end_text_only(folder: Path) -> None:
    """Makes the base know only <|endoftext|> as an end, as pretrained models do; its template ends turns otherwise."""
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    end = next(token["id"] for token in added if token["content"] == "<|endoftext|>")
    for file, changed in (
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
        ("config.json", {"eos_token_id": end}),
        ("generation_config.json", {"eos_token_id": end}),
    ):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changed))


@contextmanager
def engine(spec: ModelSpec, adapters: int, log: Path) -> Iterator[str]:
    """vLLM with exactly the command line that `parley up` starts it with; its address."""
    port = free_port()
    cores = tuple(sorted(os.sched_getaffinity(0)))[:2]
    started = command(spec, Share("cpu", cores, kv_cache_bytes=256 * 1024**2), port=port, key=KEY, adapters=adapters)
    started = with_files(started, spec, log.parent)
    with log.open("wb") as out:
        process = subprocess.Popen(
            started.argv, env=dict(started.environment), stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while not ready(address):
            assert process.poll() is None, log.read_text()[-3_000:]
            assert time.monotonic() < deadline, "the engine was not ready in time"
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def post(address: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read()
    return json.loads(text) if text.startswith(b"{") else {}


def served_tokens(address: str, model: str) -> list[tuple[list[int], list[int]]]:
    """For each prompt, the ids that vLLM's chat template made of it, and the greedy answer's."""
    rows = []
    for prompt in PROMPTS:
        body = {
            "model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
            "max_tokens": TOKENS, "ignore_eos": True, "return_token_ids": True,
        }  # fmt: skip
        answer = post(f"{address}/v1/chat/completions", body)
        rows.append((answer["prompt_token_ids"], answer["choices"][0]["token_ids"]))
    return rows


def finish_reason(address: str, model: str, question: str) -> str:
    """Why the answer to a question ended, by the engine's own rule."""
    chat = [{"role": "user", "content": question}]
    body = {"model": model, "messages": chat, "temperature": 0, "max_tokens": 150}
    return post(f"{address}/v1/chat/completions", body)["choices"][0]["finish_reason"]


def expected_tokens(model: Any, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    import torch

    model.generation_config.eos_token_id = None  # as ignore_eos
    rows = []
    for prompt in PROMPTS:
        chat = [{"role": "user", "content": prompt}]
        ids = list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))
        with torch.no_grad():
            generated = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=TOKENS, do_sample=False,
            )  # fmt: skip
        rows.append((ids, generated[0, len(ids) :].tolist()))
    return rows


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_transformers_and_vllm_give_the_same_greedy_tokens(published: Any, kind: str, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    registry, folder = published
    spec = registry.resolve(kind)
    weights = str(spec.path) if kind == "merged" else str(folder)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    if kind == "adapter":
        model = PeftModel.from_pretrained(model, str(spec.path))
    expected = expected_tokens(model.eval(), AutoTokenizer.from_pretrained(weights))
    running = spec if kind == "merged" else registry.resolve("base")
    with engine(running, adapters=int(kind == "adapter"), log=tmp_path / "log") as address:
        if kind == "adapter":
            post(f"{address}/v1/load_lora_adapter", {"lora_name": "adapter", "lora_path": str(spec.path)})
        served = served_tokens(address, spec.id)
        ends = [finish_reason(address, spec.id, question) for question in QUESTIONS]
    assert [ids for ids, _ in served] == [ids for ids, _ in expected]  # the template of training is the one served
    assert [len(tokens) for _, tokens in expected] == [TOKENS] * len(PROMPTS)
    assert [tokens for _, tokens in served] == [tokens for _, tokens in expected]
    assert ends == ["stop"] * len(QUESTIONS)  # it has learnt <|im_end|>, where its engine stops
    if kind == "merged":
        assert spec.engine.dtype == "float32"
