"""An eval with its rows and prompts, ready to be written for another tool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.api_tables import EvalRow, EvalRunRow
from evals.eval_runs.data_sources import read_rows
from evals.eval_runs.stored_completions import KINDS
from evals.exchange.planned_runs import PLANNED
from evals.tables import TaskSampleRow
from models.database import Database
from models.errors import Invalid, NotFound
from models.files.stored_files import Files
from models.settings.settings import Settings


@dataclass(frozen=True)
class ExportedEval:
    """An eval's graders, the rows {item, sample?} of its runs, and the runs' requests (`data_source`)."""

    name: str
    criteria: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    requests: Sequence[Mapping[str, Any]]

    @property
    def has_answers(self) -> bool:
        """Whether the rows are graded as they are, and no model answers."""
        return not any(request.get("model") for request in self.requests)


@dataclass
class Export:
    """The files of an export by path, what to do with them, and a sentence for each part without a counterpart."""

    files: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    readme: str = ""

    def write(self, folder: Path) -> None:
        """Writes the files with a README.md into a new or empty folder.

        Raises:
            Invalid: the folder has files, or cannot be written.
        """
        lost = "\n".join(f"- {line}" for line in self.lost) or "Nothing is left out."
        files = self.files | {"README.md": f"{self.readme}\n## Not exported\n\n{lost}\n"}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise Invalid(f"{folder} is not empty: name a new folder.", param="folder")
            for name, text in files.items():
                file = folder / name
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, "utf-8")
        except OSError as error:
            raise Invalid(f"{folder} cannot be written: {error.strerror or error}.", param="folder") from error


def load_exported(settings: Settings, database: Database, wanted: str) -> ExportedEval:
    """The eval of a run with the run's rows, or an eval with its planned runs or its newest run.

    Raises:
        NotFound: there is no such eval or run. Invalid: it has no rows.
    """
    with database.read() as session:
        run = _run(session, wanted)
        parent = session.scalar(select(EvalRow).where(EvalRow.id == (run.eval_id if run else wanted)))
        if parent is None:
            raise NotFound(
                f"There is no eval or run {wanted[:80]!r}: use an id such as eval_… or evalrun_….", param="id"
            )
        plans = (
            [] if wanted.startswith("evalrun_") else [plan["data_source"] for plan in parent.content.get(PLANNED) or ()]
        )
        requests = plans or ([run.content["data_source"]] if run else [])
        if not requests:
            raise Invalid(f"{wanted} has no runs, so there are no rows to export: start one.", param="id")
        rows = [] if plans or run is None else _stored_rows(session, run)
        name, criteria = parent.name, list(parent.content["testing_criteria"])
    if not rows:
        source = requests[0]["source"]
        if source["type"] in KINDS:
            raise Invalid(
                f"{wanted} has not read what it chooses from the stored answers yet: export it when it is complete.",
                param="id",
            )
        rows = list(read_rows(Files(settings, database), source))
    return ExportedEval(name, criteria, rows, requests)


def _run(session: Session, wanted: str) -> EvalRunRow | None:
    """The run with an id, or the newest run of an eval."""
    query = select(EvalRunRow).where(EvalRunRow.id == wanted)
    newest = select(EvalRunRow).where(EvalRunRow.eval_id == wanted).order_by(EvalRunRow.number.desc()).limit(1)
    return session.scalar(query) or session.scalars(newest).first()


def _stored_rows(session: Session, run: EvalRunRow) -> list[dict[str, Any]]:
    query = select(TaskSampleRow.content).where(TaskSampleRow.task_hash == run.task_hash).order_by(TaskSampleRow.place)
    rows = [content["metadata"] for content in session.scalars(query)] if run.task_hash else []
    return [{key: row[key] for key in ("item", "sample") if key in row} for row in rows]
