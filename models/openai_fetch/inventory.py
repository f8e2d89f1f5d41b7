"""The inventory of a fetched folder: its fine-tunes by urgency, and how much of the account is fetched. Offline."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from models.openai_fetch.account import Record
from models.openai_fetch.folder import read_manifest, read_objects
from models.openai_fetch.kinds import list_path, safe_id
from models.openai_fetch.shutdown_dates import find_shutdown

GONE = ("missing", "expired")


@dataclass(frozen=True)
class UsedFile:
    """A file that a job used. `state` is one of `kinds.STATES`, or "listed" if only its entry in a list is fetched."""

    id: str
    name: str
    state: str


@dataclass(frozen=True)
class FineTune:
    """A fine-tuned model, or a job without one (`model` is empty). `checkpoints` is None if their list is not fetched.

    `days_left` until `shutdown` (UTC) is negative after that day. `listed` is whether OpenAI still lists the model;
    None if unknown. `fetched` is "all" if everything that can be fetched is here, else "part" or "none".
    """

    model: str
    base: str
    status: str
    job: str | None = None
    created: datetime | None = None
    training: UsedFile | None = None
    validation: UsedFile | None = None
    checkpoints: int | None = None
    shutdown: date | None = None
    days_left: int | None = None
    listed: bool | None = None
    fetched: str = "none"
    next_command: str = ""


@dataclass(frozen=True)
class Inventory:
    """What a folder has. `counts` has the states of each kind of records, `sizes` the bytes fetched of each kind.

    `unfetched` are the records of what could not be fetched, or not again. `listed` is the number of objects in each
    list, `lists` the state of each list. `checked` is when the last list was read.
    """

    fine_tunes: list[FineTune]
    counts: dict[str, Counter[str]]
    sizes: Counter[str]
    unfetched: list[Record]
    files: list[Record]
    checked: datetime | None = None
    listed: dict[str, int] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)


def read_inventory(folder: Path, fetch_command: str, today: date | None = None) -> Inventory:
    """The inventory of a folder on a day, by default today (UTC); the most urgent fine-tune first.

    Args:
        fetch_command: the next command for what is not fetched yet.
    """
    records = read_manifest(folder)
    counts: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    for record in records.values():
        counts.setdefault(record["kind"], Counter())[record["state"]] += 1
        sizes[record["kind"]] += record["bytes"] if record["state"] == "fetched" else 0
    files = list(read_objects(folder / list_path("files")))
    day = today or datetime.now(timezone.utc).date()  # noqa: UP017 -- Python 3.9
    fine_tunes = sorted(_Reader(folder, records, files, (day, fetch_command)).fine_tunes(), key=_urgency)
    unfetched = [one for one in records.values() if one["state"] != "fetched" or one.get("reason")]
    times = [datetime.fromisoformat(one["time"]) for one in records.values() if one["kind"] == "lists"]
    lists = {one["id"]: one["state"] for one in records.values() if one["kind"] == "lists"}
    listed = {kind: sum(1 for _ in read_objects(folder / list_path(kind))) for kind in lists}
    return Inventory(fine_tunes, counts, sizes, unfetched, files, max(times, default=None), listed, lists)


class _Reader:
    """Reads the fine-tunes of a folder."""

    def __init__(
        self, folder: Path, records: dict[str, Record], files: list[Record], context: tuple[date, str]
    ) -> None:
        self._folder, self._records = folder, records
        self._today, self._fetch_command = context
        self._names = {str(file["id"]): str(file.get("filename") or "") for file in files}
        self._states = {one["id"]: one["state"] for one in records.values() if one["kind"] == "files"}
        self._contents = {one["id"]: one["path"] for one in records.values() if one["kind"] == "files"}
        self._models = {str(model["id"]): model for model in read_objects(folder / list_path("models"))}

    def fine_tunes(self) -> Iterator[FineTune]:
        """Those with a job in the account, and those that OpenAI lists without one."""
        made = set()
        for job in read_objects(self._folder / list_path("jobs")):
            made.add(job.get("fine_tuned_model"))
            yield self._of_job(job)
        for name in self._models:
            # A checkpoint is part of its job.
            if name.startswith("ft:") and name.split(":ckpt-step-")[0] not in made:
                yield self._fine_tune(FineTune(name, _base(name), "without a job in this account", listed=True), True)

    def _of_job(self, job: Record) -> FineTune:
        model, base = str(job.get("fine_tuned_model") or ""), str(job.get("model") or "")
        folder = f"jobs/{safe_id(str(job['id']))}"
        checkpoints = self._records.get(f"{folder}/checkpoints.jsonl", {})
        count = None
        if checkpoints.get("state") == "fetched":
            count = sum(1 for _ in read_objects(self._folder / checkpoints["path"]))
        training, validation = self._used(job.get("training_file")), self._used(job.get("validation_file"))
        states = [self._records.get(f"{folder}/{part}.jsonl", {}).get("state") for part in ("events", "checkpoints")]
        states += [file.state for file in (training, validation) if file]
        over = [state in ("fetched", *GONE) for state in states]
        return self._fine_tune(
            FineTune(
                model=model, base=base, status=str(job.get("status") or ""), job=str(job["id"]),
                created=_time(job.get("created_at")), training=training, validation=validation, checkpoints=count,
                listed=model in self._models if model and self._models else None,
                fetched="all" if all(over) else "part" if any(over) else "none",
            ),
            bool(model),
        )  # fmt: skip

    def _fine_tune(self, found: FineTune, has_model: bool) -> FineTune:
        """With the shutdown and the next command."""
        announced = self._models.get(found.model, {}).get("shutdown_date")
        day = find_shutdown(_base(found.base), announced) if has_model else None
        dated = replace(found, shutdown=day, days_left=(day - self._today).days if day else None)
        return replace(dated, next_command=self._next(dated))

    def _next(self, found: FineTune) -> str:
        if found.job and found.fetched != "all":
            return self._fetch_command
        if not found.model:
            return ""
        command = f"parley rescue {shlex.quote(found.model)} --base BASE"
        training = found.training
        if training is None or training.state in GONE:
            return f"{command} --data FILE"
        if found.days_left is not None and found.days_left < 0:
            return f"{command} --data {shlex.quote(str(self._folder / self._contents[training.id]))}"
        return command

    def _used(self, file_id: Any) -> UsedFile | None:
        if not isinstance(file_id, str) or not file_id:
            return None
        state = self._states.get(file_id, "listed" if file_id in self._names else "unknown")
        return UsedFile(file_id, self._names.get(file_id, ""), state)


def _urgency(found: FineTune) -> tuple[Any, ...]:
    days = 10**6 if found.days_left is None else found.days_left
    # What is shut down already cannot be recorded any more: after what still can.
    return not found.model, days < 0, days, found.fetched == "all", -(found.created.timestamp() if found.created else 0)


def _base(name: str) -> str:
    """The base in the name of a fine-tune."""
    parts = name.split(":")
    return parts[1] if parts[0] == "ft" and len(parts) > 1 else name


def _time(seconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)  # noqa: UP017 -- Python 3.9
    except (TypeError, ValueError, OverflowError, OSError):
        return None
