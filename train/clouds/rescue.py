"""Carries out a rescue: stores the data, registers and records the old model, trains the new one, stores prompts.

Each step is recorded and not repeated, so the same command continues an interrupted rescue.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.database import Database, new_ulid
from models.files.atomic import atomic_write
from models.files.stored_files import Files
from models.quantities import count_noun
from models.registry.registry import Registry
from models.registry.shutdowns import rescue_description
from models.settings.settings import Settings
from train.clouds.openai import OpenAICloud
from train.clouds.registration import FineTune, register_hosted
from train.clouds.rescue_plan import RescuePlan
from train.clouds.rescue_record import Rescue
from train.data.conversion import as_jsonl
from train.hyperparameters import Hyperparameters
from train.run.progress import Progress, silent

_SOURCE = "rescue"  # the source of the prompts

StorePrompts = Callable[[Database, Sequence[dict[str, Any]], str], int]
Report = Callable[[str], None]


@dataclass(frozen=True)
class RescueHooks:
    """What a rescue calls.

    `store_prompts` stores the rows of a source for the blind comparison, and returns how many were new (prompts belong
    to another room). `report` gets one line for each step, `progress` the events of the training. `record_old` records
    the old model's answers before the training, and returns a line for each set of prompts.
    """

    store_prompts: StorePrompts
    report: Report
    progress: Progress = silent
    record_old: Callable[[], Sequence[str]] = tuple


def carry_out(
    plan: RescuePlan, cloud: OpenAICloud, settings: Settings, database: Database, hooks: RescueHooks
) -> Rescue:
    """Carries out the steps that the record does not have yet. Repeated, it changes nothing.

    Raises:
        Conflict: a name is taken. What `train.train` raises.
    """
    registry = Registry(database)
    record = _store_files(plan, Files(settings, database), hooks.report)
    record = _register_old(plan, record, cloud, registry, hooks.report)
    record = _store_prompts(plan, record, database, hooks)
    for line in hooks.record_old():
        hooks.report(line)
    return _train(plan, record, settings, registry, hooks)


def _store_files(plan: RescuePlan, files: Files, report: Report) -> Rescue:
    record = plan.record
    if record.training_file and record.source == plan.source:
        report(f"The data is already stored as {record.training_file}")
    else:
        stored = files.store(f"{plan.name}-training.jsonl", plan.training, "fine-tune")
        held = files.store(f"{plan.name}-validation.jsonl", plan.validation, "fine-tune") if plan.validation else None
        record = record.saved(
            training_file=stored.id, validation_file=held.id if held else None, source=plan.source
        )  # fmt: skip
        report(f"Stored {plan.source} as {stored.id}, {len(plan.training):,} bytes")
    if record.run is None:  # afterwards the files stay as the run has read them
        atomic_write(record.learnt_path, as_jsonl(plan.learnt))
        atomic_write(record.held_out_path, as_jsonl(plan.held))
    left_out = plan.checked.left_out
    report(f"{count_noun(len(plan.learnt), 'example')} to train on, {len(plan.held):,} held out, {left_out:,} left out")
    day = plan.shutdown.day.isoformat() if plan.shutdown else None
    return record.saved(base=plan.base, name=plan.name, job=plan.job.id if plan.job else record.job, shutdown_date=day)


def _register_old(plan: RescuePlan, record: Rescue, cloud: OpenAICloud, registry: Registry, report: Report) -> Rescue:
    if not plan.answers:
        report(f"{plan.model} does not answer any more, so it is not registered and cannot be compared with")
        return record
    day = plan.shutdown.day if plan.shutdown else None
    fine_tune = FineTune(plan.model, plan.family, day, plan.job.id if plan.job else None)
    registration = register_hosted(fine_tune, cloud, registry, plan.old)
    name = registration.spec.id
    if plan.old != plan.model and plan.model not in registry.aliases():
        registry.alias(plan.model, name)
        report(f"Clients can keep using {plan.model}: it is now an alias of {name}")
    report(f"The old model is {'' if registration.new else 'already '}registered as {name}")
    return record.saved(old=name)


def _train(plan: RescuePlan, record: Rescue, settings: Settings, registry: Registry, hooks: RescueHooks) -> Rescue:
    if record.new:
        hooks.report(f"The new model already exists: {record.new}")
        return record
    from train.training import train

    if record.run is None:
        hooks.report(f"Training {plan.name} from {plan.base}")
        request = plan.request
        record = record.saved(
            run=new_ulid(), hyperparameters=asdict(request.hyperparameters), threads=request.threads
        )  # fmt: skip
    else:
        hooks.report(f"Continuing to train {plan.name} from {plan.base}, with the settings it was started with")
    result = train(
        record.learnt_path,
        base=plan.base,
        name=plan.name,
        method=plan.method,
        settings=settings,
        registry=registry,
        out=settings.runs_dir / str(record.run),
        hyperparameters=Hyperparameters.from_dict(record.hyperparameters or {}),
        validation=record.held_out_path,
        progress=hooks.progress,
        threads=record.threads,
        description=rescue_description(plan.model),
        resume=True,
    )
    losses = f"loss {result.loss_before:.3f} → {result.loss_after:.3f} on the held-out examples"
    hooks.report(f"{result.model} is trained: {losses}")
    return record.saved(new=result.model, loss_before=result.loss_before, loss_after=result.loss_after)


def _store_prompts(plan: RescuePlan, record: Rescue, database: Database, hooks: RescueHooks) -> Rescue:
    rows = plan.prompts
    if not rows:
        hooks.report("The held-out examples have no plain question. Add some with `parley prompts add`")
        return record.saved(asked=0)
    new = hooks.store_prompts(database, rows, _SOURCE)
    hooks.report(
        f"{count_noun(len(rows), 'held-out question is', 'held-out questions are')} ready for blind voting, "
        f"{new:,} of them new"
    )
    return record.saved(asked=len(rows))
