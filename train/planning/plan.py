"""Whether a training run fits this machine, how long it would take, and how the plan compares with what a run used.

Memory is by formula (`needs`). Time is by a trial of a few steps with training's own code, or by an estimate from the
machine's matrix products; the plan says which. Weights are loaded only for a trial. Costs in money are `pricing`'s.
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
from train.hyperparameters import Hyperparameters
from train.planning.needs import Need, Shape, Step, Tune, largest_that_fits, need
from train.planning.speeds import Speed, estimate_speed, scale_speed, try_out
from train.request import TrainingRequest

if TYPE_CHECKING:
    from models.registry import Registry
    from models.settings import Settings
    from train.trainers.bases import Base

TUNES: tuple[Tune, ...] = ("lora", "qlora", "full")
_SHARE = 0.9  # of the free memory that a plan may fill: allocators waste some
_TRIAL_SECONDS = 60.0  # a trial that would take longer, by the estimate, is made only when asked for


@dataclass(frozen=True)
class Machine:
    """What trains: `device` is "cpu" or "cuda"; memory in bytes, of the GPU where there is one, else of the system."""

    device: str
    name: str
    memory: int
    free: int
    bf16: bool


@dataclass(frozen=True)
class Way:
    """One way of tuning on this machine: its memory, its time in seconds, and what would fit where it does not."""

    need: Need
    seconds: float
    tokens_per_s: float
    fits: bool
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run would need. `tokens` are of one epoch, `tokens_seen` of all `steps`; `step.rows` is the micro-batch.

    `speed` says how the time was found; the ways that were not tried themselves are scaled from it by their share of
    the work, and so are estimates.
    """

    base: str
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

    def way(self, tune: str) -> Way:
        """One of the ways."""
        return next(way for way in self.ways if way.need.tune == tune)

    def as_json(self) -> dict[str, Any]:
        """For programs; bytes and seconds."""
        ways = [asdict(way) | {"need": asdict(way.need) | {"total": way.need.total}} for way in self.ways]
        return asdict(self) | {"ways": ways}


@dataclass(frozen=True)
class RunComparison:
    """A plan beside what a finished run used. Ratios are used / planned; None where the run did not record it."""

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
        """Memory used for each byte planned."""
        return self.memory_used / self.memory_planned if self.memory_used else None

    @property
    def seconds_ratio(self) -> float:
        """Time used for each second planned."""
        return self.seconds_used / self.seconds_planned

    @property
    def tokens_ratio(self) -> float:
        """Tokens seen for each one planned."""
        return self.tokens_used / self.tokens_planned

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        ratios = {"memory": self.memory_ratio, "seconds": self.seconds_ratio, "tokens": self.tokens_ratio}
        return asdict(self) | {"plan": self.plan.as_json(), "used_over_planned": ratios}


def plan(
    data: Data | CheckedData,
    base: str | Path,
    *,
    settings: "Settings | None" = None,
    registry: "Registry | None" = None,
    hyperparameters: Hyperparameters | None = None,
    columns: Columns | None = None,
    validation: float = 0.1,
    measure: bool | None = None,
    threads: int | None = None,
) -> Plan:
    """Plans a supervised run on this machine, for LoRA, QLoRA and full tuning.

    Args:
        data: as `train` takes it, or what `check` returned.
        base: a registered model, a folder or a hub id.
        settings: for the device. registry: where the base is looked up.
        hyperparameters: as `train` takes them; `tune` says which way is tried out.
        columns: names the columns of a CSV.
        validation: the share that is held out, as in `train`.
        measure: try a few steps out, or never; None: where the trial would be short by the estimate.
        threads: CPU threads of the trial, as in `train`.

    Raises:
        UnusableData: nothing to train on. Invalid, Unavailable: the base cannot be.
    """
    from train.trainers.bases import find_base, load_tokenizer
    from train.trainers.batches import micro_batch
    from train.trainers.devices import find_device
    from train.trainers.library_output import quiet
    from train.trainers.preparation import check_data, divide, prepare

    asked = hyperparameters or Hyperparameters()
    source_data = () if isinstance(data, CheckedData) else data
    request = TrainingRequest(source_data, base, hyperparameters=asked, validation=validation, columns=columns)
    checked = require_usable(data) if isinstance(data, CheckedData) else check_data(request)
    if not checked.examples:
        raise Invalid("Plans are for supervised training, and these are preference pairs.", param="data")
    source = find_base(base, registry)
    if source.is_adapter:  # it is merged into its base before training: the sizes are its base's
        source = replace(find_base(str(source.spec and source.spec.base), registry), name=source.name)
    device = find_device(settings)
    with quiet():
        prepared = prepare(divide(checked, request), request, source, load_tokenizer(source), device)
    chosen = prepared.resolved.values
    tune = cast(Tune, chosen.tune)
    lengths = [row.longest for row in prepared.rows]
    step = Step(
        rows=micro_batch(chosen.batch_size, max(lengths)),
        longest=max(lengths),
        rank=chosen.rank,
        bytes_each=4 if chosen.precision == "fp32" else 2,
        checkpointing=chosen.checkpointing,
        device=device.kind,
        masked=device.kind == "cuda" and chosen.packing != "packed",
    )
    shape, machine = find_shape(source), find_machine(device.kind, device.bf16)
    estimate = estimate_speed(tune, shape, step, sum(lengths) / len(lengths))
    fits = need(tune, shape, step).total <= _SHARE * machine.free
    short = estimate.trial_seconds(lengths, chosen.batch_size) < _TRIAL_SECONDS
    if fits and (measure or (measure is None and short)):
        speed = try_out(checked.examples, source, asked, chosen.batch_size, settings, threads, estimate)
    else:
        speed = replace(estimate, how=f"{estimate.how}; not tried, because it does not fit") if measure else estimate
    an_epoch = math.ceil(len(lengths) / chosen.batch_size)
    steps = max(1, round(an_epoch * chosen.epochs))  # as training rounds them
    seen = round(sum(lengths) * steps / an_epoch)
    ways = tuple(_way(other, shape, step, machine, speed, tune, seen, lengths) for other in TUNES)
    return Plan(
        base=source.name,
        machine=machine,
        shape=shape,
        step=step,
        precision=chosen.precision,
        examples=prepared.examples,
        tokens=sum(lengths),
        epochs=chosen.epochs,
        steps=steps,
        tokens_seen=seen,
        batch_size=chosen.batch_size,
        max_length=chosen.max_length,
        rank=chosen.rank,
        speed=speed,
        ways=ways,
    )


def compare_with_run(
    run_folder: Path,
    data: Data | CheckedData | None = None,
    *,
    settings: "Settings | None" = None,
    registry: "Registry | None" = None,
    measure: bool | None = None,
) -> RunComparison:
    """Makes the plan of a finished run again, from what it was asked, and holds it against what the run used.

    Args:
        run_folder: the run's folder.
        data: what it learnt from; without it the file that its config names.

    Raises:
        Invalid: no finished run, one that is not supervised, or its data is not there any more.
    """
    from train.run.folder import CONFIG, read_json
    from train.run.result import load_result

    result = load_result(run_folder)
    if result.method != "sft":
        raise Invalid(f"The run {run_folder.name} is {result.method}: plans are for supervised runs.", param="run")
    asked = dict(read_json(run_folder / CONFIG).get("asked") or {})
    data = data if data is not None else asked.get("data")
    if data is None:
        raise Invalid("This run's data was in memory: give the data, to plan from it again.", param="data")
    share = asked.get("validation")
    made = plan(
        data,
        asked.get("base") or result.base_location,
        settings=settings,
        registry=registry,
        hyperparameters=Hyperparameters.from_dict(asked.get("hyperparameters") or {}),
        columns=Columns(**asked["columns"]) if asked.get("columns") else None,
        validation=share if isinstance(share, int | float) else 0.0,
        measure=measure,
        threads=asked.get("threads"),
    )
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


def find_shape(base: "Base") -> Shape:
    """A base's sizes, from its config alone: the model is built without memory (torch's meta device).

    Raises:
        Unavailable: the config cannot be loaded. Invalid: it is no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from train.trainers.bases import load_config
    from train.trainers.library_output import quiet

    config = load_config(base)
    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=base.trust_remote_code)
    except ValueError as error:
        raise Invalid(f"{base.name} is no causal language model that transformers knows.", param="base") from error
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    width = int(config.hidden_size)
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", 0) or width // heads)
    return Shape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        linear=sum(layer.weight.numel() for layer in linear),
        adapter_per_rank=sum(layer.in_features + layer.out_features for layer in linear),
        layers=int(config.num_hidden_layers),
        width=width,
        attention=heads * size,
        keys=int(getattr(config, "num_key_value_heads", 0) or heads) * size,
        inner=int(getattr(config, "intermediate_size", 0) or 4 * width),
        vocabulary=int(config.vocab_size),
        context=int(getattr(config, "max_position_embeddings", 0) or 0),
    )


def find_machine(device: str, bf16: bool = False) -> Machine:
    """The device's name and memory, as it is now. A container's limit counts where the system has more."""
    if device == "cuda":
        import torch

        free, whole = torch.cuda.mem_get_info()
        return Machine(device, torch.cuda.get_device_name(), whole, free, bf16)
    import psutil

    memory = psutil.virtual_memory()
    limit, used = _container_memory()
    free = min(memory.available, limit - used) if limit else memory.available
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process(), "cpu_affinity") else psutil.cpu_count()
    return Machine(device, f"CPU, {cores} cores", min(memory.total, limit or memory.total), max(0, free), bf16)


def _container_memory() -> tuple[int | None, int]:
    """A control group's limit and what it uses, in bytes; None where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        return (int(limit), int((folder / "memory.current").read_text())) if limit != "max" else (None, 0)
    except (OSError, ValueError):
        return None, 0


def _way(
    tune: Tune,
    shape: Shape,
    step: Step,
    machine: Machine,
    speed: Speed,
    tried: Tune,
    tokens: int,
    lengths: Sequence[int],
) -> Way:
    wanted = need(tune, shape, step)
    rate = scale_speed(speed, tried, tune, step.checkpointing)
    fits = wanted.total <= _SHARE * machine.free
    advice = () if fits else _what_would_fit(tune, shape, step, machine, lengths)
    return Way(wanted, tokens / rate, rate, fits, advice)


def _what_would_fit(tune: Tune, shape: Shape, step: Step, machine: Machine, lengths: Sequence[int]) -> tuple[str, ...]:
    """The mildest change first: each is tried with those before it, and what makes it fit is told."""
    room = _SHARE * machine.free
    changes: list[str] = []
    tried = step
    shorter = spread(lengths).p95
    for change, milder in (
        ("one row at a time (training falls back to it by itself)", replace(tried, rows=1)),
        ("--checkpointing on", replace(tried, rows=1, checkpointing=True)),
        (
            f"--max-length {shorter:,} (5 % of the rows are longer and would be left out)",
            replace(tried, rows=1, checkpointing=True, longest=shorter),
        ),
    ):
        if milder == tried:
            continue
        tried = milder
        changes.append(change)
        if need(tune, shape, tried).total <= room:
            return tuple(changes)
    for other in TUNES[: TUNES.index("full")]:
        if other != tune and need(other, shape, tried).total <= room < need(tune, shape, tried).total:
            return (*changes, f"--tune {other}")
    biggest = largest_that_fits(tune, shape, tried, room)
    return (f"a smaller base, of about {biggest / 1e9:.2g} billion parameters at most",)
