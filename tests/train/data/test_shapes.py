"""train/data: rows as people have them (public data sets, bug reports) are read whole, and the rest is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.data.test_readers import lines
from train.data.checks import check
from train.data.conversations import Example
from train.data.gemini_rows import gemini_row
from train.data.readers import Columns, read
from train.data.row_fields import RowError

Turns = list[tuple[str, str]]
TALK: Turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you")]
MESSAGES = [{"role": role, "content": text} for role, text in TALK]
NO = {"role": "assistant", "content": "No"}
# A conversation of each shape, and the positions of the answers that are learnt.
CONVERSATIONS: dict[str, tuple[Any, Turns, tuple[int, ...]]] = {
    "databricks-dolly": (
        {"instruction": "Who?", "context": "Ann is 9.", "response": "Ann", "category": "closed_qa"},
        [("user", "Who?\n\nAnn is 9."), ("assistant", "Ann")], (1,),
    ),
    "question, context, answer": (
        {"question": "Who?", "context": ["Ann is 9.", "Bo is 8."], "answer": "Ann"},
        [("user", "Who?\n\nAnn is 9.\n\nBo is 8."), ("assistant", "Ann")], (1,),
    ),
    "ms-swift": (
        {"system": "Be kind.", "query": "Bye", "response": "See you", "history": [["Hi", "Hello"]]},
        [("system", "Be kind."), *TALK], (2, 4),
    ),
    "OpenOrca": (
        {"id": "flan.1", "system_prompt": "Be kind.", "question": "Hi", "response": "Hello"},
        [("system", "Be kind."), *TALK[:2]], (2,),
    ),
    "ultrachat_200k": ({"prompt": "Hi", "prompt_id": "f0e37e9f", "messages": MESSAGES}, TALK, (1, 3)),
    "alpaca with its rendered text": (
        {"instruction": "Hi", "input": "", "output": "Hello", "text": "### Instruction:\nHi\n\n### Response:\nHello"},
        TALK[:2], (1,),
    ),
    "aya": ({"inputs": "Hi", "targets": "Hello", "language": "English"}, TALK[:2], (1,)),
    "SlimOrca": (
        {"conversations": [
            {"from": "system", "value": "Be kind.", "weight": None}, {"from": "human", "value": "Hi", "weight": 0.0},
            {"from": "gpt", "value": "Hello", "weight": 0.0}, {"from": "human", "value": "Bye", "weight": 0.0},
            {"from": "gpt", "value": "See you", "weight": 1.0}]},
        [("system", "Be kind."), *TALK], (4,),
    ),
    "AgentInstruct": (
        {"id": "alfworld_0", "conversations": [
            {"from": "human", "loss": None, "value": "Hi"}, {"from": "gpt", "loss": False, "value": "Hello"},
            {"from": "human", "loss": None, "value": "Bye"}, {"from": "gpt", "loss": True, "value": "See you"}]},
        TALK, (3,),
    ),
    "axolotl": (
        {"messages": [MESSAGES[0], MESSAGES[1] | {"training": False}, MESSAGES[2], MESSAGES[3] | {"train": True}]},
        TALK, (3,),
    ),
    "roles in conversations": (
        {"conversation": [*MESSAGES[:1], MESSAGES[1] | {"weight": 0}, *MESSAGES[2:]]}, TALK, (3,),
    ),
    "from in messages": (
        {"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, TALK[:2], (1,),
    ),
    "a bare list, DISC-Med-SFT": ([*MESSAGES], TALK, (1, 3)),
    "a bare list, unsloth's wiki": (
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], TALK[:2], (1,),
    ),
    "system beside messages": (
        {"system": "Be kind.", "messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0}, *MESSAGES[2:]]},
        [("system", "Be kind."), *TALK], (4,),
    ),
    "Google's contents": (
        {"systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]},
         "contents": [{"role": {"assistant": "model"}.get(turn["role"], "user"), "parts": [{"text": turn["content"]}]}
                      for turn in MESSAGES]},
        [("system", "Be kind."), *TALK], (2, 4),
    ),
    "Google AI Studio's columns": ({"text_input": "Hi", "output": "Hello"}, TALK[:2], (1,)),
    "Amazon Bedrock": (
        {"schemaVersion": "bedrock-conversation-2024", "system": [{"text": "Be kind."}],
         "messages": [turn | {"content": [{"text": turn["content"]}]} for turn in MESSAGES]},
        [("system", "Be kind."), *TALK], (2, 4),
    ),
    "Cohere's roles": (
        {"messages": [turn | {"role": {"user": "User"}.get(turn["role"], "Chatbot")} for turn in MESSAGES]},
        TALK, (1, 3),
    ),
    "Firefly, human and assistant": (
        {"conversation_id": 1, "conversation": [
            {"human": "Hi", "assistant": "Hello"}, {"human": "Bye", "assistant": "See you"}]}, TALK, (1, 3),
    ),
    "Firefly, target": ({"kind": "Cot", "input": "Hi", "target": "Hello"}, TALK[:2], (1,)),
    "an empty cell of pandas": ({"instruction": "Hi", "input": float("nan"), "output": "Hello"}, TALK[:2], (1,)),
    "Arrow's empty columns": (
        {"messages": [turn | dict.fromkeys(("tool_calls", "function_call", "name")) for turn in MESSAGES],
         "tools": None}, TALK, (1, 3),
    ),
    "empty columns": (
        {"question": "Hi", "answer": "Hello", "context": "", "history": [], "system": None, "image": None,
         "label": None},
        TALK[:2], (1,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_known_shapes_are_read_whole_and_without_a_warning(name: str) -> None:
    row, turns, learnt = CONVERSATIONS[name]
    report = check([row], provider="local")
    (example,) = report.examples
    assert [(message.role, message.content) for message in example.conversation.messages] == turns
    assert example.learnt == learnt
    assert "unread-field" not in report.codes
    assert "unknown-key" not in report.codes


ANSWER = {"role": "assistant", "content": "See you"}
PREFERENCES: dict[str, dict[str, Any]] = {
    "UltraFeedback binarised": {
        "prompt": "Hi", "prompt_id": "c3", "messages": MESSAGES, "chosen": MESSAGES, "rejected": [*MESSAGES[:3], NO],
        "score_chosen": 8.5, "score_rejected": 4.0},
    "whole conversations with a prompt": {
        "prompt": MESSAGES[:3], "chosen": MESSAGES, "rejected": [*MESSAGES[:3], NO]},
    "roles of another program": {
        "chosen": [turn | {"role": {"user": "Human"}.get(turn["role"], "Assistant")} for turn in MESSAGES],
        "rejected": [*MESSAGES[:3], NO]},
    "whole conversations without one": {"chosen": MESSAGES, "rejected": [*MESSAGES[:3], NO]},
    "a rendered prompt": {
        "prompt": "user: Hi assistant: Hello user: Bye", "chosen": MESSAGES, "rejected": [*MESSAGES[:3], NO]},
    "one whole, one answer": {"chosen": MESSAGES, "rejected": "No"},
    "ms-swift, rejected_response": {"messages": MESSAGES, "rejected_response": "No"},
    "ms-swift, rejected_messages": {"messages": MESSAGES, "rejected_messages": [*MESSAGES[:3], NO]},
    "ms-swift, query": {
        "query": "Bye", "response": "See you", "rejected_response": "No", "history": [["Hi", "Hello"]]},
    "axolotl, chat_template": {"messages": MESSAGES[:3], "chosen": ANSWER, "rejected": NO},
    "messages with the chosen answer": {"messages": MESSAGES, "chosen": "See you", "rejected": "No"},
    "distilabel, capybara": {
        "source": "X", "original_response": "See you", "rating": [5, 3], "chosen": MESSAGES,
        "rejected": [*MESSAGES[:3], NO],
        "conversation": [{"input": "Hi", "output": "Hello"}, {"input": "Bye", "output": None}]},
    "diatool, texts of objects": {
        "chosen": json.dumps({"messages": MESSAGES}), "rejected": json.dumps({"messages": [*MESSAGES[:3], NO]})},
    "LLaMA-Factory, sharegpt": {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
                          {"from": "human", "value": "Bye"}],
        "chosen": {"from": "gpt", "value": "See you"}, "rejected": {"from": "gpt", "value": "No"}},
    "LLaMA-Factory, alpaca": {
        "instruction": "Bye", "input": "", "chosen": "See you", "rejected": "No", "history": [["Hi", "Hello"]]},
    "a table's text of messages": {
        "prompt": json.dumps(MESSAGES[:3]), "chosen": json.dumps(MESSAGES),
        "rejected": json.dumps([*MESSAGES[:3], NO])},
}  # fmt: skip


def test_googles_thoughts_are_reasoning_and_no_turn_is_dropped() -> None:
    turns: list[Any] = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"text": "A greeting.", "thought": True}, {"text": "Hello"}]},
    ]
    (example,) = check([{"contents": turns}], provider="local").examples
    answer = example.conversation.messages[-1]
    assert (answer.content, answer.reasoning) == ("Hello", "A greeting.")  # type: ignore[union-attr] -- with reasoning
    with pytest.raises(RowError, match="message 3: not an object"):
        list(gemini_row(1, {"contents": [*turns, "Bye"]}))


@pytest.mark.parametrize("name", PREFERENCES)
def test_preference_rows_have_one_prompt_and_two_answers(name: str) -> None:
    report = check([PREFERENCES[name]], provider="local")
    (pair,) = report.preferences
    assert [(message.role, message.content) for message in pair.prompt] == TALK[:3]
    assert [message.content for message in (*pair.chosen, *pair.rejected)] == ["See you", "No"]
    assert not report.examples
    assert report.codes.keys() == {"too-few"}


def test_the_question_and_the_system_text_beside_a_pair_are_its_prompt() -> None:
    row = {"system": "Be kind.", "question": "Bye", "chosen": "See you", "rejected": "No"}  # Intel's orca_dpo_pairs
    whole = {"prompt": "Bye", "system": "Be kind.", "chosen": [MESSAGES[2], ANSWER], "rejected": [MESSAGES[2], NO]}
    for pair in check([row, whole]).preferences:
        assert [(message.role, message.content) for message in pair.prompt] == [("system", "Be kind."), TALK[2]]
        assert [message.content for message in (*pair.chosen, *pair.rejected)] == ["See you", "No"]
    (pair,) = check([{"prompt": MESSAGES[:2], "chosen": MESSAGES[2:], "rejected": [MESSAGES[2], NO]}]).preferences
    assert [(message.role, message.content) for message in pair.prompt] == TALK[:3]  # what stands beside is earlier


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Bye", "response": "See you", "rejected_response": ["No", "Never"]},
        {"instruction": "Bye", "output": ["See you", "No"]},
        {"question": "Hi", "answer": {"value": "Hello", "aliases": ["Hi"]}},
        {"question": "Hi", "answer": "Hello", "tools": [{"name": "find", "parameters": {"kinds": {1, 2}}}]},
        {"prompt": "Bye", "completion": "See you", "rejected": "No", "chosen": {"text": "See you"}},
        {"contents": [{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": None, "functionCall": {}}]}]},
    ],
)
def test_answers_of_another_kind_are_refused(row: dict[str, Any]) -> None:
    report = check([row])
    assert [problem.line for problem in report.errors if problem.line] == [1]
    assert not report.preferences


def test_the_prompt_of_two_conversations_ends_before_the_first_answer_that_differs() -> None:
    other = [*MESSAGES[:2], {"role": "user", "content": "And you?"}, NO]
    (pair,) = check([{"chosen": MESSAGES, "rejected": other}]).preferences
    assert [message.content for message in pair.prompt] == ["Hi"]
    assert [message.content for message in pair.chosen] == ["Hello", "Bye", "See you"]
    report = check([{"chosen": MESSAGES, "rejected": MESSAGES}])
    assert "same-answers" in report.codes


LABELLED: dict[str, dict[str, Any]] = {
    "TRL": {"prompt": MESSAGES[:3], "completion": [ANSWER], "label": False},
    "TRL, texts": {"prompt": "Bye", "completion": "See you", "label": False},
    "LLaMA-Factory": {"messages": MESSAGES, "label": False},
    "LLaMA-Factory, alpaca": {"instruction": "Bye", "input": "", "output": "See you", "kto_tag": False},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you"}],
        "label": "0",
    },
    "llama3, issue 395": {"question": "Bye", "answer": "See you", "label": "bad"},
}


@pytest.mark.parametrize("name", LABELLED)
def test_an_answer_that_is_labelled_bad_is_not_learnt_as_a_good_one(name: str, tmp_path: Path) -> None:
    reading = read(lines(tmp_path / "a.jsonl", LABELLED[name] | {"topic": "x"}))
    (example,) = reading
    assert reading.format == "kto"
    assert isinstance(example, Example)
    assert example.label is False
    last = len(example.conversation.messages) - 1
    assert example.learnt == (last,)
    assert example.conversation.messages[last].content == "See you"
    assert example.metadata == {"topic": "x"}


def test_a_table_with_a_rejected_response_has_pairs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,rejected_response\nBye,See you,No\n")
    (pair,) = check(path, provider="local").preferences
    assert [message.content for message in (*pair.prompt, *pair.chosen, *pair.rejected)] == ["Bye", "See you", "No"]


def test_labels_in_a_table_and_labels_that_are_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,label\nBye,See you,True\nBye,No,False\n")
    report = check(path, provider="local")
    assert [example.label for example in report.examples] == [True, False]
    assert report.labels == {"good": 1, "bad": 1}
    assert report.to_json()["labels"] == {"good": 1, "bad": 1}
    report = check([{"question": "Hi", "answer": "Hello", "label": "billing"}])
    assert report.examples[0].label is None
    report = check([LABELLED["TRL, texts"], {"prompt": "Hi", "completion": "Hello"}])
    assert [problem.code for problem in report.errors if problem.line] == ["mixed-kinds"]
    assert "conversations in a data set of labelled answers" in report.errors[-1].message


def test_text_that_is_not_read_is_one_warning_a_field_with_the_number_of_rows(tmp_path: Path) -> None:
    row = {"question": "Hi", "answer": "Hello", "id": "q-1", "when": "2026-11-30 09:00", "score": 3}
    rows = [row | {"question": f"Hi {place}", "hint": "Say hello"} for place in range(7)]
    rows += [row | {"question": f"Bye {place}", "notes": {"by": ["a kind person"]}, "metadata": {"why": "a b c"}}
             for place in range(3)]  # fmt: skip
    report = check(rows, provider="local")
    unread = [(problem.line, problem.severity, problem.message) for problem in report.problems
              if problem.code == "unread-field"]  # fmt: skip
    assert unread == [
        (0, "warning", "`hint` contains text and is not read: in 7 rows, the first is line 1"),
        (0, "warning", "`notes` contains text and is not read: in 3 rows, the first is line 8"),
    ]
    assert len(report.examples) == 10
    path = tmp_path / "a.csv"
    path.write_text("question,answer,context\n" + "".join(f"Hi {place},Hello,customer support\n" for place in range(6)))
    report = check(path, provider="local")
    assert [example.conversation.messages[0].content for example in report.examples[:2]] == ["Hi 0", "Hi 1"]
    assert [problem.message for problem in report.problems if problem.code == "unread-field"] == [
        '`context` is the label "customer support" in every row and is not read: in 6 rows, the first is line 2'
    ]
    rows = [{"instruction": f"Hi {place}", "response": "Hello", "context": "customer support"} for place in range(6)]
    assert check(rows, provider="local").examples[5].conversation.messages[0].content == "Hi 5"
    path.write_text("asked,said,context\nHi,Hello,We are in Rome\n")
    report = check(path, Columns("asked", "said"), provider="local")
    assert [problem.message for problem in report.problems if problem.code == "unread-field"] == [
        "`context` contains text and is not read: in line 2"
    ]
    path.write_text("prompt,response,context,system\nHi,Hello,We are in Rome,Be kind.\n")
    (example,) = check(path, provider="local").examples
    assert [message.content for message in example.conversation.messages] == [
        "Be kind.", "Hi\n\nWe are in Rome", "Hello"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo", "mood": "calm"}]},
         "messages[].mood"),
        ({"messages": [*MESSAGES[:1], MESSAGES[1] | {"refusal": "I can't"}]}, "messages[].refusal"),
        ({"messages": [MESSAGES[0] | {"training": True}, MESSAGES[1]]}, "messages[].training"),
        ({"chosen": [ANSWER | {"score": 3}], "rejected": [NO], "prompt": "Bye"}, "messages[].score"),
        ({"chosen": [MESSAGES[0], MESSAGES[1] | {"weight": 0}, *MESSAGES[2:]], "rejected": [MESSAGES[0], NO]},
         "messages[].weight"),
        ({"prompt": "Bye", "chosen": {"messages": [ANSWER], "tools": [{"name": "f"}]}, "rejected": "No"},
         "messages[].tools"),
        ({"question": "Hi", "answer": "Hello", "rejected": False, "response": "Yo"}, "response"),
        ({"instruction": "Hi", "output": "Hello", "system": "Be kind.", "system_prompt": "Be brief."}, "system_prompt"),
        ({"messages": MESSAGES, "image": "https://example.org/a.png"}, "image"),
        ({"prompt": "Bye", "context": "We are in Rome", "chosen": [MESSAGES[2], ANSWER], "rejected": [MESSAGES[2], NO]},
         "context"),
        ({"messages": MESSAGES, "hinweis": "短い返事をしてください"}, "hinweis"),
    ],
)  # fmt: skip
def test_no_field_is_dropped_in_silence(row: dict[str, Any], field: str) -> None:
    report = check([row], provider="local")
    (problem,) = [problem for problem in report.problems if problem.code in ("unread-field", "unknown-key")]
    assert problem.message.startswith(f"`{field}` ")
    assert field.rpartition(".")[2] in problem.mend
    assert len(report.examples) + len(report.preferences) == 1


def test_a_field_of_one_long_word_takes_no_time() -> None:
    report = check([{"question": "Hi", "answer": "Hello", "thumbnail": "iVBORw0KGgo" * 20_000}], provider="local")
    assert "unread-field" not in report.codes  # a search from each of its letters to its end would take minutes


def test_the_system_text_of_a_request_belongs_to_pairs_and_to_rows_in_memory() -> None:
    rows = [PREFERENCES["one whole, one answer"], PREFERENCES["ms-swift, query"]]
    report = check(rows, Columns(system="Be kind."))
    assert [pair.prompt[0].content for pair in report.preferences] == ["Be kind.", "Be kind."]
    assert [len(pair.prompt) for pair in report.preferences] == [4, 4]
    (example,) = check([{"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0}, *MESSAGES[2:]]}],
                       Columns(system="Be kind.")).examples  # fmt: skip
    assert example.conversation.messages[0].content == "Be kind."
    assert example.learnt == (4,)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "<image>What is it?"}, MESSAGES[1]], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "<image>What is it?"}, MESSAGES[1]], "image": "a.png"},
        {"question": "What is it?", "answer": "A cat", "image": {"bytes": "iVBOR", "path": None}},
        {"messages": MESSAGES, "videos": ["a.mp4"]},
    ],
)
def test_text_about_an_image_is_refused(row: dict[str, Any]) -> None:
    report = check([row])
    assert [problem.code for problem in report.errors if problem.line] == ["not-text"]
    assert "only text can be trained on" in report.errors[-1].message
    assert not report.examples


def test_reasoning_is_read_under_its_three_names_and_given_back(tmp_path: Path) -> None:
    reasoned = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2 make 4."}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "2+2?", "reasoning_content": ""}, reasoned]},  # minimind, issue 737
        {"messages": [MESSAGES[0], {"role": "assistant", "content": "4", "reasoning": "2 and 2 make 4."}]},
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "4", "thinking": "2 and 2 make 4."},
            ]
        },
        {"question": "2+2?", "reasoning": "2 and 2 make 4.", "answer": "4"},
    ]
    report = check(rows, provider="local")
    assert not {"unknown-key", "unread-field"} & report.codes.keys()
    for example in report.examples:
        assert example.conversation.as_dicts()[1] == reasoned
        shown = example.conversation.for_template()[1]
        assert {shown[name] for name in ("reasoning_content", "reasoning", "thinking")} == {"2 and 2 make 4."}
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    row = {
        "messages": [MESSAGES[0], {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Look."}]
    }
    (example,) = check([row]).examples
    assert example.conversation.as_dicts()[1]["reasoning_content"] == "Look."


@pytest.mark.parametrize(
    ("row", "message", "mend"),
    [
        ({"text": "Once upon a time."}, "`text` has no roles", "begin each turn with a name"),
        ({"segments": [{"label": True, "text": "Hi"}]}, "`segments` have no roles", '"weight": 0'),
        ({"instruction": "Hi", "completions": [{"response": "a"}, {"response": "b"}]}, "`completions` has several",
         "the best one as `chosen`"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": ["Go", "No"]}, "`rejected` is a list",
         "several answers in a row each"),
    ],
)  # fmt: skip
def test_shapes_that_are_not_conversations_say_what_to_do(row: dict[str, Any], message: str, mend: str) -> None:
    (problem,) = [problem for problem in check([row]).errors if problem.line]
    assert problem.message.startswith(message)
    assert mend in problem.mend
