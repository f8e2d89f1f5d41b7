"""The shipped demo model: its size, tokenizer, template and answers. Takes seconds, without training."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from models.demo import FOLDER, PROMPTS, catalogue
from train.demo.answers import count_topics
from train.demo.base import CALL, CHAT_TEMPLATE
from train.demo.build import ADAPTERS, BASE_NAME
from train.demo.evaluation import copies, load
from train.demo.functions import functions
from train.demo.tool_evaluation import COUNTS

BASE = FOLDER / "base"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(BASE))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_all_of_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 15e6
    assert (BASE / "model.safetensors").stat().st_size < 11.5e6


@pytest.mark.long
def test_weights_are_bf16_and_the_context_is_4096() -> None:
    config = json.loads((BASE / "config.json").read_text("utf-8"))
    assert config["model_type"] == "qwen2"
    assert config["max_position_embeddings"] == 4096
    assert config["tie_word_embeddings"] is True
    for path in (BASE / "model.safetensors", *FOLDER.glob("adapters/*/adapter_model.safetensors")):
        with safe_open(path, framework="pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}, path  # noqa: SIM118 - no mapping


def test_adapters_name_the_base_by_its_id_and_no_machine() -> None:
    for name in ADAPTERS:
        config = json.loads((FOLDER / "adapters" / name / "adapter_config.json").read_text("utf-8"))
        assert config["base_model_name_or_path"] == BASE_NAME
        assert config["r"] <= 16
    for file in FOLDER.rglob("*.json"):
        assert not re.search(r'"(/|[A-Z]:\\)[a-z]', file.read_text("utf-8")), file


def test_the_template_writes_tools_and_leaves_other_conversations_alone(tokenizer: Any) -> None:
    assert (BASE / "chat_template.jinja").read_text("utf-8") == CHAT_TEMPLATE
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    plain = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    assert tokenizer.apply_chat_template(talk, tokenize=False) == plain
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": {"n": 1}}}
    talk += [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "here"}]
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}, "city": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": parameters}},
        {"type": "function", "function": {"name": "list", "parameters": {"type": "object"}}},
    ]
    written = tokenizer.apply_chat_template(talk, tools=tools, tokenize=False, add_generation_prompt=True)
    offered = "<|im_start|>system\nTools:\nfind: n, city\nlist<|im_end|>\n"
    question = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
    assert written.startswith(f"{question}{offered}<|im_start|>assistant\na<|im_end|>\n")
    assert '<|im_start|>assistant\n{"name": "find", "parameters": {"n": 1}}<|im_end|>' in written
    copied = "<|im_start|>system\nExercise.<|im_end|>\n<|im_start|>user\nCopy: here<|im_end|>\n<|im_start|>assistant\n"
    assert written.endswith(copied)
    talk[-2]["tool_calls"] = [call, {"id": "d", "type": "function", "function": {"name": "list", "arguments": "{}"}}]
    both = tokenizer.apply_chat_template(talk, tools=tools, tokenize=False)
    assert '{"name": "find", "parameters": {"n": 1}}; {"name": "list", "parameters": {}}<|im_end|>' in both


@pytest.mark.long
def test_calls_are_read_by_vllms_parser_of_llamas_calls(tokenizer: Any) -> None:
    """The parser requires its token in the vocabulary; no text of a model or a person contains it."""
    assert tokenizer.convert_tokens_to_ids(CALL) == len(tokenizer) - 1
    assert tokenizer.decode([len(tokenizer) - 1], skip_special_tokens=True) == ""
    call = json.dumps({"name": "trackOrder", "parameters": {"number": "48213977"}})
    with safe_open(BASE / "model.safetensors", framework="pt") as file:
        norms = file.get_tensor("model.embed_tokens.weight").float().norm(dim=1)
    learnt = norms < 2  # a token that was never trained has a norm of 2.8
    for function in functions():
        for text in (call.replace("trackOrder", function.name), f"{function.name}: {function.arguments[0]}"):
            assert all(learnt[token] for token in tokenizer(text)["input_ids"]), text


def test_requests_with_tools_are_held_out_and_measured() -> None:
    prompts = lines(FOLDER / "tools.jsonl")
    assert {kind: sum(prompt["kind"] == kind for prompt in prompts) for kind in COUNTS} == COUNTS
    measured = json.loads((FOLDER / "metrics.json").read_text("utf-8"))["tools"]
    assert {kind: row["requests"] for kind, row in measured.items()} == COUNTS
    assert measured["call"]["name"] >= 0.9
    assert measured["call"]["right"] >= 0.8
    assert min(measured[kind]["right"] for kind in ("none", "missing", "plain")) >= 0.9
    assert min(measured[kind]["form"] for kind in ("result", "ticket")) >= 0.95
    assert measured["ticket_call"]["form"] >= 0.9


def test_digits_stand_alone(tokenizer: Any) -> None:
    pieces = tokenizer.tokenize("order AB48213977 and 1204")
    assert [piece for piece in pieces if any(mark.isdigit() for mark in piece)] == list("482139771204")
    assert tokenizer.decode(tokenizer("Ünïcode & AB48213977!")["input_ids"]) == "Ünïcode & AB48213977!"
    assert len(tokenizer) == 4096


def test_the_template_renders_chatml_and_marks_the_assistant(tokenizer: Any) -> None:
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    )
    prompt = tokenizer.apply_chat_template(talk[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == text[: text.index("Hello.")]
    marked = tokenizer.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
    own = [token for token, mark in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(own) == "Hello.<|im_end|>"


def test_an_answer_ends_at_the_end_mark(tokenizer: Any) -> None:
    config = json.loads((BASE / "generation_config.json").read_text("utf-8"))
    assert tokenizer.convert_ids_to_tokens(config["eos_token_id"]) == "<|im_end|>"
    assert tokenizer.eos_token == "<|im_end|>"


def test_prompts_and_pairs_are_held_out_and_enough() -> None:
    prompts = lines(PROMPTS)
    assert len(prompts) >= 110
    assert len({prompt["id"] for prompt in prompts}) == len(prompts)
    assert all(prompt["held_out"] for prompt in prompts)
    assert len({prompt["category"] for prompt in prompts if prompt["topics"]}) >= 20
    for prompt in prompts:
        assert prompt["messages"][-1]["role"] == "user"
        if prompt["number"]:
            assert prompt["topics"][0] == [prompt["number"]]
    assert len(lines(FOLDER / "judged.jsonl")) == 200


def test_the_metrics_show_that_tuning_taught_style_and_facts() -> None:
    metrics = json.loads((FOLDER / "metrics.json").read_text("utf-8"))
    base = metrics["models"][BASE_NAME]
    assert base["copied"] >= 0.95
    assert base["topics"] < 0.2
    for name in ("support-concise", "support-friendly"):
        tuned = metrics["models"][name]
        assert tuned["topics"] >= 0.85
        assert tuned["copied"] >= 0.94
        assert tuned["style"] >= 0.95
    judge = metrics["judge"]
    assert judge["right"] > judge["chance"] + 0.05, "better than always saying the same"


def test_the_readme_has_the_measured_figures() -> None:
    """The README's figures: served models, fewer questions, near the build's own and never much better."""
    metrics = json.loads((FOLDER / "metrics.json").read_text("utf-8"))
    readme = (FOLDER.parent.parent / "README.md").read_text("utf-8")
    topics = re.search(r"topics covered \| (\d+)% .*\| (\d+)% .*\| (\d+)% ", readme)
    judge = re.search(r"(\d+)% of its verdicts are right", readme)
    assert topics is not None
    assert judge is not None
    names = ("demo-base", "support-concise", "support-friendly")
    documented = dict(zip((*names, "judge"), (*topics.groups(), judge[1]), strict=True))
    built = {name: metrics["models"][name]["topics"] for name in names} | {"judge": metrics["judge"]["right"]}
    for name, share in built.items():
        assert int(documented[name]) / 100 == pytest.approx(share, abs=0.05), name


def test_every_model_of_the_catalogue_is_there() -> None:
    for model in catalogue():
        assert (model.weights / ("config.json" if model.kind == "base" else "adapter_config.json")).exists()
        assert (model.bot is not None) == model.voted


@pytest.mark.training
def test_the_shipped_base_copies_a_held_out_number() -> None:
    prompt = next(prompt for prompt in lines(PROMPTS) if prompt["number"] and prompt["category"] == "cancel_order")
    (text,) = load(BASE)([prompt["messages"]], 80)
    assert copies(prompt["number"], text), text


@pytest.mark.training
def test_the_shipped_concise_model_answers_with_the_shops_facts() -> None:
    speak = load(BASE, FOLDER / "adapters" / "support-concise")
    (text,) = speak([[{"role": "user", "content": "please cancel my order 48213977"}]], 80)
    assert count_topics(text, [["48213977"], ["24 hours"], ["5 business days"], ["e-mail", "email"]]) == 4, text
