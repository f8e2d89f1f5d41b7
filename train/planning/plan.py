"""Whether a training run fits this machine, how long it takes, and how the plan compares with a finished run.

Memory is calculated (`needs`). Time is measured with a few training steps, or estimated from the machine's matrix
products (`speeds`); the plan says which. Weights are loaded only for a measurement.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from models.errors import Invalid
from train.data.checks import Data, require_usable
from train.data.lengths import spread
from train.data.readers import Columns
from train.data.reports import CheckedData
from train.hyperparameters import Chosen, Hyperparameters, Method
from train.planning.machines import Machine, find_gpu, find_machine
from train.planning.needs import Need, Shape, Step, Tune, largest_that_fits, need
from train.planning.shapes import find_shape
from train.planning.speeds import (
    EXTRA_FORWARDS,
    Speed,
    TokenWork,
    Trial,
    estimate_speed,
    measure_speed,
    scale_speed,
)
from train.planning.spread import Spread, choose_spread
from train.request import TrainingRequest

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.settings.settings import Settings
    from train.trainers.bases import Base

TUNES: tuple[Tune, ...] = ("lora", "qlora", "full")
_SHARE = 0.9  # of the free memory that a run may use: allocators waste some
_TRIAL_SECONDS = 60.0  # a longer measurement, by the estimate, needs --measure


@dataclass(frozen=True)
class Way:
    """One tuning method on this machine: its memory, its time in seconds, and what would fit if it does not."""

    need: Need
    seconds: float
    tokens_per_s: float
    fits: bool
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run needs. `tokens` are those of one epoch, `tokens_seen` of all `steps`; `step.rows` is the micro-batch.
    A pair's tokens are those of both its conversations.

    `spread` is how several GPUs or nodes hold the model; None for one process.
    `speed` is that of the measured (or estimated) method; the other methods are scaled by their share of the work.
    """

    base: str
    method: Method
    machine: Machine
    shape: Shape
    step: Step
    precision: str
    examples: int
    tokens: int
    epochs: float
    steps: int
    tokens_seen: int
    batch_size: int
    max_length: int
    rank: int
    speed: Speed
    ways: tuple[Way, ...]
    spread: Spread | None = None

    def way(self, tune: str) -> Way:
        """The method with this name."""
        return next(way for way in self.ways if way.need.tune == tune)

    def to_json(self) -> dict[str, Any]:
        """For programs; in bytes and seconds."""
        ways = [asdict(way) | {"need": asdict(way.need) | {"total": way.need.total}} for way in self.ways]
        return asdict(self) | {"ways": ways}


@dataclass(frozen=True)
class _Size:
    """What decides whether a method fits: the model, one step of the run, the machine, and the lengths of the rows."""

    shape: Shape
    step: Step
    machine: Machine
    lengths: Sequence[int]

    @property
    def room(self) -> float:
        """The memory that the run may use, in bytes."""
        return _SHARE * self.machine.free

    def fits(self, tune: Tune, step: Step | None = None) -> bool:
        """Whether a method fits, with this or another step."""
        return need(tune, self.shape, step or self.step).total <= self.room


@dataclass(frozen=True)
class RunComparison:
    """A plan beside what a finished run used. Ratios are used / planned; None if the run did not record it."""

    plan: Plan
    run: str
    tune: Tune
    memory_planned: int
    memory_used: int | None
    seconds_planned: float
    seconds_used: float
    tokens_planned: int
    tokens_used: int

    @property
    def memory_ratio(self) -> float | None:
        """Used memory / planned memory."""
        return self.memory_used / self.memory_planned if self.memory_used else None

    @property
    def seconds_ratio(self) -> float:
        """Used time / planned time."""
        return self.seconds_used / self.seconds_planned

    @property
    def tokens_ratio(self) -> float:
        """Tokens trained on / tokens planned."""
        return self.tokens_used / self.tokens_planned

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        ratios = {"memory": self.memory_ratio, "seconds": self.seconds_ratio, "tokens": self.tokens_ratio}
        return asdict(self) | {"plan": self.plan.to_json(), "used_over_planned": ratios}


def plan(
    data: Data | TrainingRequest,
    *,
    checked: CheckedData | None = None,
    settings: "Settings | None" = None,
    registry: "Registry | None" = None,
    measure: bool | None = None,
    gpu: str | None = None,
    **fields: Any,
) -> Plan:
    """Plans a run on this machine or for another GPU: LoRA, QLoRA and full tuning.

    Args:
        data: training data, with the other fields of `TrainingRequest` as keywords (`base` is required); or a
            TrainingRequest. `tune` is what is measured. `method` is read from the data: pairs are planned for DPO,
            labelled answers for KTO, and conversations for supervised training.
        checked: the result of `check` on the data, if it is known; the data itself is then not read.
        settings: for the device. registry: where the base is looked up.
        measure: True: measure a few steps; False: estimate; None: measure if that is quick by the estimate.
        gpu: plan for one of `machines.GPUS` instead of this machine; nothing is measured then.

    Raises:
        UnusableData: nothing to train on. Invalid, Unavailable: the base cannot be used.
    """
    from train.trainers.bases import load_tokenizer, require_plain_weights
    from train.trainers.preparation import check_data, divide, fold_for_template, prepare
    from train.trainers.runtime import Device, find_device, quiet

    request = data if isinstance(data, TrainingRequest) else TrainingRequest(data, **fields)
    checked = require_usable(checked) if checked else check_data(request)
    method: Method = "kto" if checked.labels else "dpo" if checked.preferences else "sft"
    request = replace(request, method=method)
    source = _find_source(request, registry)
    require_plain_weights(source)
    card = find_gpu(gpu) if gpu else None
    device = Device("cuda", bf16=True) if card else find_device(settings)
    with quiet():
        tokenizer = load_tokenizer(source)
        parts = fold_for_template(divide(checked, request), request, tokenizer)
        prepared = prepare(parts, request, source, tokenizer, device)
    chosen = prepared.resolved.values
    tune = cast(Tune, chosen.tune)
    lengths = [row.longest for row in prepared.rows]
    processes = request.gpus * request.nodes
    step = _step(chosen, device.kind, lengths, processes)
    lengths = [row.tokens for row in prepared.rows]
    machine = card.machine if card else find_machine(device.kind, device.bf16)
    size = _Size(find_shape(source), step, machine, lengths)
    tokens, learnt = sum(lengths), sum(row.learnt for row in prepared.rows)
    mean = tokens / len(lengths) / (2 if method == "dpo" else 1)
    work = TokenWork(size.shape, mean, learnt / tokens, step.checkpointing, EXTRA_FORWARDS[method])
    speed = estimate_speed(tune, work, step, card)
    obstacle = "this machine does not have the GPU" if card else "" if size.fits(tune) else "the run does not fit"
    short = speed.trial_seconds(lengths, chosen.batch_size) < _TRIAL_SECONDS
    if not obstacle and (measure or (measure is None and short)):
        trial = Trial(request.hyperparameters, chosen.batch_size, method, request.threads)
        speed = measure_speed(parts.train, source, trial, settings, speed)
    elif measure:
        speed = replace(speed, how=f"{speed.how}; not measured, because {obstacle}")
    steps_per_epoch = math.ceil(len(lengths) / chosen.batch_size)
    steps = max(1, round(steps_per_epoch * chosen.epochs))  # rounded as in training
    tokens_seen = round(tokens * steps / steps_per_epoch)
    return Plan(
        base=source.name,
        method=method,
        machine=size.machine,
        shape=size.shape,
        step=step,
        precision=chosen.precision,
        examples=prepared.examples,
        tokens=tokens,
        epochs=chosen.epochs,
        steps=steps,
        tokens_seen=tokens_seen,
        batch_size=chosen.batch_size,
        max_length=chosen.max_length,
        rank=chosen.rank,
        speed=speed,
        ways=tuple(_way(other, size, scale_speed(speed, work, tune, other), tokens_seen) for other in TUNES),
        spread=choose_spread(tune, size.shape, step, size.machine, processes) if processes > 1 else None,
    )


def _find_source(request: TrainingRequest, registry: "Registry | None") -> "Base":
    """The weights that a run starts from. An adapter is merged into its base first, so its sizes are the base's."""
    from train.trainers.bases import find_base, with_options

    source = with_options(find_base(request.base, registry), request.chat_template, trust_remote_code=False)
    if not source.is_adapter:
        return source
    below = find_base(str(source.spec and source.spec.base), registry)
    return with_options(replace(below, name=source.name), request.chat_template, trust_remote_code=False)


def compare_with_run(
    run_folder: Path,
    checked: CheckedData | None = None,
    *,
    settings: "Settings | None" = None,
    registry: "Registry | None" = None,
    measure: bool | None = None,
) -> RunComparison:
    """Plans a finished run again, from its config, and compares the plan with what the run used.

    Args:
        run_folder: the folder of the run.
        checked: the result of `check` on its data. Default: the file in its config is checked.

    Raises:
        Invalid: not a finished run, or its data is missing.
    """
    from train.run.folder import CONFIG, load_result, read_json

    result = load_result(run_folder)
    config = dict(read_json(run_folder / CONFIG).get("asked") or {})
    if checked is None and config.get("data") is None:
        raise Invalid("The data of this run was in memory, so it must be given again.", param="data")
    share = config.get("validation")
    request = TrainingRequest(
        config.get("data") or (),
        config.get("base") or result.base_location,
        hyperparameters=Hyperparameters.from_dict(config.get("hyperparameters") or {}),
        columns=Columns(**config["columns"]) if config.get("columns") else None,
        format=config.get("format") or "auto",
        validation=share if isinstance(share, int | float) else 0.0,
        threads=config.get("threads"),
        chat_template=config.get("chat_template"),
    )
    made = plan(request, checked=checked, settings=settings, registry=registry, measure=measure)
    way = made.way(str(result.hyperparameters.get("tune", "lora")))
    return RunComparison(
        plan=made,
        run=run_folder.name,
        tune=way.need.tune,
        memory_planned=way.need.total,
        memory_used=result.peak_memory_bytes,
        seconds_planned=way.seconds,
        seconds_used=result.seconds,
        tokens_planned=made.tokens_seen,
        tokens_used=result.tokens,
    )


def _step(chosen: Chosen, device: str, lengths: Sequence[int], processes: int) -> Step:
    """One step of a process of a run with these (resolved) hyperparameters."""
    from train.trainers.fit_job import rows_at_once

    longest, packed = max(lengths), chosen.packing == "packed"
    rows = rows_at_once(chosen.method, chosen.batch_size // processes, longest)
    return Step(
        rows=2 * rows if chosen.method == "dpo" else rows,
        longest=longest,
        rank=chosen.rank,
        bytes_each=4 if chosen.precision == "fp32" else 2,
        checkpointing=chosen.checkpointing,
        device=device,
        masked=chosen.method != "sft" or (device == "cuda" and not packed),
        # A batch has rows of similar lengths, so the longest ones may come together.
        packed=sum(sorted(lengths)[-rows:]) if packed else None,
        compared=chosen.method != "sft",
    )


def _way(tune: Tune, size: "_Size", tokens_per_s: float, tokens: int) -> Way:
    fits = size.fits(tune)
    return Way(
        need=need(tune, size.shape, size.step),
        seconds=tokens / tokens_per_s,
        tokens_per_s=tokens_per_s,
        fits=fits,
        advice=() if fits else _what_would_fit(tune, size),
    )


def _what_would_fit(tune: Tune, size: "_Size") -> tuple[str, ...]:
    """Changes that make a method fit, the mildest first, each added to those before it."""
    step, changes = size.step, []
    shorter = spread(size.lengths).p95
    for change, milder in (
        ("one row at a time (training falls back to it by itself)", replace(step, rows=1)),
        ("--checkpointing on", replace(step, rows=1, checkpointing=True)),
        (
            f"--max-length {shorter:,} (5 % of the rows are longer and would be left out)",
            replace(step, rows=1, checkpointing=True, longest=shorter),
        ),
    ):
        if milder == step:
            continue
        step = milder
        changes.append(change)
        if size.fits(tune, step):
            return tuple(changes)
    for other in TUNES[: TUNES.index("full")]:
        if other != tune and size.fits(other, step):
            return (*changes, f"--tune {other}")
    largest = largest_that_fits(tune, size.shape, step, size.room)
    return (f"a smaller base, of about {largest / 1e9:.2g} billion parameters at most",)
