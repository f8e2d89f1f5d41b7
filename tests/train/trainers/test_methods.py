"""train/trainers/fit.py and dpo.py: every tuning method learns on a tiny base and writes its files."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings
from tests.train.conftest import style_rows
from train import Hyperparameters, train
from train.run.progress import Stage, Step, Validation

pytestmark = pytest.mark.training


def preference_rows(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """OpenAI's preference rows in which one way of answering is always preferred."""
    chance = random.Random(seed)
    return [
        {
            "input": {"messages": [{"role": "user", "content": f"where is order {chance.randint(1000, 9999)}?"}]},
            "preferred_output": [{"role": "assistant", "content": "It is on its way. " * chance.randint(1, 3)}],
            "non_preferred_output": [{"role": "assistant", "content": "No idea. " * chance.randint(1, 3)}],
        }
        for _ in range(number)
    ]


@pytest.mark.parametrize(
    ("values", "of_config"),
    [
        ({"tune": "qlora"}, {"use_dora": False, "use_rslora": False}),
        ({"rslora": True, "checkpointing": True}, {"use_rslora": True}),
        ({"dora": True}, {"use_dora": True}),
        ({"tune": "qlora", "dora": True}, {"use_dora": True}),
    ],
)
def test_each_adapter_learns(
    values: dict[str, Any], of_config: dict[str, bool], tiny_base: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    result = train(
        style_rows(30), base=tiny_base, out=tmp_path / "run", threads=1, progress=events.append,
        hyperparameters=Hyperparameters(epochs=1, rank=4, **values),
    )  # fmt: skip
    assert result.loss_after < result.loss_before - 1
    config = json.loads((result.adapter / "adapter_config.json").read_text("utf-8"))
    assert of_config.items() <= config.items()
    steps = [event for event in events if isinstance(event, Step)]
    assert all(step.accuracy is not None and 0 <= step.accuracy <= 1 for step in steps)
    assert all(step.memory_bytes and step.memory_bytes <= (result.peak_memory_bytes or 0) for step in steps)


def test_full_tuning_is_published_as_its_own_weights(house: tuple[Settings, Registry]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings, registry = house
    result = train(
        style_rows(40), base="tiny", name="tuned-whole", settings=settings, registry=registry, threads=1,
        hyperparameters=Hyperparameters(epochs=2, tune="full"),
    )  # fmt: skip
    assert result.loss_after < result.loss_before - 1
    assert "a tenth for full tuning" in result.reasons["learning_rate"]
    assert "rank" not in result.reasons
    spec = registry.resolve("tuned-whole")
    assert (spec.kind, spec.base) == ("merged", "tiny")
    model = AutoModelForCausalLM.from_pretrained(str(spec.path))
    assert str(model.dtype) == "torch.bfloat16"
    assert AutoTokenizer.from_pretrained(str(spec.path)).chat_template


def test_a_dora_adapter_is_merged_to_be_served(house: tuple[Settings, Registry]) -> None:
    settings, registry = house
    train(
        style_rows(30), base="tiny", name="styled-dora", settings=settings, registry=registry, threads=1,
        hyperparameters=Hyperparameters(epochs=0.5, rank=4, dora=True),
    )  # fmt: skip
    assert registry.resolve("styled-dora").kind == "merged"


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_dpo_moves_the_preferred_answers_up_and_the_others_down(tune: Any, tiny_base: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    result = train(
        preference_rows(40), base=tiny_base, method="dpo", out=tmp_path / "run", threads=1, progress=events.append,
        hyperparameters=Hyperparameters(epochs=1, tune=tune, learning_rate=2e-4),
    )  # fmt: skip
    first, *_, last = [event for event in events if isinstance(event, Validation)]
    assert first.loss == pytest.approx(0.6931, abs=1e-3)  # log 2: before it learns, the model is its own reference
    assert first.margin == pytest.approx(0, abs=1e-3)
    assert last.margin is not None
    assert last.margin > 0.1
    assert (result.loss_after, result.accuracy_after, result.margin_after) == (last.loss, last.accuracy, last.margin)
    assert result.loss_after < first.loss
    assert result.accuracy_after == 1
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].margin is not None
    assert steps[-1].margin > (steps[0].margin or 0)
    assert result.method == "dpo"
    assert "beta" in result.reasons


def labelled_rows(number: int) -> list[dict[str, Any]]:
    """TRL's rows for KTO, with three good answers for each bad one."""
    pairs = preference_rows(number)
    return [
        {
            "prompt": row["input"]["messages"],
            "completion": row["preferred_output" if place % 4 else "non_preferred_output"],
            "label": bool(place % 4),
        }
        for place, row in enumerate(pairs)
    ]


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_kto_moves_good_answers_up_and_bad_ones_down(tune: Any, tiny_base: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    rows = labelled_rows(64)
    rows[0]["completion"] = [rows[0]["completion"][0] | {"reasoning_content": "They ask."}]
    rows[1]["rationale"] = "It was asked."
    result = train(
        rows, base=tiny_base, method="kto", out=tmp_path / "run", threads=1, progress=events.append,
        hyperparameters=Hyperparameters(epochs=1, tune=tune, learning_rate=5e-4),
    )  # fmt: skip
    first, *_, last = [event for event in events if isinstance(event, Validation)]
    assert first.margin == pytest.approx(0, abs=1e-3)  # before it learns, the model is its own reference
    assert last.margin is not None
    assert last.margin > 0.1
    assert result.loss_after < first.loss
    assert (result.loss_after, result.accuracy_after, result.margin_after) == (last.loss, last.accuracy, last.margin)
    assert result.method == "kto"
    assert "beta" in result.reasons
    kept = (tmp_path / "run" / "validation.jsonl").read_text("utf-8")
    assert "It is on its way" in kept
    assert "No idea" not in kept  # a bad answer is no reference
    assert {"unread-field", "reasoning-dropped"} <= {problem.code for problem in result.problems}
    warned = [event.message for event in events if isinstance(event, Stage) and event.message.startswith("Warning")]
    assert len(warned) == 1
    assert "leaves out the reasoning" in warned[0]


def test_labels_are_not_taken_for_conversations_nor_conversations_for_labels(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="labelled good or bad: use method kto"):
        train(labelled_rows(20), base=tiny_base, out=tmp_path / "one")
    with pytest.raises(Invalid, match="the data has no labels"):
        train(style_rows(20), base=tiny_base, method="kto", out=tmp_path / "two")
    with pytest.raises(Invalid, match="use at least 2"):
        train(labelled_rows(20), base=tiny_base, method="kto", out=tmp_path / "three",
              hyperparameters=Hyperparameters(batch_size=1))  # fmt: skip


def test_pairs_and_conversations_are_not_taken_for_one_another(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="use method dpo to learn from them"):
        train(preference_rows(20), base=tiny_base, out=tmp_path / "one")
    with pytest.raises(Invalid, match="learns from pairs of answers"):
        train(style_rows(20), base=tiny_base, method="dpo", out=tmp_path / "two")


def test_a_run_that_gets_no_better_stops_and_keeps_its_best(tiny_base: Path, tmp_path: Path) -> None:
    """At a rate far too high the loss soon rises: the run ends early, with the weights of its best validation."""
    events: list[Any] = []
    result = train(
        style_rows(40), base=tiny_base, out=tmp_path / "run", threads=1, progress=events.append,
        hyperparameters=Hyperparameters(
            epochs=6, rank=4, learning_rate=0.1, schedule="constant", warmup=0, early_stopping=2, validate_every=2
        ),
    )  # fmt: skip
    between = [event for event in events if isinstance(event, Validation)][1:-1]
    best = min(between, key=lambda event: event.loss)
    assert result.steps < 6 * 18
    assert result.best_step == best.step
    assert result.loss_after == pytest.approx(best.loss, abs=0.05)  # as saved: rounded to the base's 16 bits


def test_the_effective_batch_is_kept_when_it_is_worked_on_in_parts(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulated over parts, a step learns the same as in one piece."""
    import train.trainers.fit as fitting

    losses = []
    for parts in (1, 4):
        monkeypatch.setattr(fitting, "rows_at_once", lambda method, batch, *given, parts=parts: batch // parts)
        events: list[Any] = []
        train(
            style_rows(24), base=tiny_base, out=tmp_path / str(parts), threads=1, progress=events.append,
            validation=0, hyperparameters=Hyperparameters(epochs=1, rank=4, batch_size=8),
        )  # fmt: skip
        losses.append([event.loss for event in events if isinstance(event, Step)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_a_failure_in_several_processes_is_one_line(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    from models.errors import ParleyError

    broken = tmp_path / "broken"
    shutil.copytree(tiny_base, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ParleyError) as caught:
        train(style_rows(16), base=broken, out=tmp_path / "run", gpus=2, threads=2)
    assert "\n" not in str(caught.value)
    assert "cannot be loaded" in str(caught.value)
