"""promptfoo configurations written to a folder, and what an import makes of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from evals.api_tables import EvalRow
from evals.eval_runs.data_sources import read_rows
from evals.exchange.imports import import_evals
from evals.exchange.planned_runs import PLANNED
from models.database import Database
from models.files.stored_files import Files
from models.settings.settings import Settings


@dataclass(frozen=True)
class Imported:
    """An imported eval: its graders without ids, its items, its planned runs; and all lines about losses."""

    name: str
    criteria: list[dict[str, Any]]
    items: list[dict[str, Any]]
    plans: list[dict[str, Any]]


def write_config(folder: Path, config: Any, **files: str) -> Path:
    """Writes promptfooconfig.yaml, from a value or a text, and files whose names have `__` for a dot."""
    folder.mkdir(exist_ok=True)
    text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
    (folder / "promptfooconfig.yaml").write_text(text)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def import_config(
    settings: Settings, database: Database, folder: Path, judge: str | None = None
) -> tuple[list[Imported], list[str]]:
    """The evals of a folder's configuration, and the lines about what was lost."""
    done = import_evals(settings, database, folder, judge)
    made = []
    with database.read() as session:
        for each in done.evals:
            row = session.scalars(select(EvalRow).where(EvalRow.id == each.id)).one()
            criteria = [{k: v for k, v in each.items() if k != "id"} for each in row.content["testing_criteria"]]
            plans = json.loads(json.dumps(row.content[PLANNED]))
            source = plans[0]["data_source"]["source"] if plans else None
            items = [line["item"] for line in read_rows(Files(settings, database), source)] if source else []
            made.append(Imported(row.name, criteria, items, plans))
    prefix = "promptfooconfig.yaml: "
    return made, [line.removeprefix(prefix) for line in done.objects.lost]
