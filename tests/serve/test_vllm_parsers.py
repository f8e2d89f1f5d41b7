"""vLLM's parsers by family: every name is one that the installed vLLM registers, and templates decide."""

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.spec import EngineOptions, ModelSpec
from serve.fleet import vllm_command, vllm_parsers
from serve.fleet.model_files import TEXT_ARCHITECTURES, find_model_files
from serve.fleet.placement import Share

HERMES = "{% if tools %}<tool_call>{{ tools }}</tool_call>{% endif %}"
QWEN3 = HERMES + "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}"
CPU = Share("cpu", cores=(0,), kv_cache_bytes=2**28)


def registered(file: str, table: str) -> set[str]:
    """The keys of a table in a file of vLLM's source, without running it."""
    vllm = find_spec("vllm")
    if vllm is None or not vllm.submodule_search_locations:
        pytest.skip("vLLM is not installed here")
    tree = ast.parse((Path(vllm.submodule_search_locations[0]) / file).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == table:
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key is not None}
    raise AssertionError(f"{file} has no {table}")


def model(folder: Path, model_type: str, template: str, kind: str = "base", **options) -> ModelSpec:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["XForCausalLM"]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return ModelSpec(id="m", kind=kind, path=str(folder), engine=EngineOptions(**options))


def chosen_parsers(spec: ModelSpec, *, adapters: bool = False) -> tuple[str | None, str | None]:
    parsers = vllm_parsers.parsers(spec, find_model_files(spec), adapters=adapters)
    return parsers.tool_calls, parsers.reasoning


def test_every_name_is_registered_in_the_installed_vllm() -> None:
    tools, reasoning = vllm_parsers.parser_names()
    assert tools <= registered("tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER")
    assert reasoning <= registered("reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER")
    assert {"hermes", "llama3_json", "mistral"} <= tools


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        ("qwen2", HERMES, "hermes"),
        ("llama", HERMES, "hermes"),  # a Llama trained on Hermes' format
        ("llama", "{% if tools is not none %}<|python_tag|>{% endif %}", "llama3_json"),
        ("qwen2", "{#- after <|python_tag|> #}{% if tools %}{{ tools }}{% endif %}", "llama3_json"),
        ("mistral", "{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "mistral"),
        ("qwen3_moe", "{% if tools %}<tool_call><function=x>{% endif %}", "qwen3_coder"),
        ("gpt_oss", "{% if tools %}namespace functions{% endif %}", "openai"),
        ("qwen2", "{{ messages }}", None),  # never looks at tools
        ("unheard_of", "{% if tools %}{{ tools }}{% endif %}", None),
    ],
)
def test_tool_calls_are_read_as_the_template_writes_them(tmp_path: Path, model_type, template, parser) -> None:
    assert chosen_parsers(model(tmp_path / "m", model_type, template))[0] == parser


def test_a_hybrid_gets_its_reasoning_parser_only_while_nothing_hangs_on_it(tmp_path: Path) -> None:
    base = model(tmp_path / "m", "qwen3", QWEN3)
    assert chosen_parsers(base) == ("hermes", "qwen3")
    assert chosen_parsers(base, adapters=True) == ("hermes", None)
    assert chosen_parsers(model(tmp_path / "m", "qwen3", QWEN3, kind="merged")) == ("hermes", None)
    assert (
        chosen_parsers(model(tmp_path / "g", "gpt_oss", "{{ tools }}", kind="merged"), adapters=True)[1]
        == "openai_gptoss"
    )


def test_a_spec_has_the_last_word(tmp_path: Path) -> None:
    spec = model(tmp_path / "m", "qwen3", QWEN3, tool_call_parser="pythonic", reasoning_parser="none")
    assert chosen_parsers(spec) == ("pythonic", None)
    assert chosen_parsers(model(tmp_path / "m", "qwen3", QWEN3, tool_call_parser="none"))[0] is None


@pytest.mark.parametrize(
    ("hub", "parsers"),
    [
        ("Qwen/Qwen3-4B", ("hermes", "qwen3")),
        ("Qwen/Qwen3-4B-Instruct-2507", ("hermes", None)),
        ("Qwen/Qwen2.5-1.5B-Instruct", ("hermes", None)),
        ("meta-llama/Llama-3.2-1B-Instruct", ("llama3_json", None)),
        ("mistralai/Mistral-Small-3.2-24B", ("mistral", None)),
        ("openai/gpt-oss-20b", ("openai", "openai_gptoss")),
        ("somebody/else", (None, None)),
    ],
)
def test_a_hub_id_that_is_not_here_yet_goes_by_its_name(
    hub: str, parsers: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert chosen_parsers(ModelSpec(id="m", kind="base", path=hub)) == parsers


def test_one_that_was_fetched_goes_by_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--org--name" / "snapshots").mkdir(parents=True)
    model(tmp_path / "models--org--name" / "snapshots" / "abc", "qwen2", HERMES)
    assert chosen_parsers(ModelSpec(id="m", kind="base", path="org/name"))[0] == "hermes"


def test_the_engine_is_started_with_them(tmp_path: Path) -> None:
    argv = vllm_command.command(model(tmp_path / "m", "qwen3", QWEN3), CPU, port=1, key="k", adapters=0).argv
    assert argv[argv.index("--tool-call-parser") + 1] == "hermes"
    assert argv[argv.index("--reasoning-parser") + 1] == "qwen3"
    assert "--enable-auto-tool-choice" in argv
    plain = vllm_command.command(model(tmp_path / "p", "qwen2", "x"), CPU, port=1, key="k", adapters=0).argv
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"} & set(plain)


def test_models_that_generate_text_are_known_by_vllms_registry() -> None:
    """A name in "Model" otherwise means embeddings: GPT2LMHeadModel was started for embeddings, and had no chat."""
    tables = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
    names = {name for table in tables for name in registered("model_executor/models/registry.py", table)}
    assert {name for name in names if name.endswith("Model")} == set(TEXT_ARCHITECTURES)


def test_an_embedding_model_is_started_as_one(tmp_path: Path) -> None:
    spec = model(tmp_path / "m", "qwen2", HERMES)
    assert "--runner" not in vllm_command.command(spec, CPU, port=1, key="k", adapters=0).argv
    (tmp_path / "m" / "modules.json").write_text("[]")
    argv = vllm_command.command(spec, CPU, port=1, key="k", adapters=0).argv
    assert argv[argv.index("--runner") + 1] == "pooling"
    assert not {"--enable-lora", "--enable-auto-tool-choice"} & set(argv)
