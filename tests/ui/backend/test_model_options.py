"""Models in dropdowns and notices: their state, a banner for those that are not ready, everything escaped."""

from evals.campaign_tables import RecordingRow
from evals.recordings.recording_store import begin
from evals.votes.prompts import add_prompts, prompts
from evals.votes.training_prompts import TRAINING_PARAMETER
from models.database import Database, utcnow
from models.spec import ModelSpec
from ui.backend.context import ServedModel
from ui.backend.model_options import (
    describe_model,
    model_options,
    pick_model,
    preselected_model,
    preselected_pair,
    readiness_banner,
    recorded_options,
)


def served(name: str, state: str, note: str = "", **more: object) -> ServedModel:
    return ServedModel(ModelSpec(id=name, kind="base", path="hub/x", **more), state, note)  # pyrefly: ignore -- keywords by dictionary


MODELS = [
    served("a", "ready"),
    served("b", "starting"),
    served("c", "failed", "no memory <here>"),
    served("d", "stopped"),
]


def test_options_show_the_state():
    assert model_options(MODELS) == [
        ("● a", "a"),
        ("◐ b · starting", "b"),
        ("✕ c · failed", "c"),
        ("○ d · stopped", "d"),
    ]
    assert model_options([served("j", "ready", judge=True)]) == [("● j · judge", "j")]


def test_the_banner_names_models_that_are_not_ready():
    assert readiness_banner(MODELS, "a") == ""
    assert "b is starting" in readiness_banner(MODELS, "b")
    assert "no memory &lt;here&gt;" in readiness_banner(MODELS, "c")
    assert "not running" in readiness_banner(MODELS, "a", "d")
    assert "no longer served" in readiness_banner(MODELS, "gone")
    assert "No model is served yet" in readiness_banner([], None)


def test_the_choice_is_kept_while_it_exists():
    assert pick_model(MODELS, "c") == "c"
    assert pick_model(MODELS, "gone") == "a"
    assert pick_model(MODELS, None, position=1) == "b"
    assert pick_model(MODELS[:1], None, position=1) == "a"
    assert pick_model([], "a") is None


def test_the_newest_ready_fine_tune_and_its_base_are_preselected():
    base, other = served("base", "ready"), served("other", "ready")
    old, new, waiting, judge = (
        ServedModel(ModelSpec(id=name, kind="adapter", path="hub/x", base="base", judge=name == "judge"), state)
        for name, state in (("old", "ready"), ("new", "ready"), ("waiting", "starting"), ("judge", "ready"))
    )
    models = [base, other, old, new, judge, waiting]
    assert preselected_pair(models) == ["base", "new"]
    assert preselected_model(models) == "new"
    assert preselected_model(models, "other") == "other"
    assert preselected_model([other, base, judge]) == "other"
    assert preselected_pair([judge]) == []
    assert preselected_model([]) is None


def test_a_toy_is_labelled():
    assert "a toy" in describe_model(served("t", "ready", toy=True).spec)


def test_recorded_models_are_options_with_their_date(database: Database) -> None:
    add_prompts(database, [{"prompt": f"q{i}"} for i in range(2)], "test")
    stored = prompts(database)
    for name, training, finished in (("old", False, True), ("old", False, False), ("trained", True, True)):
        parameters = {"temperature": len(name) + finished} | ({TRAINING_PARAMETER: True} if training else {})
        recording = begin(database, name, stored, 1, parameters)
        with database.write() as session:
            session.get_one(RecordingRow, recording).finished = utcnow() if finished else None
    ((label, value),) = recorded_options(database)
    assert value == "old@recorded"
    assert f"{utcnow():%Y-%m-%d}" in label
