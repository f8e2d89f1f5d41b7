"""train/trainers/tokens.py: only the assistant's tokens and the end of turn carry labels, with any chat template."""

from importlib.resources import files
from typing import Any

import pytest

from models.errors import Invalid
from tests.tiny_model import CHAT_TEMPLATE
from train.data.checks import check
from train.data.conversations import Example
from train.trainers.tokens import IGNORED, Row, Tokenised, tokenise

MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Marks that leave the end of the turn out: a model trained by them never learns to stop.
ENDLESS = MARKED.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
# As Qwen3: the last answer begins with an empty reasoning that earlier ones lack.
LAST_DIFFERS = CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% if loop.last and message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
)
UNENDED = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
THINKING = CHAT_TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
TEXTLESS = CHAT_TEMPLATE.replace("message['content']", "message['content'].text")
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE

TURNS = [
    {"role": "user", "content": "One? ü 你"},
    {"role": "assistant", "content": "First: ü 你."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
]

pytestmark = pytest.mark.training


def examples(*rows: list[dict[str, Any]]) -> tuple[Example, ...]:
    return check([{"messages": row} for row in rows]).examples


def learnt(tokenised: Tokenised[Row], tokenizer: Any) -> list[str]:
    assert all(len(row.input_ids) == len(row.labels) for row in tokenised.rows)
    assert all(
        label in (IGNORED, token)
        for row in tokenised.rows
        for token, label in zip(row.input_ids, row.labels, strict=True)
    )
    return [tokenizer.decode([label for label in row.labels if label != IGNORED]) for row in tokenised.rows]


@pytest.mark.parametrize(
    ("template", "method", "expected"),
    [
        (CHAT_TEMPLATE, "prefixes", ["First: ü 你.<|im_end|>Second.<|im_end|>"]),
        (MARKED, "marks", ["First: ü 你.<|im_end|>Second.<|im_end|>"]),
        (ENDLESS, "prefixes", ["First: ü 你.<|im_end|>Second.<|im_end|>"]),
        (
            LAST_DIFFERS,
            "one by one",
            ["<think>\n\n</think>\n\nFirst: ü 你.<|im_end|>", "<think>\n\n</think>\n\nSecond.<|im_end|>"],
        ),
        (UNENDED, "one by one", ["First: ü 你.\n<|im_end|>", "Second.\n<|im_end|>"]),
    ],
)
def test_the_assistant_and_the_end_of_its_turn_are_learnt_and_nothing_else(
    tokenizer: Any, template: str, method: str, expected: list[str]
) -> None:
    tokenizer.chat_template = template
    tokenised = tokenise(examples(TURNS), tokenizer, 1_000)
    assert learnt(tokenised, tokenizer) == expected
    assert tokenised.methods == {method}
    if method != "one by one":
        served = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=False)
        assert tokenised.rows[0].input_ids == list(served)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, MARKED, LAST_DIFFERS])
def test_an_answer_of_weight_zero_is_context_only(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    turns = [TURNS[0], TURNS[1] | {"weight": 0}, *TURNS[2:]]
    tokenised = tokenise(examples(turns), tokenizer, 1_000)
    (text,) = learnt(tokenised, tokenizer)
    assert text.endswith("Second.<|im_end|>")
    assert "First" not in text
    assert "First" in tokenizer.decode(tokenised.rows[0].input_ids)


@pytest.mark.parametrize(
    ("template", "reason"), [(THINKING, "<think>"), (TEXTLESS, "refuses"), (STRICT, "no system role")]
)
def test_a_template_that_cannot_be_learnt_by_is_a_problem_of_its_line(
    tokenizer: Any, template: str, reason: str
) -> None:
    tokenizer.chat_template = template
    tokenised = tokenise(examples([{"role": "system", "content": "Be kind."}, *TURNS]), tokenizer, 1_000)
    assert not tokenised.rows
    (problem,) = tokenised.problems
    assert problem.line == 1
    assert problem.severity == "error"
    assert reason in problem.message


def thought(text: str, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": answer, "reasoning_content": text}


REASONING = [TURNS[0], thought("One.", "1"), TURNS[2], thought("Two.", "2")]


@pytest.mark.parametrize(
    ("name", "expected", "codes"),
    [
        ("qwen3", ["<think>\nOne.\n</think>\n\n1<|im_end|>", "<think>\nTwo.\n</think>\n\n2<|im_end|>"],
         ["empty-thought"]),
        ("qwen3_6", ["One.\n</think>\n\n1<|im_end|>", "Two.\n</think>\n\n2<|im_end|>"], ["empty-thought"]),
        # Its marks omit the first one.
        ("lfm2_2_5", ["<think>One.</think>1<|im_end|>", "<think>Two.</think>2<|im_end|>"], []),
        ("qwen2_5", ["1<|im_end|>2<|im_end|>"], ["reasoning-dropped"]),
        ("gptoss", [f"<|channel|>analysis<|message|>{thinking}.<|end|><|start|>assistant<|channel|>final<|message|>{n}"
                    "<|return|>" for thinking, n in (("One", 1), ("Two", 2))], []),
    ],
)  # fmt: skip
def test_reasoning_goes_through_real_templates_or_is_reported(
    tokenizer: Any, name: str, expected: list[str], codes: list[str]
) -> None:
    tokenizer.chat_template = (files("trl") / "chat_templates" / f"{name}.jinja").read_text("utf-8")
    tokenised = tokenise(examples(REASONING, TURNS), tokenizer, 1_000)
    assert not tokenised.problems
    assert learnt(tokenised, tokenizer)[: len(expected)] == expected
    assert [(warning.line, warning.severity, warning.code) for warning in tokenised.warnings] == [
        (0, "warning", code) for code in codes
    ]
    line = {"reasoning-dropped": 1, "empty-thought": 2}
    assert all(warning.message.endswith(f": line {line[warning.code]}") for warning in tokenised.warnings)


def test_a_template_that_opens_or_drops_the_thought_itself(tokenizer: Any) -> None:
    tokenizer.chat_template = (files("trl") / "chat_templates" / "deepseek_r1_distill.jinja").read_text("utf-8")
    reasoned, plain = tokenise(examples(REASONING, TURNS), tokenizer, 1_000).problems
    assert "other text than the answer's reasoning" in reasoned.message
    assert "add `reasoning_content` to the answers" in plain.message
    inside = examples([TURNS[0], {"role": "assistant", "content": "<think>\n1 + 1.\n</think>\n\n2"}])
    dropping = CHAT_TEMPLATE.replace("message['content']", "message['content'].split('</think>')[-1]")
    for template, codes in ((CHAT_TEMPLATE, []), (dropping, ["reasoning-dropped"])):
        tokenizer.chat_template = template
        assert [warning.code for warning in tokenise(inside, tokenizer, 1_000).warnings] == codes


def test_a_row_over_the_limit_is_left_out_and_reported(tokenizer: Any) -> None:
    tokenised = tokenise(examples(TURNS, TURNS[2:]), tokenizer, 60)
    assert [row.line for row in tokenised.rows] == [2]
    assert "over the limit of 60" in tokenised.problems[0].message


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(Invalid, match="no chat template"):
        tokenise(examples(TURNS), tokenizer, 1_000)


# As Qwen2.5: tools in the system turn, calls and results in tags.
TOOLED = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] or '' }}"
    "{% for call in message.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALLING = {
    "messages": [
        {"role": "user", "content": "Where is 4821?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"n": "4821"}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "in Leipzig"},
        {"role": "assistant", "content": "It is there."},
    ],
    "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}],
}


def test_calls_are_learnt_and_tools_and_results_are_context(tokenizer: Any) -> None:
    tokenizer.chat_template = TOOLED
    tokenised = tokenise(check([CALLING]).examples, tokenizer, 1_000)
    assert not tokenised.problems
    call = '<tool_call>{"name": "find", "arguments": {"n": "4821"}}</tool_call><|im_end|>'
    assert learnt(tokenised, tokenizer) == [call + "It is there.<|im_end|>"]
    whole = tokenizer.decode(tokenised.rows[0].input_ids)
    assert '"parameters": {}' in whole
    assert "in Leipzig" in whole


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHAT_TEMPLATE, "does not write the tools"),
        (TOOLED.replace("message.tool_calls or []", "[]"), "does not write tool calls"),
        (
            TOOLED.replace("message['content'] or ''", "'' if message.role == 'tool' else message.content or ''"),
            "results",
        ),
    ],
)
def test_a_template_that_drops_tools_calls_or_results_is_refused(tokenizer: Any, template: str, reason: str) -> None:
    tokenizer.chat_template = template
    tokenised = tokenise(check([CALLING]).examples, tokenizer, 1_000)
    assert not tokenised.rows
    assert [problem.code for problem in tokenised.problems] == ["template-refuses"]
    assert reason in tokenised.problems[0].message


def test_the_labels_are_those_of_trl(tokenizer: Any, tiny_base: Any, tmp_path: Any) -> None:
    """With a marked template TRL makes the labels itself; ours must be equal."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer.chat_template = MARKED
    rows = [TURNS, TURNS[2:]]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(tiny_base)),
        args=SFTConfig(output_dir=str(tmp_path), assistant_only_loss=True, report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list([{"messages": row} for row in rows]),
        processing_class=tokenizer,
    )
    ours = tokenise(examples(*rows), tokenizer, 1_000).rows
    assert [list(row.labels) for row in ours] == [list(labels) for labels in trainer.train_dataset["labels"]]
