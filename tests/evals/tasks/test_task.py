"""Tasks: rows of every form become samples with a stable hash; each bad row is reported, none is dropped."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.tasks.task import Task, TaskSample, group_turns, request_messages
from evals.tasks.task_rows import make_task
from evals.tasks.task_sources import open_task
from evals.votes.prompts import add_prompts, typed_prompt
from models.database import Database
from models.errors import Invalid, NotFound

QUESTION = {"role": "user", "content": "Where is it?"}


def rows(*values: object) -> list[tuple[str, object]]:
    return [(f"line {number}", row) for number, row in enumerate(values, start=1)]


def made(*values: object, **options: object) -> Task:
    return make_task("mine", "mine.jsonl", rows(*values), **options)


def test_a_row_may_have_its_input_in_many_forms() -> None:
    task = made(
        {"input": "Where is it?", "expected": 12, "category": "orders", "id": "a", "level": 3},
        {"prompt": "Where?", "target": ["Here", "There"], "group": "one", "topics": ["refund", ["late", "delay"]]},
        {"messages": [QUESTION, {"role": "assistant", "content": "In the post."}]},
        {"question": "Why?", "metadata": {"schema": {"type": "object"}}},
    )
    first, second, third, fourth = task.samples
    assert (first.id, first.sample.expected, first.sample.category) == ("a", "12", "orders")
    assert first.sample.metadata == {"level": 3}
    assert second.sample.accepted == ("Here", "There")
    assert (second.sample.prompt, second.sample.topics) == ("one", (("refund",), ("late", "delay")))
    assert ([m.role for m in third.messages], third.sample.expected) == (["user"], "In the post.")
    assert (third.id, first.sample.prompt) == ("3", third.sample.prompt)  # the same question is one cluster
    assert fourth.sample.accepted == ()
    assert fourth.sample.metadata["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (5, "not an object"),
        ({"expected": "x"}, "no question"),
        ({"input": "x", "question": "y"}, "input and question"),
        ({"input": "x", "expected": "a", "target": "b"}, "expected and target"),
        ({"input": "x", "expected": [True]}, "is not a text"),
        ({"input": "x", "topics": 3}, "not a list"),
        ({"input": "x", "topics": [""]}, "is not a word"),
        ({"input": "x", "category": ["a"]}, "category"),
        ({"input": "x", "metadata": [1]}, "metadata"),
        ({"input": "x", "score": float("nan")}, "JSON cannot"),
        ({"input": "\ud800"}, "JSON cannot"),
        ({"input": "x", "category": "\ud800"}, "JSON cannot"),
        ({"input": "   "}, "not a user message"),
        ({"messages": []}, "no message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "neither a text nor a list of messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "not a user message"),
        ({"messages": "[", "id": 1}, "not JSON"),
        ({"input": "x", "id": "good"}, "id 'good' is already used by line 1"),
    ],
)
def test_bad_rows_have_a_place_and_a_fix(row: object, what: str) -> None:
    task = made({"input": "fine", "id": "good"}, row)
    assert [sample.id for sample in task.samples] == ["good"]
    assert [problem.place for problem in task.bad] == ["line 2"]
    assert what in str(task.bad[0])
    assert task.bad[0].fix
    assert "\n" not in str(task.bad[0])


def test_nothing_that_is_a_sample_is_an_error() -> None:
    with pytest.raises(Invalid, match="line 1"):
        made(5)
    with pytest.raises(Invalid, match="no rows"):
        make_task("none", "none.jsonl", [])


@pytest.mark.long
@given(
    st.lists(
        st.fixed_dictionaries(
            {"input": st.text(min_size=1)},
            optional={
                "expected": st.text() | st.integers() | st.lists(st.text()),
                "category": st.text(),
                "x": st.none(),
            },
        ),
        max_size=8,
    )
)
def test_every_row_is_a_sample_or_a_bad_row_and_the_hash_covers_the_content(values: list[dict]) -> None:
    try:
        task = made({"input": "one"}, *values)
    except Invalid:
        return
    assert len(task.samples) + len(task.bad) == len(values) + 1
    again = made({"input": "one"}, *json.loads(json.dumps(values)))
    assert again.hash == task.hash
    assert [TaskSample.from_json(json.loads(json.dumps(s.to_json()))) for s in task.samples] == list(task.samples)
    other = made({"input": "two"}, *values)
    assert other.hash != task.hash


def test_columns_can_be_renamed_and_a_missing_one_is_refused() -> None:
    task = made({"text": "Where?", "label": "here"}, {"text": "Why?"}, columns={"input": "text", "expected": "label"})
    assert (task.samples[0].question, task.samples[0].sample.expected) == ("Where?", "here")
    assert "no column 'label'" in str(task.bad[0])
    with pytest.raises(Invalid, match="not a column of a task"):
        made({"input": "x"}, columns={"wrong": "x"})


def test_files_are_read(tmp_path: Path, database: Database) -> None:
    lines = tmp_path / "faq.jsonl"
    lines.write_text('\ufeff{"input": "a\u2028b"}\n\n{"input":\n{"input": "c"}\n', "utf-8")
    task = open_task(str(lines), database, tmp_path)
    assert (task.name, [sample.question for sample in task.samples]) == ("faq", ["a\u2028b", "c"])
    assert [problem.place for problem in task.bad] == ["line 3"]
    for mark in ",;\t":
        table = tmp_path / "faq.csv"
        table.write_text(
            f'input{mark}expected{mark}topics\n"Where?\nNow?"{mark}here{mark}refund|money back\na{mark}{mark}\n'
        )
        first, second = open_task(str(table), database, tmp_path, name="called").samples
        assert (first.question, first.sample.expected) == ("Where?\nNow?", "here")
        assert first.sample.topics == (("refund", "money back"),) if mark == "," else first.sample.topics
        assert second.sample.expected is None
    table.write_text("input,expected\na,b,c\nd,e\n")
    assert "more cells" in str(open_task(str(table), database, tmp_path).bad[0])
    assert len(open_task(str(lines), database, tmp_path).first(1).samples) == 1


def test_a_datasets_folder_is_read(tmp_path: Path, database: Database) -> None:
    from datasets import Dataset, DatasetDict

    part = Dataset.from_list([{"input": "Where?", "expected": "here"}, {"input": "Why?", "expected": None}])
    part.save_to_disk(tmp_path / "one")
    DatasetDict(test=part, train=part).save_to_disk(tmp_path / "two")
    DatasetDict(dev=part, train=part).save_to_disk(tmp_path / "three")
    for typed in ("one", "two", "three:dev"):
        task = open_task(str(tmp_path / typed), database, tmp_path)
        assert [sample.sample.expected for sample in task.samples] == ["here", None]
    with pytest.raises(Invalid, match="dev, train"):
        open_task(str(tmp_path / "three"), database, tmp_path)


def test_stored_prompts_and_held_out_runs_are_tasks(tmp_path: Path, database: Database) -> None:
    add_prompts(database, [{"prompt": "Held?", "held_out": True, "category": "x"}, {"prompt": "Not?"}], "set")
    typed_prompt(database, "I typed this")
    questions = {
        which: [sample.question for sample in open_task(which, database, tmp_path).samples]
        for which in ("prompts", "prompts:held-out", "prompts:typed")
    }
    assert questions == {
        "prompts": ["Held?", "Not?"], "prompts:held-out": ["Held?"], "prompts:typed": ["I typed this"],
    }  # fmt: skip
    run = tmp_path / "01RUN"
    run.mkdir()
    with pytest.raises(NotFound, match="parley data split"):
        open_task("run:01RUN", database, tmp_path)
    (run / "validation.jsonl").write_text(json.dumps({"messages": [QUESTION, {"role": "assistant", "content": "A"}]}))
    assert open_task("run:RUN", database, tmp_path).samples[0].sample.expected == "A"


@pytest.mark.parametrize("typed", ["none.jsonl", "nothing", "prompts", "run:none", "prompts:other"])
def test_a_missing_task_is_a_one_line_error(typed: str, tmp_path: Path, database: Database) -> None:
    with pytest.raises((NotFound, Invalid)) as caught:
        open_task(typed, database, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_row_with_turns_is_a_sample_for_each_in_one_group() -> None:
    task = made(
        {"turns": ["Name a river.", "Spell it."], "expected": [["Elbe", "Oder"], None], "topics": ["river"], "id": "r"},
        {"input": "Why?"},
        {"turns": '["One?", "Two?", "Three?"]', "answer": '["1", "2", "3"]', "category": "count"},
    )
    assert made({"prompt": ["a", "b"], "reference": []}, columns={"turns": "prompt", "expected": "reference"}).bad == ()
    assert [(sample.id, sample.turn) for sample in task.samples] == [
        ("r/1", 1), ("r/2", 2), ("2", 1), ("3/1", 1), ("3/2", 2), ("3/3", 3),
    ]  # fmt: skip
    first, second = task.samples[:2]
    assert (first.sample.accepted, second.sample.accepted) == (("Elbe", "Oder"), ())
    assert (first.sample.topics, second.sample.topics) == ((), (("river",),))
    assert first.sample.prompt == second.sample.prompt != task.samples[3].sample.prompt
    assert second.question == "Spell it."
    assert [sample.sample.expected for sample in task.samples[3:]] == ["1", "2", "3"]
    assert group_turns(task.samples) == [[0, 1], [2], [3, 4, 5]]
    assert [TaskSample.from_json(json.loads(json.dumps(s.to_json()))) for s in task.samples] == list(task.samples)
    assert [sample.id for sample in task.first(2).samples] == ["r/1", "r/2", "2"]
    messages = request_messages(task.samples, [None, None, None, "one", "two", None], 5)
    assert [(m.role, m.content) for m in messages] == [
        ("user", "One?"), ("assistant", "one"), ("user", "Two?"), ("assistant", "two"), ("user", "Three?"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"turns": []}, "not a list of texts"),
        ({"turns": ["a", 3]}, "not a list of texts"),
        ({"turns": "hello"}, "not JSON"),
        ({"turns": ["a", " "]}, "not a user message"),
        ({"turns": ["a", "b"], "expected": ["only one"]}, "one entry for each of its 2 turns"),
        ({"turns": ["a"], "input": "b"}, "input and turns"),
    ],
)
def test_invalid_turns_are_bad_rows(row: dict, what: str) -> None:
    task = made({"input": "good"}, row)
    assert [str(bad) for bad in task.bad if what in str(bad)], task.bad
    assert len(task.samples) == 1
