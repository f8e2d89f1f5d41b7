"""What the check of a job's files found, stored in the run's folder, so that the training does not check them again."""

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from train.data.checks import CheckedData, Data, with_validation
from train.data.conversations import Example, Preference, Problem
from train.data.readers import read
from train.request import TrainingRequest
from train.run.folder import write_json
from train.trainers.preparation import with_validation_problems

_FILE = "checked.json"


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
        checked = _read(request.data, values["training"])
        if values["validation"] is not None and not isinstance(request.validation, int | float):
            checked = replace(checked, validation=_read(request.validation, values["validation"]))
        return with_validation_problems(checked)
    return None


def _read(data: Data, stored: list[dict[str, Any]]) -> CheckedData:
    problems = tuple(Problem(**values) for values in stored)
    errors = {problem.line for problem in problems if problem.severity == "error"}
    reading = read(str(data))
    items = [item for item in reading if not isinstance(item, Problem) and item.line not in errors]
    return CheckedData(
        tuple(item for item in items if isinstance(item, Example)),
        problems,
        tuple(item for item in items if isinstance(item, Preference)),
        reading.name,
        reading.format,
        reading.lines,
    )
