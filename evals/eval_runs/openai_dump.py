"""Imports exported evals: the API's own objects as JSON, in any arrangement of files.

Every object `eval`, `eval.run` and `eval.run.output_item` is read, wherever it is in a file: alone, in a list page, one
per line, or in Langfuse's layout, {eval, rows, runs: [{run, output_items}]}. Files `files/ID.jsonl` become uploaded
files.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.api_tables import EvalItemRow, EvalRow, EvalRunRow
from evals.eval_runs.data_sources import as_message
from evals.eval_runs.evals import with_criterion_id
from evals.eval_runs.given_answers import store_given
from evals.eval_runs.published import publish_evaluation, store_task
from evals.eval_runs.runs import ACTIVE, STATUS
from evals.scorers.sample import Sample
from evals.tasks.task import Task, TaskSample, prompt_hash
from models.chat.messages import read_api_message
from models.database import Database
from models.errors import Invalid, NotFound, ParleyError
from models.files.stored_files import Files
from models.settings.settings import Settings

_ANSWER = ("output", "model", "usage", "finish_reason", "latency_ms")
_KINDS = ("eval", "eval.run", "eval.run.output_item")


@dataclass
class DumpImport:
    """The number of imported objects of each kind, and a sentence for each object that was not imported."""

    imported: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


@dataclass
class Dump:
    """The API's objects by kind and id, the data files, and the names of files that are not JSON."""

    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in _KINDS})
    files: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def has_objects(self) -> bool:
        """Whether there is anything to import."""
        return any(self.objects.values())

    def add(self, found: dict[str, Any]) -> None:
        """Adds an object of the API."""
        self.objects[found["object"]][found["id"]] = found


def import_dump(settings: Settings, database: Database, path: Path) -> DumpImport:
    """Imports a file or a folder. Evals and runs that exist already are not changed.

    Raises:
        NotFound: there is no such file. Invalid: it has none of the API's objects.
    """
    dump = read_dump(path)
    if not dump.has_objects:
        raise Invalid(
            f"{path} has no evals, runs or output items of OpenAI's API: give a file or folder with the SDK's dumps.",
            param="path",
        )
    done = DumpImport()
    import_objects(settings, database, dump, done)
    return done


def import_objects(settings: Settings, database: Database, dump: Dump, done: DumpImport) -> None:
    """Imports the objects of a dump, and adds to `done`."""
    done.lost += [f"{name}: it is not JSON." for name in dump.unread]
    files = {file.stem: _store_file(Files(settings, database), file, done) for file in dump.files}
    for found in dump.objects["eval"].values():
        with _reporting(found["id"], done):
            _import_eval(database, found, done)
    by_run: dict[str, list[dict[str, Any]]] = {}
    for item in dump.objects["eval.run.output_item"].values():
        by_run.setdefault(str(item.get("run_id")), []).append(item)
    for run in dump.objects["eval.run"].values():
        with _reporting(run["id"], done):
            _import_run(settings, database, run, by_run.pop(run["id"], []), files, done)
    for run_id, items in by_run.items():
        done.lost.append(f"{len(items)} output items of {run_id}: the run itself is missing.")


@contextmanager
def _reporting(name: str, done: DumpImport) -> Iterator[None]:
    """Reports an object with a missing field or a field of another type, and continues."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        done.lost.append(f"{name}: it does not have the API's format ({type(error).__name__}: {error}).")


def read_dump(path: Path) -> Dump:
    """The API's objects in a file or a folder.

    Raises:
        NotFound: there is no such file.
    """
    if not path.exists():
        raise NotFound(f"There is no file or folder {path}.", param="path")
    dump = Dump()
    for file in sorted(path.rglob("*.json*")) if path.is_dir() else [path]:
        if file.parent.name == "files" and file.suffix == ".jsonl":
            dump.files.append(file)
            continue
        try:
            for value in _values(file):
                for found in _objects(value):
                    dump.add(found)
        except (ValueError, OSError, RecursionError):
            dump.unread.append(file.name)
    return dump


def _values(file: Path) -> Iterator[Any]:
    if file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())
    else:
        yield json.loads(file.read_text("utf-8"))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """The API's objects in a JSON value."""
    if isinstance(value, dict) and value.get("object") in _KINDS and isinstance(value.get("id"), str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _objects(part)


def _store_file(files: Files, path: Path, done: DumpImport) -> str:
    done.imported["files"] += 1
    return files.store(path.name, path.read_bytes(), "evals").id


def _import_eval(database: Database, found: Mapping[str, Any], done: DumpImport) -> None:
    criteria = [with_criterion_id(criterion) for criterion in found.get("testing_criteria") or []]
    config = dict(found["data_source_config"])
    if "schema_" in config:  # a model_dump without by_alias
        config["schema"] = config.pop("schema_")
    content = {"data_source_config": config, "testing_criteria": criteria, "metadata": found.get("metadata")}
    with database.write() as session:
        if session.scalar(select(EvalRow).where(EvalRow.id == found["id"])) is not None:
            done.lost.append(f"{found['id']}: it exists already.")
            return
        session.add(EvalRow(id=found["id"], name=found.get("name") or found["id"], content=content, digest=""))
    done.imported["evals"] += 1


def _import_run(
    settings: Settings,
    database: Database,
    run: Mapping[str, Any],
    items: list[dict[str, Any]],
    files: Mapping[str, str],
    done: DumpImport,
) -> None:
    items.sort(key=lambda item: int(item.get("datasource_item_id") or 0))
    samples = [_sample(place, item) for place, item in enumerate(items)]
    task = Task(str(run.get("name") or run["id"]), run["id"], tuple(samples))
    label = str(run.get("model") or run.get("name") or run["id"])[:255]
    outcomes = store_given(database, label, samples)
    with database.write() as session:
        criteria = _criteria(session, run, done)
        if criteria is None:
            return
        store_task(session, task)
        session.add(_run_row(run, task.hash, files, criteria))
        session.flush()
        session.add_all(
            EvalItemRow(
                run_id=run["id"],
                place=place,
                status=_item_status(item),
                answer_id=outcome.answer_id,
                error=((item.get("sample") or {}).get("error") or {}).get("message"),
                results=_results(item, criteria),
            )
            for place, (item, outcome) in enumerate(zip(items, outcomes, strict=True))
        )
    done.imported["runs"] += 1
    done.imported["output items"] += len(items)
    done.runs.append(run["id"])
    if not items:
        done.lost.append(f"{run['id']}: it has no output items, so it does not become an evaluation.")
    elif run.get("status") == "completed":
        _publish(settings, database, run["id"], label, done)


def _publish(settings: Settings, database: Database, run_id: str, label: str, done: DumpImport) -> None:
    """Makes a stored run an evaluation. A failure is reported, and the run stays."""
    try:
        publish_evaluation(settings, database, run_id, label)
    except (ParleyError, LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        done.lost.append(f"{run_id}: it is imported, but it does not become an evaluation ({problem}).")


def _criteria(session: Session, run: Mapping[str, Any], done: DumpImport) -> list[dict[str, Any]] | None:
    """The criteria of a run's eval; None if the run cannot be imported, with a sentence in `done.lost`."""
    parent = session.scalar(select(EvalRow).where(EvalRow.id == run.get("eval_id")))
    if parent is None:
        done.lost.append(f"{run['id']}: its eval {run.get('eval_id')} is missing.")
        return None
    if session.scalar(select(EvalRunRow).where(EvalRunRow.id == run["id"])) is not None:
        done.lost.append(f"{run['id']}: it exists already.")
        return None
    return parent.content["testing_criteria"]


def _run_row(
    run: Mapping[str, Any], task_hash: str, files: Mapping[str, str], criteria: Sequence[Mapping[str, Any]]
) -> EvalRunRow:
    data_source = json.loads(json.dumps(run["data_source"]))
    source = data_source.get("source") or {}
    if source.get("id") in files:
        source["id"] = files[source["id"]]
    per_criterion = {
        _criterion_id(each["testing_criteria"], criteria): [each["passed"], each["failed"]]
        for each in run.get("per_testing_criteria_results") or []
    }
    usage = {
        each.get("model_name") or each.get("run_model_name"): [
            each["invocation_count"], each["prompt_tokens"], each["completion_tokens"]
        ]
        for each in run.get("per_model_usage") or []
    }  # fmt: skip
    counts = {"items": run.get("result_counts") or {}, "criteria": per_criterion, "usage": usage}
    public = run.get("status")
    return EvalRunRow(
        id=run["id"],
        eval_id=run["eval_id"],
        name=run.get("name") or run["id"],
        model=str(run.get("model") or "")[:255],
        content={"data_source": data_source, "metadata": run.get("metadata")},
        digest="",
        # No job continues a run that had not ended.
        status=next((own for own, name in STATUS.items() if name == public and own not in ACTIVE), "cancelled"),
        task_hash=task_hash,
        counts=counts | {"error": (run.get("error") or {}).get("message")},
    )


def _sample(place: int, item: Mapping[str, Any]) -> TaskSample:
    sample = item.get("sample") or {}
    try:
        messages = tuple(read_api_message(as_message(message)) for message in sample.get("input") or [])
    except (ValueError, TypeError, AttributeError):
        messages = ()
    answer = {name: sample[name] for name in _ANSWER if sample.get(name)}
    metadata = {"item": item.get("datasource_item") or {}, "sample": answer}
    return TaskSample(str(place), messages, Sample(prompt=prompt_hash(messages) if messages else "", metadata=metadata))


def _item_status(item: Mapping[str, Any]) -> str:
    status = {"passed": "pass", "failed": "fail"}.get(str(item.get("status")), str(item.get("status")))
    return status if status in ("pass", "fail") else "error"


def _results(item: Mapping[str, Any], criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": _criterion_id(str(result.get("name")), criteria),
            "type": result.get("type"),
            "score": float(result.get("score") or 0.0),
            "passed": bool(result.get("passed")),
            "sample": result.get("sample"),
        }
        for result in item.get("results") or []
    ]


def _criterion_id(name: str, criteria: Sequence[Mapping[str, Any]]) -> str:
    """The id of the criterion to which a result refers by its id, its name, or its name with a suffix."""
    for criterion in criteria:
        if name in (criterion["id"], criterion["name"]):
            return criterion["id"]
    # A name may begin with another one's: the longest fits.
    fitting = [each for each in criteria if name.startswith(f"{each['name']}-")]
    return max(fitting, key=lambda each: len(each["name"]))["id"] if fitting else name
