"""Bringing a fine-tune home: found, its data fetched while there is still time, retrained here, compared blind.

`plan_rescue` looks and changes nothing; `carry_out` does what the plan says, one step after another. Each step is
written into the rescue's record and is not done twice, so a rescue that was interrupted goes on by the same command.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from models.atomic import atomic_write
from models.database import Database, new_ulid
from models.errors import Conflict, Invalid, NotFound
from models.files import Files
from models.messages import Message
from models.registry import Registry
from models.settings import Settings
from models.shutdowns import Shutdown, countdown, rescue_description
from models.spec import ModelSpec
from train.clouds.cloud import CloudJob
from train.clouds.openai import OpenAICloud
from train.clouds.registration import register_hosted
from train.clouds.rescue_record import Rescue, open_rescue
from train.data.checks import CheckedData, check, require_usable
from train.data.conversations import ChatMessage, Preference, ToolResult, ToolUse, message_dicts
from train.data.conversion import as_jsonl
from train.data.splits import split
from train.hyperparameters import Hyperparameters
from train.run.progress import Progress, silent

HELD_OUT = 0.15
MOST_PROMPTS = 200
SOURCE = "rescue"

Compare = Callable[[Database, Sequence[dict[str, Any]], str], int]
Choose = Callable[[Sequence[ModelSpec]], str]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """All that is known before anything is changed. `answers` says whether the old model can still be asked."""

    record: Rescue
    model: str
    family: str
    job: CloudJob | None
    answers: bool
    shutdown: Shutdown | None
    source: str
    checked: CheckedData
    learnt: tuple[Any, ...]
    held: tuple[Any, ...]
    training: bytes
    validation: bytes
    method: Literal["sft", "dpo"]
    base: str
    name: str
    old: str

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """What the blind comparison asks: the held-out conversations up to their last answer."""
        rows = []
        for item in self.held:
            said = item.prompt if isinstance(item, Preference) else item.conversation.prompt
            if messages := _askable(said):
                rows.append({"messages": messages, "category": f"rescue {self.name}"[:255], "held_out": True})
        return rows[:MOST_PROMPTS]


def plan_rescue(
    model: str,
    *,
    cloud: OpenAICloud,
    settings: Settings,
    database: Database,
    choose: Choose,
    base: str | None = None,
    name: str | None = None,
    data: Path | None = None,
    share: float = HELD_OUT,
    seed: int = 0,
) -> Plan:
    """Looks at a fine-tune, its data and what is here. Reads only.

    Args:
        model: the fine-tune's name, `ft:<base>:<organization>:<suffix>:<id>`.
        choose: picks a base among the registered ones where none is given and there are several.
        base: a registered model, a folder or a hub id to train from.
        name: what the result is called; `<suffix>-rescued` without it.
        data: the training file on this disk, instead of the provider's.
        share: held out for the comparison where the fine-tune had no validation file.

    Raises:
        Invalid: no name of a fine-tune, no base, or data that cannot be learnt. NotFound: neither the model nor its
        data can be found.
    """
    parts = model.split(":")
    if parts[0] != "ft" or len(parts) < 4:
        raise Invalid(f"{model!r} is no fine-tune's name: ft:<base>:<organization>:<suffix>:<id>.", param="model")
    registry, stem = Registry(database), _stem(parts)
    name = name or f"{stem}-rescued"
    record = open_rescue(settings, model, name, cloud.provider)
    _refuse_change(record, base, data)
    job, answers = cloud.made(model), cloud.has_model(model)
    day = cloud.shutdown_date(model, parts[1])
    training, validation, source = _bytes(record, job, cloud, Files(settings, database), data)
    checked, learnt, held = _divided_data(training, validation, share, seed)
    return Plan(
        record=record,
        model=model,
        family=parts[1],
        job=job,
        answers=answers,
        shutdown=countdown(model, day) if day else None,
        source=source,
        checked=checked,
        learnt=learnt,
        held=held,
        training=training,
        validation=validation,
        method="dpo" if isinstance(learnt[0], Preference) else "sft",
        base=base or record.base or _base(registry, choose),
        name=name,
        old=record.old or _old_name(registry, model, stem),
    )


def carry_out(
    plan: Plan,
    *,
    cloud: OpenAICloud,
    settings: Settings,
    database: Database,
    compare: Compare,
    say: Say,
    hyperparameters: Hyperparameters | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Rescue:
    """Does what the plan says, from where the record stands. Done twice, it changes nothing the second time.

    Args:
        compare: stores prompts for the blind comparison; given database, rows and their source, it tells how many
            were new. (This room may not know the one that keeps prompts.)
        say: told of each step in a line.

    Raises:
        Conflict: a name is taken. What `train.train` raises.
    """
    registry = Registry(database)
    record = _keep_files(plan, Files(settings, database), say)
    record = _register_old(plan, record, cloud, registry, say)
    record = _train(plan, record, settings, registry, hyperparameters or Hyperparameters(), threads, progress, say)
    return _compare(plan, record, database, compare, say)


def _keep_files(plan: Plan, files: Files, say: Say) -> Rescue:
    record = plan.record
    if record.training_file and record.source == plan.source:
        say(f"The data is here already: {record.training_file}")
    else:
        stored = files.store(f"{plan.name}-training.jsonl", plan.training, "fine-tune")
        second = files.store(f"{plan.name}-validation.jsonl", plan.validation, "fine-tune") if plan.validation else None
        record = record.saved(
            training_file=stored.id, validation_file=second.id if second else None, source=plan.source
        )
        say(f"Kept {plan.source} as {stored.id}: {len(plan.training):,} bytes that OpenAI can delete now")
    if record.run is None:  # a run has learnt from these files: they stay as they are
        atomic_write(record.learnt_path, as_jsonl(plan.learnt))
        atomic_write(record.held_out_path, as_jsonl(plan.held))
    say(f"{len(plan.learnt):,} examples to learn from, {len(plan.held):,} held out, {plan.checked.left_out:,} left out")
    day = plan.shutdown.day.isoformat() if plan.shutdown else None
    return record.saved(base=plan.base, name=plan.name, job=plan.job.id if plan.job else record.job, shutdown_date=day)


def _register_old(plan: Plan, record: Rescue, cloud: OpenAICloud, registry: Registry, say: Say) -> Rescue:
    if not plan.answers:
        say(f"{plan.model} does not answer any more, so it is not registered, and there is nobody to compare with")
        return record
    day: date | None = plan.shutdown.day if plan.shutdown else None
    made = register_hosted(plan.model, plan.family, day, cloud, registry, name=plan.old, job=plan.job)
    if plan.old != plan.model and plan.model not in registry.aliases():
        registry.alias(plan.model, made.spec.id)
        say(f"Clients may go on asking for {plan.model}: it is another name of {made.spec.id}")
    say(f"The old model is {'registered as' if made.new else 'here already:'} {made.spec.id}")
    return record.saved(old=made.spec.id)


def _train(
    plan: Plan,
    record: Rescue,
    settings: Settings,
    registry: Registry,
    hyperparameters: Hyperparameters,
    threads: int | None,
    progress: Progress,
    say: Say,
) -> Rescue:
    if record.new:
        say(f"The new model is here already: {record.new}")
        return record
    from train.training import train

    if record.run is None:
        say(f"Training {plan.name} from {plan.base}")
        record = record.saved(run=new_ulid(), hyperparameters=asdict(hyperparameters), threads=threads)
    else:
        say(f"Going on with the training of {plan.name} from {plan.base}, as it began")
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
        progress=progress,
        threads=record.threads,
        description=rescue_description(plan.model),
        resume=True,
    )
    say(f"{result.model} is trained: loss {result.loss_before:.3f} → {result.loss_after:.3f} on the held-out examples")
    return record.saved(new=result.model, loss_before=result.loss_before, loss_after=result.loss_after)


def _compare(plan: Plan, record: Rescue, database: Database, compare: Compare, say: Say) -> Rescue:
    rows = plan.prompts
    if not rows:
        say("The held-out examples hold no question in plain words: add some with `parley prompts add`")
        return record.saved(asked=0)
    new = compare(database, rows, SOURCE)
    say(f"{len(rows):,} held-out questions are ready for blind voting, {new:,} of them new")
    return record.saved(asked=len(rows))


def _bytes(
    record: Rescue, job: CloudJob | None, cloud: OpenAICloud, files: Files, data: Path | None
) -> tuple[bytes, bytes, str]:
    """The training file, the validation file (empty where there was none), and where they are from."""
    if data is not None:
        return _from_disk(data), b"", str(data)
    if record.training_file:
        held = files.get(record.validation_file).path.read_bytes() if record.validation_file else b""
        return files.get(record.training_file).path.read_bytes(), held, record.source
    if job is None or not job.training_file:
        raise NotFound(
            f"OpenAI knows no job of this account that made {record.model}, so its data cannot be fetched: "
            "give the training file with --data.",
            param="model",
        )
    try:
        training = cloud.content(job.training_file)
    except NotFound as error:
        raise NotFound(
            f"OpenAI has the training file {job.training_file} no more: give it with --data.", param="data"
        ) from error
    try:
        held = cloud.content(job.validation_file) if job.validation_file else b""
    except NotFound:
        held = b""  # a part of the training file measures instead
    return training, held, f"OpenAI's {job.training_file}"


def _from_disk(data: Path) -> bytes:
    """A file's content as JSONL, whatever its format: that is what is kept and learnt."""
    checked = require_usable(check(data, provider="local"))
    return as_jsonl(checked.examples or checked.preferences)


def _divided_data(
    training: bytes, validation: bytes, share: float, seed: int
) -> tuple[CheckedData, tuple[Any, ...], tuple[Any, ...]]:
    checked = require_usable(check(_rows(training), provider="local", validation=_rows(validation) or None))
    items: tuple[Any, ...] = checked.examples or checked.preferences
    if checked.validation is not None:
        held: tuple[Any, ...] = checked.validation.examples or checked.validation.preferences
        if held:
            return checked, items, held
    parts = split(items, share, seed)
    return checked, parts.train, parts.validation


def _refuse_change(record: Rescue, base: str | None, data: Path | None) -> None:
    """A rescue that has begun to train goes on with what it began with."""
    if record.run is None:
        return
    for asked, began, flag in ((base, record.base, "--base"), (str(data) if data else None, record.source, "--data")):
        if asked not in (None, began):
            raise Conflict(
                f"The rescue of {record.model} as {record.name} began with {flag[2:]} {began}: leave {flag} out to go "
                "on, or give another --name for a second one.",
                param=flag[2:],
            )


def _rows(content: bytes) -> list[Any]:
    """The lines of a JSONL as the reader takes rows; one that is no JSON stays a text, and is told as such."""
    import json

    rows: list[Any] = []
    for line in content.splitlines():
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                rows.append(line.decode("utf-8", "replace"))
    return rows


def _askable(said: Sequence[ChatMessage]) -> list[dict[str, Any]] | None:
    """A prompt that any chat model can be asked: plain messages that end with the user's."""
    plain = all(isinstance(one, Message) and not isinstance(one, ToolUse | ToolResult) for one in said)
    if not said or not plain or said[-1].role != "user" or not said[-1].content.strip():
        return None
    return message_dicts(said)


def _stem(parts: list[str]) -> str:
    """What the models here are called after: the suffix, else the base."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", parts[3] or parts[1]).strip("-.") or "model"


def _old_name(registry: Registry, model: str, stem: str) -> str:
    """The name that the fine-tune has here already, else one that leaves its own name free for an alias."""
    for spec in registry.list(include_candidates=True):
        if spec.upstream and spec.upstream.model == model:
            return spec.id
    return f"{stem}-openai"


def _base(registry: Registry, choose: Choose) -> str:
    bases = [spec for spec in registry.list() if spec.kind in ("base", "merged") and not spec.judge]
    if not bases:
        raise Invalid(
            "There is no local base to train from: name one with --base, a folder or a hub id such as Qwen/Qwen3-4B.",
            param="base",
        )
    return bases[0].id if len(bases) == 1 else choose(bases)


def check_free(plan: Plan, registry: Registry) -> None:
    """Raises Conflict where the new model's name is taken by something that is not this rescue's."""
    if plan.record.new == plan.name:
        return
    taken = {spec.id for spec in registry.list(include_candidates=True, include_retired=True)}
    if plan.record.run is None and (plan.name in taken or plan.name in registry.aliases()):
        raise Conflict(f"The name {plan.name!r} is taken: choose another with --name.", param="name")
