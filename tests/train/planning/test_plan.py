"""Plans: sizes from a config alone, verdicts with what would fit, and a plan compared with a real run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings
from tests.train.conftest import style_rows
from train import train
from train.data.checks import check
from train.hyperparameters import Hyperparameters, Method
from train.planning.machines import Machine, find_machine
from train.planning.needs import Shape, Step, need
from train.planning.plan import Plan, Way, compare_with_run, plan
from train.planning.shapes import find_shape, shape_of
from train.planning.speeds import Speed, TokenWork, estimate_speed, scale_speed
from train.request import TrainingRequest
from train.trainers.bases import find_base, load_model

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def made(tiny_base: Path) -> Plan:
    """A plan for the tiny base, its time estimated."""
    request = TrainingRequest((), tiny_base, hyperparameters=Hyperparameters(epochs=2, rank=8))
    return plan(request, checked=check(style_rows(120)), measure=False)


def test_a_base_s_sizes_are_known_without_its_weights(tiny_base: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    base = find_base(tiny_base)
    shape = find_shape(base)
    model: Any = load_model(base, torch.float32, "cpu")
    assert shape.parameters == model.num_parameters()
    assert (shape.layers, shape.width, shape.inner, shape.context) == (2, 64, 128, 2048)
    assert (shape.attention, shape.keys) == (64, 32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4))
    assert need("lora", shape, _step(rank=4)).trained == adapted.get_nb_trainable_parameters()[0]


GEMMA_3N = {
    "intermediate_size": [128, 64], "num_hidden_layers": 2, "head_dim": 16, "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0],
    "vocab_size_per_layer_input": 100, "hidden_size_per_layer_input": 8, "num_key_value_heads": 2,
    "num_attention_heads": 4,
}  # fmt: skip


QUESTIONS = [f"Where is order {place}?" for place in range(60)]
PAIRS = [{"prompt": text, "chosen": f"In Riga, {text}", "rejected": "No."} for text in QUESTIONS]
LABELS = [
    {"prompt": text, "completion": f"In Riga, {text}", "label": bool(place % 2)} for place, text in enumerate(QUESTIONS)
]


@pytest.mark.parametrize(("method", "rows", "sides"), [("dpo", PAIRS, 2), ("kto", LABELS, 1)])
def test_pairs_and_labelled_answers_are_planned_for_their_method(
    method: Method, rows: list[dict[str, Any]], sides: int, tiny_base: Path, tmp_path: Path
) -> None:
    values = Hyperparameters(epochs=1, rank=4, batch_size=4)
    made = plan(TrainingRequest(rows, tiny_base, hyperparameters=values), measure=False)
    texts = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row.get("chosen") or row["completion"]},
            ]
        }
        for row in rows
    ]
    same = plan(TrainingRequest(texts, tiny_base, hyperparameters=values), measure=False)
    assert (made.method, made.examples, made.steps) == (method, 54, 14)
    assert made.step.rows == 4 * sides
    assert (same.tokens < made.tokens < 2 * same.tokens) is (sides == 2)  # both sides of a pair; one answer is short
    # Passes of the base besides the training's, and in full tuning a second copy of it.
    assert made.way("full").need.weights == 2 * same.way("full").need.weights
    assert made.way("lora").need.weights == same.way("lora").need.weights
    result = train(rows, base=tiny_base, out=tmp_path / "run", method=method, hyperparameters=values, threads=2)
    against = compare_with_run(result.run_folder, check(rows, provider="local"), measure=True)
    assert against.plan.speed.way == "tried"
    assert against.tokens_ratio == pytest.approx(1, abs=0.02)
    assert against.memory_ratio is not None
    assert 0.3 < against.memory_ratio < 4  # a tiny model: the program needs nearly all of the memory


def test_the_comparison_with_the_base_costs_forward_passes() -> None:
    layers = TokenWork(replace(SMALL, vocabulary=0, attention=0), 64.0)
    assert replace(layers, extra_forwards=1).operations("lora") == 6 * SMALL.linear
    assert replace(layers, extra_forwards=3).operations("full") == 12 * SMALL.linear


@pytest.mark.parametrize(
    ("kind", "sizes", "expected"),
    [
        ("gemma3n_text", GEMMA_3N, (64, 128)),
        ("mamba", {"num_hidden_layers": 2, "intermediate_size": 128}, (0, 128)),
    ],
)
def test_layers_of_several_sizes_or_without_attention_have_a_plan(
    kind: str, sizes: dict[str, Any], expected: tuple[int, int]
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, hidden_size=64, vocab_size=100, **sizes)
    with torch.device("meta"):
        shape = shape_of(AutoModelForCausalLM.from_config(config))
    assert (shape.attention, shape.inner) == expected


def _step(**values: Any) -> Step:
    step = Step(rows=2, longest=64, rank=8, bytes_each=4, checkpointing=False, device="cpu")
    return replace(step, **values)


def test_a_plan_says_what_each_way_needs_and_how_it_knows(made: Plan) -> None:
    assert [way.need.tune for way in made.ways] == ["lora", "qlora", "full"]
    assert all(way.fits and not way.advice for way in made.ways)
    assert made.speed.way == "estimated"
    assert "operations per token" in made.speed.how
    lora, full = made.way("lora"), made.way("full")
    assert lora.seconds == pytest.approx(made.tokens_seen / lora.tokens_per_s)
    assert made.tokens_seen == made.tokens * 2
    assert full.seconds > lora.seconds
    assert (made.rank, made.epochs, made.examples) == (8, 2, 108)  # a tenth is held out
    assert json.loads(json.dumps(made.to_json()))["ways"][0]["need"]["total"] == lora.need.total


SMALL = Shape(10**6, 10**6, 1000, 4, 128, 128, 128, 512, 1000, 1000)


def test_the_work_of_the_ways() -> None:
    layers = TokenWork(replace(SMALL, vocabulary=0, attention=0), 64.0)
    assert layers.operations("lora") == 4 * SMALL.linear
    assert layers.operations("full") == 6 * SMALL.linear
    assert replace(layers, checkpointing=True).operations("lora") == 6 * SMALL.linear
    speed = Speed(300.0, "tried", "")
    assert scale_speed(speed, layers, "full", "lora") == pytest.approx(450)
    assert scale_speed(speed, layers, "lora", "lora") == 300
    assert scale_speed(speed, layers, "lora", "qlora") < 300


def test_the_last_layer_costs_only_what_is_learnt() -> None:
    whole, half = (TokenWork(replace(SMALL, vocabulary=10**6), 64.0, learnt=share) for share in (1.0, 0.5))
    head = 4 * 10**6 * SMALL.width
    assert whole.operations("lora") - half.operations("lora") == head / 2


def test_the_estimate_falls_with_the_size_of_the_model() -> None:
    large = replace(SMALL, linear=10**9)
    small, big = (estimate_speed("lora", TokenWork(shape, 64.0), _step()) for shape in (SMALL, large))
    assert small.tokens_per_s > 50 * big.tokens_per_s


def test_a_plan_that_does_not_fit_names_one_that_would(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> None:
    wide = Shape(
        parameters=8_000_000_000, linear=7_000_000_000, adapter_per_rank=2_600_000, layers=32, width=4096,
        attention=4096, keys=1024, inner=14_336, vocabulary=128_000, context=8192,
    )  # fmt: skip

    def planned(free_gb: float) -> Plan:
        machine = Machine("cuda", "a GPU of 80 GB", int(80e9), int(free_gb * 1e9), True)
        monkeypatch.setattr("train.planning.plan.find_shape", lambda base: wide)
        monkeypatch.setattr("train.planning.plan.find_machine", lambda device, bf16: machine)
        return plan(TrainingRequest(style_rows(120), tiny_base), measure=False)

    def way(free_gb: float, tune: str) -> Way:
        return planned(free_gb).way(tune)

    assert way(80, "lora").fits
    assert not way(80, "full").fits
    assert "--tune lora" in " ".join(way(80, "full").advice)
    tight = way(12, "lora")
    assert not tight.fits
    assert "--tune qlora" in " ".join(tight.advice)
    hopeless = way(3, "qlora")
    assert "billion parameters at most" in " ".join(hopeless.advice)


def test_a_gpu_that_is_not_here_is_planned_from_its_data_sheet(tiny_base: Path, made: Plan) -> None:
    away = plan(TrainingRequest(style_rows(120), tiny_base), gpu="rtx-4090", measure=True)
    assert (away.machine.device, away.machine.memory, away.precision) == ("cuda", 24 * 2**30, "bf16")
    assert "data sheet of NVIDIA RTX 4090" in away.speed.how
    assert "not measured, because this machine does not have the GPU" in away.speed.how
    assert away.speed.tokens_per_s > 20 * made.speed.tokens_per_s


def test_this_machine_has_memory() -> None:
    machine = find_machine("cpu")
    assert 0 < machine.free <= machine.memory
    assert "cores" in machine.name


def test_a_folder_that_holds_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no finished training run"):
        compare_with_run(tmp_path)


def test_a_plan_is_held_against_what_a_real_run_used(trained: Any, house: tuple[Settings, Registry]) -> None:
    result, _ = trained
    settings, registry = house
    with pytest.raises(Invalid, match="in memory"):
        compare_with_run(result.run_folder, settings=settings, registry=registry)
    checked = check(style_rows(120))
    against = compare_with_run(result.run_folder, checked, settings=settings, registry=registry, measure=True)
    assert against.plan.speed.way == "tried"
    assert against.tokens_ratio == pytest.approx(1, abs=0.02)
    assert against.memory_used == result.peak_memory_bytes
    # A tiny model in a process that has run other tests: the program needs nearly all of the memory.
    assert against.memory_ratio is not None
    assert 0.3 < against.memory_ratio < 4
    assert 0.02 < against.seconds_ratio < 50  # other programs may have been running at either time
    assert json.loads(json.dumps(against.to_json()))["used_over_planned"]["tokens"] == against.tokens_ratio
