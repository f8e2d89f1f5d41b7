"""Adding and listing prompts: duplicates are harmless, faults name their row, nothing is half stored."""

import json
from pathlib import Path

import pytest

from evals.votes.prompts import add_prompts, prompts, typed_prompt
from models.database import Database
from models.errors import Invalid, NotFound

ROWS = [
    {"prompt": "Where is my order?", "category": "orders", "topics": ["order", ["late", "delay"]], "held_out": True},
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
]


def test_rows_come_back_as_they_were_added_and_only_once(any_database: Database) -> None:
    assert add_prompts(any_database, ROWS, "demo") == 2
    assert add_prompts(any_database, [*ROWS, {"prompt": "New"}], "demo") == 1
    first, second, _ = prompts(any_database)
    assert (first.question, first.category, first.held_out) == ("Where is my order?", "orders", True)
    assert first.topics == (("order",), ("late", "delay"))
    assert [message.role for message in second.messages] == ["system", "user"]
    assert prompts(any_database, held_out=True) == prompts(any_database, category="orders") == [first]
    assert prompts(any_database, ids=[second.id]) == [second]


def test_a_file_is_read_and_a_bad_line_is_named(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert add_prompts(database, path, "file") == 2
    path.write_text('{"prompt": "good"}\n{"prompt": \n')
    with pytest.raises(Invalid, match="line 2"):
        add_prompts(database, path, "file")
    assert len(prompts(database)) == 2
    with pytest.raises(NotFound):
        add_prompts(database, tmp_path / "none.jsonl", "file")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "  "},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": "hello"},
        {"prompt": "a", "topics": "b"},
        {"prompt": "a", "topics": [[]]},
        {"prompt": "a", "category": 3},
        {"prompt": "a", "category": "long" * 64},
        {"prompt": "a", "held_out": "false"},
        {"prompt": "half an emoji \ud83d"},
        "just text",
    ],
)
def test_an_invalid_prompt_row_is_a_one_line_error(database: Database, row) -> None:
    with pytest.raises(Invalid, match="Prompt 2"):
        add_prompts(database, [ROWS[0], row], "demo")
    assert prompts(database) == []


def test_unknown_ids_and_the_reserved_source(database: Database) -> None:
    with pytest.raises(NotFound):
        prompts(database, ids=["nobody"])
    with pytest.raises(Invalid):
        add_prompts(database, ROWS, "typed")


def test_odd_but_valid_text_is_read(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    text = "\ufeff" + json.dumps({"prompt": "one\u2028two\u0085three"}, ensure_ascii=False)
    parts = [{"type": "text", "text": "five?"}, {"type": "text", "text": "six."}]
    rows = ({"prompt": "four"}, {"messages": [{"role": "user", "content": parts}]})
    path.write_bytes("\r\n".join([text, *map(json.dumps, rows)]).encode())
    assert add_prompts(database, path, "file") == 3
    # Parts are joined as an engine joins them.
    assert [prompt.question for prompt in prompts(database)] == ["one\u2028two\u0085three", "four", "five?\nsix."]


def test_a_typed_prompt_can_join_the_set(any_database: Database) -> None:
    typed = typed_prompt(any_database, "Where is my order?")
    assert prompts(any_database) == []
    assert add_prompts(any_database, ROWS, "demo") == 2
    [prompt] = prompts(any_database, held_out=True)
    assert (prompt.id, prompt.category, prompt.topics, prompt.source) == (
        typed.id, "orders", (("order",), ("late", "delay")), "demo",
    )  # fmt: skip
    assert add_prompts(any_database, ROWS, "again") == 0
    assert typed_prompt(any_database, "Where is my order?") == prompt


def test_a_source_that_no_column_holds_is_refused(database: Database) -> None:
    for source in ("", "long" * 17):
        with pytest.raises(Invalid, match="source"):
            add_prompts(database, ROWS, source)
