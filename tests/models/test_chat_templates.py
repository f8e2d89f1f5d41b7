"""models/chat_templates: templates by name, and what is known from a template's text and a folder's files."""

import json
import re
import time
from pathlib import Path

import pytest

from models.chat_templates import check_template, inspection, names, read_template
from models.chat_templates.content_parts import takes_parts
from models.chat_templates.inspection import TemplateFacts, inspect_template, missing_stop_token
from models.chat_templates.renderer import TemplateRefuses, compile_template
from models.chat_templates.system_role import has_system_role
from models.chat_templates.tokenizer_files import (
    read_added_tokens,
    read_folder_template,
    read_stop_tokens,
    with_stop_token,
)
from models.chat_templates.turn_ends import find_turn_end
from models.errors import Invalid

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ADDED = {"<s>": 1, "</s>": 2, "<|im_end|>": 3, "<|eot_id|>": 4, "<end_of_turn>": 5, "\n\n": 6}
CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
]
WRITTEN = {
    "chatml": "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "gemma": "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
    "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>"
    "\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]",
    "plain": "<s>### System:\nS\n\n### User:\nU\n\n### Assistant:\nA</s>\n\n### User:\nV\n\n### Assistant:\n",
    "zephyr": "<s><|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
}
ENDS = {"chatml": 3, "gemma": 5, "llama3": 4, "mistral": 2, "plain": 2, "zephyr": 2}
# As Gemma 1 and 2: no system messages.
SYSTEMLESS = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
)
SILENT = "{% for message in messages if message['role'] != 'system' %}{{ message['content'] }}</s>{% endfor %}"
PARTS = "{% for message in messages %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}!{% endfor %}"


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_a_template_by_name_writes_a_conversation_and_marks_its_answers(name: str) -> None:
    text = read_template(name)
    assert compile_template(text).render(CHAT, TOKENS, add_generation_prompt=True) == WRITTEN[name]
    assert (find_turn_end(text, TOKENS, ADDED).token, has_system_role(text, TOKENS)) == (ENDS[name], True)
    assert text.count("generation -%}") == 2
    assert not takes_parts(text)


def test_every_template_has_its_test() -> None:
    assert set(names()) == set(WRITTEN)


def test_a_template_is_a_name_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(SILENT)
    assert read_template(str(file)) == SILENT
    with pytest.raises(Invalid, match=r"no chat template 'chatlm': use chatml, gemma, llama3, .* or a Jinja file"):
        read_template("chatlm")
    for text, reason in (
        ("{% for %}", "not a chat template: "), ("{{ messages | shout }}", "not a chat template: No filter named"),
        ("Hello.", "it does not use `messages`"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=reason):
            check_template(text)


@pytest.mark.parametrize(
    ("template", "text", "token"),
    [
        (SYSTEMLESS, "<end_of_turn>", 5),
        (SILENT, "</s>", 2),
        (PARTS, "!", None),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "", None),
        ("{% for m in messages %}{{ m.content }}<|im_end|>\n<|x|>{% endfor %}", "<|im_end|>\n<|x|>", 3),
        ("{{ raise_exception('never') }}{{ messages }}", "", None),
    ],
)
def test_the_end_of_a_turn_is_found_in_the_template(template: str, text: str, token: int | None) -> None:
    end = find_turn_end(template, TOKENS, ADDED)
    assert (end.text, end.token, end.unknown) == (text, token, bool(text) and token is None)


def test_a_template_without_a_system_role_is_known(tmp_path: Path) -> None:
    assert not has_system_role(SYSTEMLESS, TOKENS)
    assert not has_system_role(SILENT, TOKENS)
    assert has_system_role(PARTS, TOKENS)
    with pytest.raises(TemplateRefuses, match="System role not supported"):
        compile_template(SYSTEMLESS).render(CHAT, TOKENS)


def test_a_folders_missing_stop_token_is_found(tmp_path: Path) -> None:
    """As in a real base: turns end with <end_of_turn>, but the generation settings have only </s>."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(TOKENS))
    added = [{"id": number, "content": token} for token, number in ADDED.items()]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert missing_stop_token(tmp_path, SYSTEMLESS) == 5
    assert missing_stop_token(tmp_path, SILENT) is None
    assert with_stop_token(tmp_path, 5) == {"eos_token_id": [2, 5]}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5], "top_p": 0.9}))
    assert missing_stop_token(tmp_path, SYSTEMLESS) is None
    assert missing_stop_token(tmp_path / "nowhere", SYSTEMLESS) is None


def test_a_folders_template_is_its_file_or_its_tokenizers(tmp_path: Path) -> None:
    assert read_folder_template(tmp_path) is None
    for stored in (SILENT, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": SILENT}]):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": stored}))
        assert read_folder_template(tmp_path) == SILENT
    (tmp_path / "chat_template.jinja").write_text(PARTS)
    assert read_folder_template(tmp_path) == PARTS


def test_a_template_is_read_in_a_process_of_its_own() -> None:
    assert inspect_template(SYSTEMLESS, TOKENS, ADDED) == TemplateFacts("", 5, False)
    assert inspect_template(PARTS) == TemplateFacts("", None, True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("template", "broken"),
    [
        ("{{ 9**(9**9) }}{{ messages }}", True),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages }}", True),
        ("{{ 'a' * 10**11 }}{{ messages }}", False),
        ("{{ " + "9" * 5000 + " }}{{ messages }}", True),
        ("{{ '(' * 10**4 }}{{ " + "(" * 10**4 + "1" + ")" * 10**4 + " }}{{ messages }}", True),
    ],
    ids=("power", "loops", "memory", "digits", "depth"),
)
def test_a_template_that_never_ends_holds_nobody_up(template: str, broken: bool) -> None:
    """The sandbox limits neither: constants are computed while a template is compiled, and ranges can be nested."""
    started = time.process_time()
    facts = inspect_template(template, TOKENS, ADDED)
    assert time.process_time() - started < 0.5
    assert (bool(facts.broken), facts.turn_end, facts.system_role) == (broken, None, False)
    assert not broken or re.search("needs more than a second|maximum recursion|^Exceeds", facts.broken)


def test_damaged_tokenizer_files_say_nothing(tmp_path: Path) -> None:
    assert read_stop_tokens(tmp_path) == set()
    (tmp_path / "config.json").write_text(json.dumps({"text_config": "gemma"}))
    added = {"1": "</s>", "x": {"content": "<x>"}, "5": {"content": "<end_of_turn>"}, "6": {"id": 6}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(TOKENS | {"added_tokens_decoder": added}))
    assert read_stop_tokens(tmp_path) == set()
    assert read_added_tokens(tmp_path) == {"<end_of_turn>": 5}
    (tmp_path / "tokenizer_config.json").write_text("[]")
    for odd in ("x", {"a": 1}, [None, {"content": 1, "id": 2}, {"content": "<a>", "id": "3"}]):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": odd}))
        assert read_added_tokens(tmp_path) == {}


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/true"])
def test_an_inspection_that_cannot_start_or_gives_no_answer_is_a_fault_of_the_template(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection.sys, "executable", program)
    facts = inspect_template(f"{{{{ messages }}}} {program}")
    assert facts.broken.startswith("it cannot be inspected (")
    assert (facts.turn_end, facts.system_role) == (None, False)
