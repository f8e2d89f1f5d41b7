"""train/data/role_texts.py: texts with roles in them become messages, guessed with a warning or read as asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from train.data.checks import check
from train.data.conversations import Example, Preference, Problem
from train.data.readers import Columns, format_names, read
from train.data.role_texts import style_names

CHAT = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you")]
BARE = CHAT[1:]
# Style, a text in it, and its messages.
TEXTS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("chatml", "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in CHAT), CHAT),
    ("chatml", "".join(f"<|im_start|>{role}\n{text}\n" for role, text in CHAT) + "<|endoftext|>", CHAT),
    (
        "llama3",
        "<|begin_of_text|>"
        + "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in CHAT),
        CHAT,
    ),
    (
        "gemma",
        "<bos>" + "".join(
            f"<start_of_turn>{'model' if role == 'assistant' else role}\n{text}<end_of_turn>\n" for role, text in BARE
        ),
        BARE,
    ),
    ("zephyr", "".join(f"<|{role}|>\n{text}</s>\n" for role, text in CHAT), CHAT),
    (
        "inst",
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST] See you </s>",
        CHAT,
    ),
    ("inst", "<s>[INST] Hi [/INST]Hello</s>[INST] Bye [/INST]See you</s>", BARE),
    ("inst", "[INST] Hi [/INST] Hello [INST] Bye [/INST] See you", BARE),
    ("headings", "### Human: Hi### Assistant: Hello### Human: Bye### Assistant: See you", BARE),
    (
        "headings",
        "Below is a task.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n3\n\n### Notes\nA sum.",
        [("system", "Below is a task."), ("user", "Add\n\n1 2"), ("assistant", "3\n\n### Notes\nA sum.")],
    ),
    ("hh", "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: See you", BARE),
    ("names", "User: Hi\nAssistant: Hello\nUser: Bye\nAssistant: See you", BARE),
    ("names", "Q: In?\nA: Hello\nOutput: 5\nInput: 6", [("user", "In?"), ("assistant", "Hello\nOutput: 5\nInput: 6")]),
    ("names", "**Customer:** Hi\n**Agent:** Hello\n**Customer:** Bye\n**Agent:** See you", BARE),
]  # fmt: skip


def messages(item: Any) -> list[tuple[str, str]]:
    assert isinstance(item, Example)
    return [(message.role, message.content) for message in item.conversation.messages]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.parametrize(("style", "text", "expected"), TEXTS)
def test_a_text_is_guessed_with_a_warning_or_read_as_requested(
    style: str, text: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", {"text": text, "topic": "x"}, {"text": text, "topic": "y"})
    reading = read(path)
    warning, first, second = reading
    assert isinstance(warning, Problem)
    assert (warning.severity, warning.code) == ("warning", "guessed-roles")
    assert f"read as {style}" in warning.message
    assert f"--format {style}" in warning.mend
    assert reading.format == style
    assert messages(first) == messages(second) == expected
    assert isinstance(first, Example)
    assert first.metadata == {"topic": "x"}
    assert [messages(item) for item in read(path, format=style)] == [expected, expected]
    plain = tmp_path / "a.txt"
    plain.write_text(text, "utf-8")
    assert [messages(item) for item in read(plain, format=style)] == [expected]


def test_a_column_of_such_texts_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\n"### Human: Hi### Assistant: Hello"\n')
    warning, example = read(path)
    assert isinstance(warning, Problem)
    assert messages(example) == [("user", "Hi"), ("assistant", "Hello")]


def test_hh_s_pairs_share_their_beginning_as_the_prompt(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"
    rows = [
        {"chosen": f"{start} See you", "rejected": f"{start} Go"},
        {"prompt": start, "chosen": " See you", "rejected": " Go"},
    ]
    for pair in read(write(tmp_path / "a.jsonl", *rows), format="hh"):
        assert isinstance(pair, Preference)
        assert [message.content for message in pair.prompt] == ["Hi", "Hello", "Bye"]
        assert [message.content for message in (*pair.chosen, *pair.rejected)] == ["See you", "Go"]


def test_answers_that_are_lists_of_questions_stay_answers(tmp_path: Path) -> None:
    answers = {"chosen": "Q: When?\nA: At nine.", "rejected": "Q: When?\nA: Never."}
    rows = [{"prompt": "Write an entry", **answers}, {"instruction": "Write an entry", **answers}]
    others = {"chosen": "Human: Hi\n\nAssistant: Yo", "rejected": "Human: A\n\nAssistant: B"}
    rows.append({"prompt": "Write an entry", **others})
    pairs = list(read(write(tmp_path / "a.jsonl", *rows)))
    assert len(pairs) == 3
    for pair, row in zip(pairs, rows, strict=True):
        assert isinstance(pair, Preference)
        assert [message.content for message in pair.prompt] == ["Write an entry"]
        assert [message.content for message in (*pair.chosen, *pair.rejected)] == [row["chosen"], row["rejected"]]


def test_a_question_before_the_answer_s_marker_alone_stays_a_question(tmp_path: Path) -> None:
    row = {"prompt": "What is 2+2?\n\n### Answer:", "completion": "4"}
    (example,) = read(write(tmp_path / "a.jsonl", row))
    assert messages(example) == [("user", "What is 2+2?\n\n### Answer:"), ("assistant", "4")]


def test_a_guess_is_one_warning_for_rows_in_memory_too() -> None:
    report = check([{"text": f"User: Hi {place}\nAssistant: Hello"} for place in range(12)])
    assert len(report.examples) == 12
    assert report.codes["guessed-roles"] == 1


def test_a_completion_s_prompt_that_ends_with_the_answer_s_marker_is_a_conversation(tmp_path: Path) -> None:
    rows = [
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "completion": " Hello"},
        {"prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "completion": "Hello<|im_end|>"},
        {"prompt": "### Instruction:\nHi\n\n### Response:\n", "completion": "Hello"},
    ]
    read_as = [item for item in read(write(tmp_path / "a.jsonl", *rows)) if isinstance(item, Example)]
    assert [messages(item) for item in read_as] == [[("user", "Hi"), ("assistant", "Hello")]] * 3
    plain = write(tmp_path / "b.jsonl", {"prompt": "Q: Hi\nA:", "completion": " Hello"})
    assert [messages(item) for item in read(plain)] == [[("user", "Q: Hi\nA:"), ("assistant", "Hello")]]
    assert [messages(item) for item in read(plain, format="names")] == [[("user", "Hi"), ("assistant", "Hello")]]


def test_conversations_of_a_text_file_end_at_lines_of_dashes_and_at_system_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("User: Hi\nAssistant: Hello\n---\nOnce upon a time.\n-----\nUser: Bye\nAssistant: See you\n")
    report = check(path, provider="local")
    assert [example.line for example in report.examples] == [1, 3]
    assert [(problem.line, problem.code) for problem in report.errors] == [(2, "wrong-type")]
    assert report.lines == 3
    path.write_bytes(b"Human: Hi\r\n\r\nAssistant: Hello\r\n---\r\nHuman: Bye\r\n\r\nAssistant: See you\r\n")
    assert [messages(item) for item in read(path, format="hh")] == [BARE[:2], BARE[2:]]
    path.write_text(TEXTS[0][1] * 2)
    assert [messages(item) for item in read(path, format="chatml")] == [CHAT, CHAT]
    first = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in (BARE[0], ("assistant", "A\n---\nB")))
    path.write_text(f"{first}---\n{first}")
    conversations = [messages(item) for item in read(path, format="chatml")]
    assert conversations == [[BARE[0], ("assistant", "A\n---\nB")]] * 2


@pytest.mark.parametrize(
    "text", ["Support: open from nine.", "One.\nUser: Hi\nAssistant: Hello", "# A: title\n## Q: no"]
)
def test_prose_is_not_taken_for_a_conversation(text: str, tmp_path: Path) -> None:
    (problem,) = read(write(tmp_path / "a.jsonl", {"text": text}))
    assert isinstance(problem, Problem)
    assert (problem.severity, problem.code) == ("error", "wrong-type")


def test_a_row_of_a_known_format_is_not_searched_for_roles(tmp_path: Path) -> None:
    row = {"instruction": "Hi", "output": "Hello", "text": "### Instruction:\nHi\n\n### Response:\nHello"}
    examples = [item for item in read(write(tmp_path / "a.jsonl", row)) if isinstance(item, Example)]
    assert [messages(item) for item in examples] == [[("user", "Hi"), ("assistant", "Hello")]]


def test_long_texts_of_markers_alone_take_no_time() -> None:
    from train.data.role_texts import read_role_text

    for piece in ("[INST]", "</s> ", "\n\n", "### ", "<|im_start|>"):
        read_role_text(f"User: {piece * 20_000}x")  # a backtracking search would take minutes


def test_every_format_is_explained_in_the_help_and_in_the_docs(tmp_path: Path) -> None:
    from train.data.options import FORMAT_HELP

    docs = (Path(__file__).parents[3] / "docs" / "model-owner.md").read_text("utf-8")
    for name in format_names():
        assert f"{name}: " in FORMAT_HELP or f"{name} (" in FORMAT_HELP, name
        assert f"`{name}`" in docs, name
    assert set(style_names()) < set(format_names())
    with pytest.raises(Invalid, match=", ".join(style_names())):
        read(write(tmp_path / "a.jsonl"), format="docx")


PAIRS = "Q: One?\nA: First.\n\nQ: Two?\nA: Second\n\nand more.\n\nQ: Three?\nA: Third."
TOGETHER = "Q: One?\nA: First.\nQ: Two?\nA: Second.\nQ: Three?\nA: Third.\nQ: Four?\nA: Fourth."
SPACED = "User: Hi\n\nBot: Hello\n\nUser: Bye\n\nBot: See you"


@pytest.mark.parametrize(
    ("text", "separator", "turns", "guess"),
    [
        (PAIRS, "auto", [2, 2, 2], "--separator rule reads the text as one conversation"),
        (PAIRS, "blank-line", [2, 2, 2], ""),
        (PAIRS, "rule", [6], ""),
        (TOGETHER, "auto", [8], "--separator pair makes each question a conversation"),
        (TOGETHER, "pair", [2, 2, 2, 2], ""),
        (TOGETHER, "rule", [8], ""),
        (SPACED, "auto", [4], ""),
        (SPACED, "blank-line", [2, 2], ""),
        (f"{TOGETHER}\n---\n{SPACED}", "auto", [8, 4], ""),
        ("### Instruction:\nA\n\n### Input:\nB\n\n### Response:\nC\n\n### Instruction:\nD\n\n### Response:\nE",
         "pair", [2, 2], ""),
    ],
)  # fmt: skip
def test_conversations_of_a_text_are_separated_as_requested_or_guessed_with_a_warning(
    text: str, separator: str, turns: list[int], guess: str, tmp_path: Path
) -> None:
    path = tmp_path / "faq.txt"
    path.write_text(text)
    report = check(path, Columns(separator=separator), provider="local")
    assert [len(example.conversation.messages) for example in report.examples] == turns
    guesses = [problem.mend for problem in report.problems if problem.code == "guessed-conversations"]
    assert [guess in mend for mend in guesses] == ([True] if guess else [])


def test_an_unknown_separator_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no separator 'x': use auto, rule, blank-line, pair"):
        read(tmp_path / "faq.txt", Columns(separator="x"))
