"""Imports a file or folder of exported evals: the API's objects, promptfoo's configurations and results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.eval_runs.openai_dump import Dump, DumpImport, import_objects, read_dump
from evals.exchange.assertion_slots import Losses
from evals.exchange.folder import MOST_BYTES, Folder, NotMapped
from evals.exchange.promptfoo_config import ImportedEval, import_config, is_config
from evals.exchange.promptfoo_results import add_results, results_of
from models.database import Database
from models.errors import Invalid, NotFound
from models.settings.settings import Settings

_CONFIGS = ("promptfooconfig*.yaml", "promptfooconfig*.yml", "promptfooconfig*.json")


@dataclass
class Import:
    """What was imported: the API's objects, and evals with planned runs."""

    objects: DumpImport = field(default_factory=DumpImport)
    evals: list[ImportedEval] = field(default_factory=list)


def import_evals(settings: Settings, database: Database, path: Path, judge: str | None = None) -> Import:
    """Imports a file, or everything in a folder. What exists already is not changed.

    Args:
        judge: the model for promptfoo's rubrics that name none.

    Raises:
        NotFound: there is no such file. Invalid: it has nothing that can be imported.
    """
    if not path.exists():
        raise NotFound(f"There is no file or folder {path}.", param="path")
    done = Import()
    configs = _configs(path)
    for file in configs:
        losses = Losses()
        try:
            done.evals += import_config(settings, database, file, judge, losses)
        except (NotMapped, RecursionError) as error:
            if path in configs:
                raise Invalid(f"{path} cannot be imported: {_reason(error)}.", param="path") from error
            losses.add(_reason(error))
        done.objects.lost += [f"{file.name}: {line}" for line in losses.lines()]
    if path in configs:
        return done
    dump, read_results = read_dump(path), False
    for file in _json_files(path, configs):
        read_results |= _add_results(dump, file, done.objects)
    if not dump.has_objects and not configs and not read_results:
        unread = f" {', '.join(dump.unread[:3])} is not valid JSON." if dump.unread else ""
        raise Invalid(
            f"{path} has nothing to import: give dumps of the API, a promptfooconfig.yaml, or promptfoo's "
            f"results.{unread}",
            param="path",
        )
    import_objects(settings, database, dump, done.objects)
    return done


def _configs(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for pattern in _CONFIGS for file in path.rglob(pattern))
    if path.suffix in (".yaml", ".yml"):
        return [path]
    return [path] if path.suffix == ".json" and is_config(_value(path)) else []


def _json_files(path: Path, configs: list[Path]) -> list[Path]:
    files = sorted(path.rglob("*.json*")) if path.is_dir() else [path]
    return [file for file in files if file.suffix in (".json", ".jsonl") and file not in configs]


def _add_results(dump: Dump, file: Path, done: DumpImport) -> bool:
    """Adds a file's results, if it has any."""
    if file.stat().st_size > MOST_BYTES:
        done.lost.append(
            f"{file.name}: it is larger than {MOST_BYTES // 2**20} MiB, so only the API's objects in it are read."
        )
        return False
    value, losses = _value(file), Losses()
    if results_of(value) is None:
        return False
    try:
        add_results(dump, file, value, losses)
    except (NotMapped, RecursionError) as error:
        losses.add(_reason(error))
    done.lost += [f"{file.name}: {line}" for line in losses.lines()]
    return True


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def _value(file: Path) -> Any:
    """The value of a JSON file, the values of a JSONL file; None if it has none."""
    folder = Folder(file.parent)
    try:
        return folder.rows(file.name) if file.suffix == ".jsonl" else folder.value(file.name)
    except NotMapped:  # `read_dump` reports files that are not JSON
        return None
