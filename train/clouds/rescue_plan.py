"""The plan of a rescue: a fine-tune at OpenAI, its training data, and how to retrain and compare it. Reads only."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.chat.messages import Message
from models.database import Database
from models.errors import Conflict, Invalid, NotFound
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.registry.shutdowns import Shutdown, countdown
from models.settings.settings import Settings
from models.spec import ModelSpec
from train.clouds.cloud import CloudJob
from train.clouds.openai import OpenAICloud
from train.clouds.rescue_record import Rescue, open_rescue
from train.data.checks import CheckedData, check, require_usable
from train.data.conversations import ChatMessage, Preference, ToolResult, ToolUse, message_dicts
from train.data.conversion import as_jsonl
from train.data.splits import split
from train.hyperparameters import Hyperparameters

_MOST_PROMPTS = 200

ChooseBase = Callable[[Sequence[ModelSpec]], str]


@dataclass(frozen=True)
class RescueRequest:
    """What to rescue, and how.

    `model` is the fine-tune's name, `ft:<base>:<organization>:<suffix>:<id>`. `base` is a registered model, a folder or
    a hub id to train from. `name` is the name of the result, by default `<suffix>-rescued`. `data` is the training file
    on this disk, instead of OpenAI's. `held_out` is the share held out for the comparison if the fine-tune had no
    validation file. `hyperparameters` and `threads` are as in `train.train`.
    """

    model: str
    base: str | None = None
    name: str | None = None
    data: Path | None = None
    held_out: float = 0.15
    seed: int = 0
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    threads: int | None = None


@dataclass(frozen=True)
class RescuePlan:
    """Everything that is known before anything is changed. `answers` is whether the old model still answers.

    `family` is the base of the fine-tune at OpenAI, `base` the one to train from here, `old` the name of the fine-tune
    here. `learnt` and `held` are the examples (or pairs) of the two parts.
    """

    request: RescueRequest
    record: Rescue
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
    def model(self) -> str:
        """The name of the fine-tune at OpenAI."""
        return self.request.model

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """The prompts of the blind comparison: the held-out conversations without their last answers."""
        return self._prompts(self.held, held_out=True)[:_MOST_PROMPTS]

    @property
    def training_prompts(self) -> list[dict[str, Any]]:
        """The training conversations without their last answers."""
        return self._prompts(self.learnt, held_out=False)

    def _prompts(self, items: Sequence[Any], *, held_out: bool) -> list[dict[str, Any]]:
        rows = []
        for item in items:
            prompt = item.prompt if isinstance(item, Preference) else item.conversation.prompt
            if messages := _plain_prompt(prompt):
                rows.append({"messages": messages, "category": f"rescue {self.name}"[:255], "held_out": held_out})
        return rows

    def to_json(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "model": self.model,
            "job": self.job.id if self.job else None,
            "answers": self.answers,
            "shutdown_date": self.shutdown.day.isoformat() if self.shutdown else None,
            "days_left": self.shutdown.days_left if self.shutdown else None,
            "source": self.source,
            "bytes": len(self.training),
            "method": self.method,
            "examples": len(self.learnt),
            "held_out": len(self.held),
            "left_out": self.checked.left_out,
            "base": self.base,
            "name": self.name,
            "old": self.old,
            "prompts": len(self.prompts),
        }


@dataclass(frozen=True)
class _Source:
    """The training file, the validation file (empty if there is none), and where they come from."""

    training: bytes
    validation: bytes
    name: str


def plan_rescue(
    request: RescueRequest, cloud: OpenAICloud, settings: Settings, database: Database, choose_base: ChooseBase
) -> RescuePlan:
    """Looks up a fine-tune, its data and the models here. Reads only.

    Args:
        choose_base: chooses one of several registered bases if the request has none.

    Raises:
        Invalid: not the name of a fine-tune, no base, or unusable data. NotFound: neither the model nor its data can be
        found. Conflict: an interrupted rescue of this name has another base or other data.
    """
    parts = request.model.split(":")
    if parts[0] != "ft" or len(parts) < 4:
        raise Invalid(
            f"{request.model!r} is not the name of a fine-tune: use ft:<base>:<organization>:<suffix>:<id>.",
            param="model",
        )
    registry, stem = Registry(database), _stem(parts)
    name = request.name or f"{stem}-rescued"
    record = open_rescue(settings, request.model, name, cloud.provider)
    _refuse_changes(record, request)
    job, answers = cloud.job_of_model(request.model), cloud.has_model(request.model)
    day = cloud.shutdown_date(request.model, parts[1])
    source = _load_source(request, record, job, cloud, Files(settings, database))
    checked, learnt, held = _split_data(source, request)
    return RescuePlan(
        request=request,
        record=record,
        family=parts[1],
        job=job,
        answers=answers,
        shutdown=countdown(request.model, day) if day else None,
        source=source.name,
        checked=checked,
        learnt=learnt,
        held=held,
        training=source.training,
        validation=source.validation,
        method="dpo" if isinstance(learnt[0], Preference) else "sft",
        base=request.base or record.base or _choose_base(registry, choose_base),
        name=name,
        old=record.old or _old_name(registry, request.model, stem),
    )


def check_name_free(plan: RescuePlan, registry: Registry) -> None:
    """Raises Conflict if the name of the new model is taken by another model."""
    if plan.record.new == plan.name:
        return
    taken = {spec.id for spec in registry.list(include_candidates=True, include_retired=True)}
    if plan.record.run is None and (plan.name in taken or plan.name in registry.aliases()):
        raise Conflict(f"The name {plan.name!r} is taken. Choose another with --name.", param="name")


def _load_source(
    request: RescueRequest, record: Rescue, job: CloudJob | None, cloud: OpenAICloud, files: Files
) -> _Source:
    if request.data is not None:
        return _Source(_read_local(request.data), b"", str(request.data))
    if record.training_file:
        held = files.get(record.validation_file).path.read_bytes() if record.validation_file else b""
        return _Source(files.get(record.training_file).path.read_bytes(), held, record.source)
    if job is None or not job.training_file:
        raise NotFound(
            f"No job of this OpenAI account made {record.model}, so its data cannot be downloaded. Give the training "
            "file with --data.",
            param="model",
        )
    try:
        training = cloud.download(job.training_file)
    except NotFound as error:
        raise NotFound(
            f"OpenAI has deleted the training file {job.training_file}. Give your own copy with --data.", param="data"
        ) from error
    try:
        held = cloud.download(job.validation_file) if job.validation_file else b""
    except NotFound:
        held = b""  # a part of the training file is held out instead
    return _Source(training, held, f"OpenAI's {job.training_file}")


def _read_local(data: Path) -> bytes:
    """A file of any format as JSONL, which is what is stored and trained on."""
    checked = require_usable(check(data, provider="local"))
    return as_jsonl(checked.examples or checked.preferences)


def _split_data(source: _Source, request: RescueRequest) -> tuple[CheckedData, tuple[Any, ...], tuple[Any, ...]]:
    validation = _rows(source.validation) or None
    checked = require_usable(check(_rows(source.training), provider="local", validation=validation))
    items: tuple[Any, ...] = checked.examples or checked.preferences
    if checked.validation is not None:
        held: tuple[Any, ...] = checked.validation.examples or checked.validation.preferences
        if held:
            return checked, items, held
    parts = split(items, request.held_out, request.seed)
    return checked, parts.train, parts.validation


def _refuse_changes(record: Rescue, request: RescueRequest) -> None:
    """Raises Conflict if a rescue that has started to train would continue with another base or other data."""
    if record.run is None:
        return
    data = str(request.data) if request.data else None
    for given, started, flag in ((request.base, record.base, "--base"), (data, record.source, "--data")):
        if given not in (None, started):
            raise Conflict(
                f"The rescue of {record.model} as {record.name} was started with {flag} {started}. Leave {flag} out to "
                "continue it, or start another one with --name.",
                param=flag[2:],
            )


def _rows(content: bytes) -> list[Any]:
    """The lines of a JSONL file. A line that is not JSON stays a text, and the check reports it."""
    rows: list[Any] = []
    for line in content.splitlines():
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                rows.append(line.decode("utf-8", "replace"))
    return rows


def _plain_prompt(messages: Sequence[ChatMessage]) -> list[dict[str, Any]] | None:
    """A prompt that every chat model accepts, ending with a user message; None for prompts with tools."""
    plain = all(isinstance(item, Message) and not isinstance(item, ToolUse | ToolResult) for item in messages)
    if not messages or not plain or messages[-1].role != "user" or not messages[-1].content.strip():
        return None
    return message_dicts(messages)


def _stem(parts: list[str]) -> str:
    """The stem of the names here: the suffix of the fine-tune, else its base."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", parts[3] or parts[1]).strip("-.") or "model"


def _old_name(registry: Registry, model: str, stem: str) -> str:
    """The name that the fine-tune already has here, else a new one that leaves its own name free for an alias."""
    for spec in registry.list(include_candidates=True):
        if spec.upstream and spec.upstream.model == model:
            return spec.id
    return f"{stem}-openai"


def _choose_base(registry: Registry, choose: ChooseBase) -> str:
    bases = [spec for spec in registry.list() if spec.kind in ("base", "merged") and not spec.judge]
    if not bases:
        raise Invalid(
            "There is no local base to train from. Give a folder or a hub id with --base, such as Qwen/Qwen3-4B.",
            param="base",
        )
    return bases[0].id if len(bases) == 1 else choose(bases)
