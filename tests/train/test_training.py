"""train/training.py and train/trainers/sft.py: a real run on a tiny base, from rows to a served adapter's files."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings
from tests.train.conftest import style_rows
from train import Hyperparameters, train
from train.run.folder import load_result
from train.run.progress import Step, Validation

pytestmark = pytest.mark.training


def test_the_loss_falls_on_examples_that_were_not_learnt(trained: Any) -> None:
    result, events = trained
    assert result.measured_on == "validation"
    assert result.loss_after < result.loss_before - 0.5
    assert (result.examples, result.validation_examples) == (108, 12)
    assert len((result.run_folder / "validation.jsonl").read_text().splitlines()) == 12
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.step for step in steps] == list(range(1, result.steps + 1))
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].tokens == result.tokens
    assert steps[-1].seconds_left == 0
    assert [event.loss for event in events if isinstance(event, Validation)][-1] == result.loss_after


def test_the_run_folder_is_complete(trained: Any) -> None:
    result, _ = trained
    rows = [json.loads(line) for line in (result.run_folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in row for row in rows) == result.steps
    assert rows[0]["step"] == 0
    assert rows[0]["validation_loss"] == pytest.approx(result.loss_before, rel=1e-5)
    assert rows[-1]["validation_accuracy"] == pytest.approx(result.accuracy_after, rel=1e-5)
    config = json.loads((result.run_folder / "config.json").read_text())
    assert config["hyperparameters"]["learning_rate"] == 0.004
    assert "width 64" in config["reasons"]["learning_rate"]
    assert "Loading tiny" in (result.run_folder / "train.log").read_text()
    stored = load_result(result.run_folder)
    assert (stored.loss_after, stored.tokens, stored.problems) == (result.loss_after, result.tokens, result.problems)


def test_every_linear_layer_has_an_adapter_and_no_path_is_kept(trained: Any, tiny_base: Path) -> None:
    result, _ = trained
    config = json.loads((result.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    assert str(tiny_base.parent) not in (result.adapter / "adapter_config.json").read_text()
    with safe_open(result.adapter / "adapter_model.safetensors", "pt") as file:
        assert len(list(file.keys())) == 2 * 2 * 7
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118


def test_the_same_seed_gives_the_same_bytes(tiny_base: Path, tmp_path: Path) -> None:
    """Also: a run without settings or registry, into a folder of the caller's."""
    made = []
    for number in (1, 2):
        result = train(
            style_rows(40),
            base=tiny_base,
            out=tmp_path / str(number),
            base_name="demo-base",
            hyperparameters=Hyperparameters(epochs=1, rank=4, seed=3),
            validation=0,
            threads=2,
        )
        assert result.model is None
        assert result.measured_on == "training"
        files = sorted(result.adapter.iterdir())
        assert [file.name for file in files] == ["adapter_config.json", "adapter_model.safetensors"]
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]
    with pytest.raises(Invalid, match="holds a run already"):
        train(style_rows(40), base=tiny_base, out=tmp_path / "1")


def test_only_the_assistants_words_change_the_model(tiny_base: Path, tmp_path: Path) -> None:
    """Two sets that differ only in a last turn without an answer must train the same adapter."""
    import torch
    from safetensors.torch import load_file

    tails = []
    for number, question in enumerate(("thanks!!", "no way??")):
        rows = [{"messages": [*row["messages"], {"role": "user", "content": question}]} for row in style_rows(20)]
        result = train(
            rows, base=tiny_base, out=tmp_path / str(number), hyperparameters=Hyperparameters(epochs=1, rank=4),
            validation=0, threads=2,
        )  # fmt: skip
        tails.append(load_file(result.adapter / "adapter_model.safetensors"))
    assert all(torch.allclose(tails[0][name], tails[1][name], atol=1e-3) for name in tails[0])


def test_nan_stops_with_the_step(tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train.trainers.progress_callback import TrainingDiverged

    model = AutoModelForCausalLM.from_pretrained(str(tiny_base))
    model.model.norm.weight.data.fill_(torch.nan)
    model.save_pretrained(str(tmp_path / "broken"))
    AutoTokenizer.from_pretrained(str(tiny_base)).save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(TrainingDiverged, match="at step 1"):
        train(style_rows(20), base=tmp_path / "broken", out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    assert "Ended: The loss is nan at step 1" in (tmp_path / "run" / "train.log").read_text()


def test_validation_may_be_data_of_its_own(tiny_base: Path, tmp_path: Path) -> None:
    result = train(
        style_rows(20),
        base=tiny_base,
        out=tmp_path / "run",
        validation=style_rows(30, seed=5),
        hyperparameters=Hyperparameters(epochs=0.2),
    )
    assert (result.examples, result.validation_examples, result.measured_on) == (20, 30, "validation")


def test_faults_of_validation_data_are_reported_and_learnt_rows_are_not_measured(
    tiny_base: Path, tmp_path: Path
) -> None:
    learnt, held = style_rows(20), style_rows(12, seed=5)
    result = train(
        learnt,
        base=tiny_base,
        out=tmp_path / "run",
        validation=[*held, learnt[3], {"messages": []}],
        hyperparameters=Hyperparameters(epochs=0.2),
    )
    assert (result.examples, result.validation_examples) == (20, 12)
    warnings = {problem.line: problem.message for problem in result.problems if "validation data:" in problem.message}
    assert {13, 14} <= warnings.keys()


def test_each_answer_can_be_an_example_and_the_format_be_named(tiny_base: Path, tmp_path: Path) -> None:
    data = tmp_path / "talks.jsonl"
    names = ("human", "gpt", "human", "gpt")
    talks = [
        {"conversations": [{"from": name, "value": f"{name} says {day} {place}"} for place, name in enumerate(names)]}
        for day in range(6)
    ]
    data.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    steps = [
        train(
            data, base=tiny_base, out=tmp_path / f"run-{per_turn}", format="sharegpt", per_turn=per_turn, validation=0,
            hyperparameters=Hyperparameters(epochs=1, batch_size=1),
        ).steps
        for per_turn in (False, True)
    ]  # fmt: skip
    assert steps == [6, 12]
    with pytest.raises(Invalid, match="no usable example; 6 lines have errors"):
        train(data, base=tiny_base, out=tmp_path / "other", format="alpaca")


def test_qlora_trains_on_a_cpu(tiny_base: Path, tmp_path: Path) -> None:
    result = train(
        style_rows(60),
        base=tiny_base,
        out=tmp_path / "run",
        hyperparameters=Hyperparameters(epochs=1, tune="qlora"),
        threads=2,
    )
    assert result.loss_after < result.loss_before


def test_a_listener_that_raises_ends_the_run(tiny_base: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def listen(event: Any) -> None:
        if isinstance(event, Step) and event.step == 2:
            raise Enough

    with pytest.raises(Enough):
        train(style_rows(20), base=tiny_base, out=tmp_path / "run", progress=listen)


def test_an_adapter_as_base_is_merged_first_and_a_hosted_model_refused(
    trained: Any, house: tuple[Settings, Registry]
) -> None:
    from models.spec import BotProfile, ModelSpec, Upstream

    first, _ = trained
    settings, registry = house
    profile = BotProfile(title="Styled", greeting="Hello")
    registry.register(registry.resolve("styled").model_copy(update={"id": "styled-bot", "bot": profile}))
    result = train(
        style_rows(40, seed=9),
        base="styled-bot",
        name="styled-again",
        settings=settings,
        registry=registry,
        hyperparameters=Hyperparameters(epochs=0.3, rank=4),
        threads=2,
    )
    assert result.loss_before == pytest.approx(first.loss_after, abs=0.1)  # it starts where the first one ended
    spec = registry.resolve("styled-again")
    assert (spec.kind, spec.base, spec.parent) == ("merged", "tiny", "styled-bot")
    assert spec.bot is None  # the profile introduces another model
    assert not (result.run_folder / "merged-base").exists()
    upstream = Upstream(base_url="https://example.com/v1", model="far")
    registry.register(ModelSpec(id="far", kind="hosted", upstream=upstream))
    with pytest.raises(Invalid, match="hosted"):
        train(style_rows(40), base="far", name="x", settings=settings, registry=registry)


def test_batches_are_of_like_length_in_random_order() -> None:
    from train.trainers.packing import SimilarLengthSampler

    lengths = [length for length in range(1, 201) for _ in range(2)]
    sampler = SimilarLengthSampler(lengths, 8, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(400))
    assert first != second
    assert first == list(SimilarLengthSampler(lengths, 8, seed=1))
    batches = [[lengths[place] for place in first[start : start + 8]] for start in range(0, 400, 8)]
    padded = sum(max(batch) * 8 for batch in batches) / sum(lengths)
    assert padded < 1.15
    middles = [sum(batch) / 8 for batch in batches]
    assert middles != sorted(middles)
    assert middles != sorted(middles, reverse=True)
