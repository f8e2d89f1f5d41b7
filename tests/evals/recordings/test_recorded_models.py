"""`MODEL@recorded`: names, samples, what is not recorded, training prompts, and models that are gone."""

import asyncio
from pathlib import Path

import pytest

from evals.recordings.coverage import shutdown_coverage
from evals.recordings.recorded_models import (
    RecordedCompleter,
    RecordedName,
    parse_recorded_name,
    recorded_prompt_ids,
    recording_notes,
    resolve_recorded,
)
from evals.votes.prompts import Prompt
from models.database import Database
from models.errors import Invalid, NotFound
from models.registry.registry import Registry
from models.spec import ModelSpec
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts


def recorded_answer(database: Database, name: str, prompt: Prompt, **options: int) -> str:
    parsed = parse_recorded_name(name)
    assert parsed
    return asyncio.run(RecordedCompleter(database, parsed)(prompt.messages, **options)).text


def test_names() -> None:
    assert parse_recorded_name("old@recorded") == RecordedName("old")
    assert parse_recorded_name("ft:gpt:acme::A1@recorded:01ABC") == RecordedName("ft:gpt:acme::A1", "01ABC")
    assert str(RecordedName("old", "01ABC")) == "old@recorded:01ABC"
    for live in ("old", "owner/name@recorded2", "@recorded", "old@records"):
        assert parse_recorded_name(live) is None


def test_seeds_walk_through_the_samples_and_other_prompts_are_refused(any_database: Database, tmp_path: Path) -> None:
    first, second, other = stored_prompts(any_database, "one", "two", "other")
    run(any_database, ScriptedServer(), request((first, second)), tmp_path)
    texts = [recorded_answer(any_database, "old@recorded", first, seed=seed) for seed in range(3)]
    assert len(set(texts)) == 3
    assert (
        recorded_answer(any_database, "old@recorded", first)
        == texts[0]
        == recorded_answer(any_database, "old@recorded", first, seed=3)
    )
    with pytest.raises(NotFound, match="old@recorded has no recorded answer to 'other'"):
        recorded_answer(any_database, "old@recorded", other)


def test_the_newest_recording_with_the_prompt_is_used(database: Database, tmp_path: Path) -> None:
    first_prompt, second_prompt = stored_prompts(database, "one", "two")
    server = ScriptedServer()
    first = run(database, server, request((first_prompt, second_prompt), samples=1, concurrency=1), tmp_path).recording
    second = run(database, server, request((first_prompt,), samples=1), tmp_path).recording
    assert (
        recorded_answer(database, "old@recorded", first_prompt),
        recorded_answer(database, "old@recorded", second_prompt),
    ) == ("answer 3", "answer 2")
    assert recorded_answer(database, f"old@recorded:{first.id}", first_prompt) == "answer 1"
    with pytest.raises(NotFound):
        recorded_answer(database, f"old@recorded:{second.id}", second_prompt)
    assert recorded_prompt_ids(database, [RecordedName("old"), RecordedName("old", second.id)]) == [first_prompt.id]


def test_recorded_training_prompts_need_the_recordings_id(database: Database, tmp_path: Path) -> None:
    (prompt,) = stored_prompts(database, "one")
    taught = run(database, ScriptedServer(), request((prompt,), training=True), tmp_path).recording
    assert taught.training
    assert taught.parameters == {"max_tokens": 16}
    registry = Registry(database)
    with pytest.raises(NotFound, match="There is no finished recording for old@recorded"):
        resolve_recorded(database, registry, RecordedName("old"))
    with pytest.raises(NotFound):
        recorded_answer(database, "old@recorded", prompt)
    assert recorded_answer(database, f"old@recorded:{taught.id}", prompt)
    spec = resolve_recorded(database, registry, RecordedName("old", taught.id))
    (note,) = recording_notes(database, [spec])
    assert "training data" in note


@pytest.mark.long
def test_a_recording_outlives_its_model_and_its_aliases(database: Database, tmp_path: Path) -> None:
    registry = Registry(database)
    registry.register(OLD)
    registry.alias("support", "old")
    recording = run(database, ScriptedServer(), request(stored_prompts(database, "one")), tmp_path).recording
    assert resolve_recorded(database, registry, RecordedName("support")).id == "old@recorded"
    short = RecordedName("support", recording.id[-6:])
    assert resolve_recorded(database, registry, short).id == f"old@recorded:{recording.id}"
    registry.unalias("support")
    registry.retire("old")
    assert resolve_recorded(database, registry, RecordedName("old")).kind == "hosted"
    note = recording_notes(database, [resolve_recorded(database, registry, RecordedName("old"))])[0]
    assert note.startswith("old@recorded: recorded on 20")
    assert "1 of 1 prompts recorded, 3 samples; max_tokens 16" in note


def test_no_live_model_has_the_name_of_a_recording(database: Database) -> None:
    registry = Registry(database)
    registry.register(OLD)
    for name in ("old@recorded", "old@recorded:01ABC"):
        with pytest.raises(Invalid, match="mean recorded answers"):
            registry.register(OLD.model_copy(update={"id": name}))
        with pytest.raises(Invalid, match="mean recorded answers"):
            registry.alias(name, "old")


def test_the_coverage_of_models_that_are_shut_down(database: Database, tmp_path: Path) -> None:
    registry = Registry(database)
    going = {"shutdown_date": "2027-01-14"}
    for name, more in (("old", going), ("older", going), ("stays", {})):
        registry.register(ModelSpec.model_validate(OLD.model_dump() | {"id": name} | more))
    run(database, ScriptedServer(), request(stored_prompts(database, "one", "two")), tmp_path)
    assert shutdown_coverage(database) == {"old": "2 of 2 prompts recorded, 3 samples", "older": "not recorded"}
