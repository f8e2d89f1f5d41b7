"""`parley record` and `parley recordings`: consent, cost, sets of prompts, lists and files."""

import json
from datetime import date
from pathlib import Path

import pytest

from evals.recordings.prompt_sets import open_prompt_set
from evals.votes.prompts import add_prompts, prompts
from models.database import Database
from models.errors import Invalid, NotFound
from models.registry.registry import Registry
from models.settings.settings import Settings
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts
from tests.evals.test_cli import parley

__all__ = ["parley"]  # a fixture


def test_nothing_is_requested_without_consent(parley, database: Database) -> None:
    stored_prompts(database, "one", "two")
    Registry(database).register(OLD)
    code, output, error = parley("record", "old")
    assert (code, error) == (
        1,
        "6 requests, about 48 input tokens, at most 3,072 output tokens. The price of this model is unknown. "
        "Nothing was recorded: use --yes, or --max-cost USD.",
    )
    assert "old: 2 prompts, 3 samples each." in output
    prices = ("--usd-per-million-input", "1", "--usd-per-million-output", "2")
    assert "at most $0.0062" in parley("record", "old", *prices)[1]
    assert "A cost limit needs the prices of old" in parley("record", "old", "--max-cost", "1")[2]
    assert "name the live model" in parley("record", "old@recorded", "--yes")[2]
    assert "There are no recordings yet" in parley("recordings", "list")[1]


@pytest.mark.long
def test_prices_of_a_known_provider_are_used(parley, database: Database) -> None:
    stored_prompts(database, "one")
    upstream = OLD.upstream.model_copy(update={"model": "ft:gpt-4o-mini-2024-07-18:acme::A1"}) if OLD.upstream else None
    Registry(database).register(OLD.model_copy(update={"upstream": upstream}))
    assert "at most $" in parley("record", "old")[1]


def test_the_models_list_shows_how_much_is_recorded(parley, database: Database, tmp_path: Path) -> None:
    registry, day = Registry(database), date(2027, 1, 14)
    for name in ("old", "older"):
        registry.register(OLD.model_copy(update={"id": name, "shutdown_date": day}))
    registry.register(OLD.model_copy(update={"id": "stays"}))
    run(database, ScriptedServer(), request(stored_prompts(database, "one", "two")), tmp_path)
    listed = parley("models", "list")[1]
    assert "old: 2 of 2 prompts recorded, 3 samples. `parley record old`" in listed
    assert "older: not recorded. `parley record older` records what is missing." in listed
    rows = {row["id"]: row["recorded"] for row in json.loads(parley("models", "list", "--json")[1])}
    assert rows == {"old": "2 of 2 prompts recorded, 3 samples", "older": "not recorded", "stays": None}


def test_recordings_are_listed_shown_and_exported(parley, database: Database, tmp_path: Path) -> None:
    made = run(database, ScriptedServer(), request(stored_prompts(database, "one", "two")), tmp_path).recording
    listed = parley("recordings", "list")[1]
    assert made.id[-8:] in listed
    assert "2 of 2 prompts recorded, 3 samples" in listed
    assert json.loads(parley("recordings", "list", "--model", "new", "--json")[1]) == []
    shown = json.loads(parley("recordings", "show", "--json")[1])
    assert (shown["id"], shown["intact"], shown["failures"]) == (made.id, True, [])
    assert "intact      yes" in parley("recordings", "show", made.id[-8:])[1]
    file = tmp_path / "old.jsonl"
    assert "6 samples of old" in parley("recordings", "export", str(file))[1]
    head, *samples = map(json.loads, file.read_text("utf-8").splitlines())
    assert head["recording"]["sha256"] == made.sha256
    assert {(row["messages"][0]["content"], row["sample"]) for row in samples} == {
        (text, sample) for text in ("one", "two") for sample in range(3)
    }


def test_sets_of_prompts(database: Database, settings: Settings, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "held_out": True, "category": "refund"}, {"prompt": "b"}]
    add_prompts(database, rows, "faq")

    def texts(typed: str, training: bool = False) -> list[str]:
        return [p.question for p in open_prompt_set(database, settings.runs_dir, typed, training=training).prompts]

    assert texts("held-out") == texts("refund") == ["a"]
    assert texts("all") == texts("faq") == texts("prompts") == ["a", "b"]
    assert open_prompt_set(database, settings.runs_dir, "all").notes == (
        "1 of 2 prompts is not marked as held out: keep such prompts out of training data.",
    )
    with pytest.raises(NotFound, match="or one of: faq, refund"):
        texts("nothing")
    file = tmp_path / "more.jsonl"
    chat = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "the answer"}]
    lines = [{"messages": chat}, {"prompt": "d"}, {"prompt": "d"}, {"turns": ["e", "f"]}, {"prompt": "a"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert texts(str(file)) == ["c", "d", "a"]
    (note,) = open_prompt_set(database, settings.runs_dir, str(file)).notes
    assert note.startswith("2 later turns of conversations were left out")
    assert [p.question for p in prompts(database)] == ["a", "b"], "the comparison set is unchanged"
    outside = {p.question: p.held_out for p in prompts(database, typed=True) if p.source == "recorded"}
    assert outside == {"c": True, "d": True}
    add_prompts(database, [{"prompt": "d"}], "faq")
    assert [p.question for p in prompts(database)] == ["a", "b", "d"]
    file.write_text(json.dumps({"turns": ["e", "f"]}))
    with pytest.raises(Invalid, match="only conversations whose later turns"):
        texts(str(file))
    file.write_text(json.dumps({"prompt": "taught"}))
    (taught,) = open_prompt_set(database, settings.runs_dir, str(file), training=True).prompts
    assert not taught.held_out
    file.write_text(json.dumps({"prompt": "a"}))
    (note,) = open_prompt_set(database, settings.runs_dir, str(file), training=True).notes
    assert note.startswith("1 prompt is marked as held out but used for training")
    with pytest.raises(Invalid, match="Name the training file"):
        texts("held-out", training=True)
