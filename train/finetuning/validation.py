"""The check of a job's files, as a worker job before the training: problems become events, errors fail the job.

Like OpenAI, it refuses a file for one bad line, where `parley train` would leave the line out. The run links to the
files, so that deleting them does not affect the job. What the check reports is stored in the run's folder, so that the
training does not check them again.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import NotFound, ParleyError
from models.files.atomic import atomic_write
from models.files.stored_files import Files
from models.jobs.jobs import Job, enqueue_in
from models.jobs.worker import JobContext
from models.quantities import count_noun
from train.data.checks import FEWEST, CheckedData, Data, check, with_validation
from train.data.conversations import Example, Preference, Problem
from train.data.readers import Columns, read
from train.finetuning.creation import TRAIN
from train.finetuning.lifecycle import add_event, fail, lock_job
from train.request import TrainingRequest
from train.run.folder import write_json
from train.trainers.preparation import with_validation_problems

MOST_LISTED = 50  # problem lines that become events; the rest is only counted
_FILES = {"training_file": "training.jsonl", "validation_file": "validation.jsonl"}
_FILE = "checked.json"


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a job's files: the API's error (None if they are valid), and problems as sentences."""

    error: dict[str, Any] | None
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def run_check(job: Job, context: JobContext) -> None:
    """Validates one job's files, then fails the job or queues its training."""
    job_id = job.params["fine_tuning_job"]
    with context.database.read() as session:
        row = lock_job(session, job_id)
        request = row.request
        if row.job != job.id or row.status != "validating_files":
            return
    folder = context.settings.runs_dir / job_id
    verdict = examine(Files(context.settings, context.database), request, folder)
    with context.database.write() as session:
        row = lock_job(session, job_id)
        if row.job != job.id or row.status != "validating_files":
            return  # cancelled in the meantime
        for line in verdict.warnings:
            add_event(session, job_id, line, level="warn")
        if verdict.error:
            fail(session, row, verdict.error, verdict.lines)
        else:
            row.status = "queued"
            row.job = enqueue_in(session, TRAIN, {"fine_tuning_job": job_id})
            add_event(session, job_id, "Files validated, moving job to queued state")
    if verdict.error:
        shutil.rmtree(folder, ignore_errors=True)


def data_file(run_folder: Path, param: str) -> Path:
    """A run's own link to the training or validation file."""
    return run_folder / _FILES[param]


def reading_columns(request: Mapping[str, Any]) -> Columns | None:
    """How the files of a request are read; None for the defaults."""
    return Columns(fold_system=True) if (request.get("parley") or {}).get("fold_system") else None


def examine(files: Files, request: dict[str, Any], folder: Path) -> Verdict:
    """Checks both files of a request; the first error ends it. What was found is stored for the training."""
    warnings: list[str] = []
    checked: dict[str, CheckedData] = {}
    for param in _FILES:
        if not request[param]:
            continue
        try:
            path = _link_file(files, request[param], data_file(folder, param))
            checked[param] = check(path, reading_columns(request))
        except NotFound:
            return Verdict(_error(param, f"File {request[param]} does not exist any more."))
        except ParleyError as error:
            return Verdict(_error(param, f"Invalid file format. {error}"))
        verdict = _verdict(checked[param], param, request[param], request["method"])
        if verdict.error:
            return verdict
        warnings += verdict.warnings
    save_checked(folder, checked["training_file"], checked.get("validation_file"))
    return Verdict(None, warnings=tuple(warnings))


def _verdict(checked: CheckedData, param: str, file_id: str, method: str) -> Verdict:
    which = param.removesuffix("_file")
    pairs, examples = _count(checked)
    if checked.labels:
        message = (
            f"Invalid file format. Input file {file_id} has answers labelled good or bad (KTO), which the API does not "
            "support: use `parley train FILE --method kto`, or remove the labels."
        )
        return Verdict(_error(param, message))
    other = "dpo" if method == "supervised" else "supervised"
    if (pairs if other == "dpo" else examples) and not (pairs if method == "dpo" else examples):
        kind = "preference" if other == "dpo" else "chat"
        return Verdict(
            _error(
                param,
                f"Invalid file format. Input file {file_id} is in the fine-tune-{kind} format, but the specified "
                f"fine-tuning job is not using '{other}' as the training method (provided method={method}).",
            )
        )
    errors = [problem for problem in checked.errors if problem.line]
    if errors:
        return Verdict(_error(param, f"Invalid file format. {_describe(errors[0])}"), tuple(_describe_all(errors)))
    number = pairs if method == "dpo" else examples
    if number < FEWEST:
        message = f"{which.capitalize()} file has {number} example(s), but must have at least {FEWEST} examples"
        return Verdict({"code": "invalid_n_examples", "message": message, "param": param})
    whole = [problem for problem in checked.errors if not problem.line]
    if whole:
        return Verdict(_error(param, _describe(whole[0])), tuple(_describe_all(whole)))
    return Verdict(
        None, warnings=tuple(f"{which.capitalize()} file: {line}" for line in _describe_all(checked.problems))
    )


def _count(checked: CheckedData) -> tuple[int, int]:
    """(preference pairs, conversations) that were read."""
    return len(getattr(checked, "preferences", ())), len(checked.examples)


def _error(param: str, message: str) -> dict[str, Any]:
    which = param.removesuffix("_file")
    return {
        "code": f"invalid_{param}",
        "message": f"The job failed due to an invalid {which} file. {message}",
        "param": param,
    }


def _describe_all(problems: Any) -> Iterator[str]:
    problems = list(problems)
    for problem in problems[:MOST_LISTED]:
        yield _describe(problem)
    if len(problems) > MOST_LISTED:
        yield f"… and {count_noun(len(problems) - MOST_LISTED, 'more problem')}"


def _describe(problem: Problem) -> str:
    where = f"Line {problem.line}: " if problem.line else ""
    return f"{where}{problem.message} ({problem.mend})"


def _link_file(files: Files, file_id: str, place: Path) -> Path:
    """The run's own link to an uploaded file's bytes; a copy where the file system has no links."""
    source = files.get(file_id).path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    with suppress(OSError):
        os.link(source, place)
    if not place.exists():
        try:
            atomic_write(place, source.read_bytes())
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {file_id!r}.") from error
    return place


def save_checked(folder: Path, training: CheckedData, validation: CheckedData | None) -> None:
    """Stores the problems of a job's files, which passed their checks, together with what both have in common."""
    if validation is not None:
        # Only training data can have too few examples.
        problems = tuple(problem for problem in validation.problems if problem.code != "too-few")
        training = with_validation(training, replace(validation, problems=problems))
    held = training.validation
    values = {
        "training": [asdict(problem) for problem in training.problems],
        "validation": [asdict(problem) for problem in held.problems] if held else None,
    }
    write_json(folder / _FILE, values)


def load_checked(request: TrainingRequest, folder: Path) -> CheckedData | None:
    """The report as `check` made it, its examples read again; None if the files were checked by an older version."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        values = json.loads((folder / _FILE).read_text("utf-8"))
        checked = _read(request.data, values["training"], request.columns)
        if values["validation"] is not None and not isinstance(request.validation, int | float):
            checked = replace(checked, validation=_read(request.validation, values["validation"], request.columns))
        return with_validation_problems(checked)
    return None


def _read(data: Data, stored: list[dict[str, Any]], columns: Columns | None) -> CheckedData:
    problems = tuple(Problem(**values) for values in stored)
    errors = {problem.line for problem in problems if problem.severity == "error"}
    reading = read(str(data), columns)
    items = [item for item in reading if not isinstance(item, Problem) and item.line not in errors]
    return CheckedData(
        tuple(item for item in items if isinstance(item, Example)),
        problems,
        tuple(item for item in items if isinstance(item, Preference)),
        reading.name,
        reading.format,
        reading.lines,
    )
