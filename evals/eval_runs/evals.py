"""Creates, lists and changes evals; returns the API's objects. `runs` deletes them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from evals.api_tables import EvalRow
from evals.eval_runs.requests import EvalCreate, EvalUpdate
from evals.graders.grading import check_grader
from evals.graders.shapes import grader_json
from evals.scorers.format_checks import schema_validator
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.http.repeated_requests import Caller, find_repeated, request_digest

_SAMPLE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}},
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "choices"],
}


@dataclass(frozen=True)
class PageRange:
    """Which page of a list: the last id of the page before, the length, and the order of creation."""

    after: str | None = None
    limit: int = 20
    descending: bool = False


@dataclass(frozen=True)
class Page:
    """A page of a list, and whether there are more."""

    data: list[dict[str, Any]]
    has_more: bool


def create_eval(
    database: Database, request: EvalCreate, caller: Caller, *, unsandboxed: bool = False
) -> dict[str, Any]:
    """Creates an eval. For a repeated request, returns the eval that the first one created.

    Raises:
        Invalid: the item schema or a grader is not valid.
    """
    config = request.data_source_config
    if config.type == "custom":
        schema_validator(config.item_schema)
    criteria = [grader_json(grader) for grader in request.testing_criteria]
    for number, grader in enumerate(criteria):
        check_grader(grader, unsandboxed, f"testing_criteria.{number}")
    identified = [with_criterion_id(grader) for grader in criteria]
    if len({grader["id"] for grader in identified}) < len(identified):
        raise Invalid("Two testing_criteria have the same id: leave the ids out.", param="testing_criteria")
    digest = request_digest(caller, request.model_dump(mode="json"))
    if caller.repeated and (row := find_repeated(database, EvalRow, digest)):
        return eval_json(row)
    now = utcnow()
    row = EvalRow(
        id=f"eval_{new_ulid()}",
        name=request.name or f"Eval of {now:%Y-%m-%d %H:%M}",
        content={
            "data_source_config": config_json(request),
            "testing_criteria": identified,
            "metadata": request.metadata,
        },
        digest=digest,
        created=now,
        updated=now,
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        return eval_json(row)


def get_eval(database: Database, eval_id: str) -> dict[str, Any]:
    """One eval.

    Raises:
        NotFound: there is none with that id.
    """
    with database.read() as session:
        return eval_json(eval_row(session, eval_id))


def list_evals(database: Database, page: PageRange, order_by: str = "created_at") -> Page:
    """Evals in the order of their creation, or of their last change (`updated_at`).

    Raises:
        NotFound: `page.after` is not an eval.
    """
    key = (EvalRow.updated, EvalRow.number) if order_by == "updated_at" else (EvalRow.created, EvalRow.number)
    query = select(EvalRow)
    with database.read() as session:
        if page.after is not None:
            last = eval_row(session, page.after, "after")
            place = tuple_(last.updated if order_by == "updated_at" else last.created, last.number)
            query = query.where(tuple_(*key) < place if page.descending else tuple_(*key) > place)
        order = [column.desc() if page.descending else column.asc() for column in key]
        rows = list(session.scalars(query.order_by(*order).limit(page.limit + 1)))
    return Page([eval_json(row) for row in rows[: page.limit]], len(rows) > page.limit)


def update_eval(database: Database, eval_id: str, request: EvalUpdate) -> dict[str, Any]:
    """Changes an eval's name or metadata.

    Raises:
        NotFound: there is none with that id.
    """
    with database.write() as session:
        row = eval_row(session, eval_id)
        if request.name is not None:
            row.name = request.name
        if "metadata" in request.model_fields_set:
            row.content = row.content | {"metadata": request.metadata}
        row.updated = utcnow()
        return eval_json(row)


def eval_row(session: Session, eval_id: str, param: str = "eval_id") -> EvalRow:
    """An eval's row.

    Raises:
        NotFound: there is none with that id.
    """
    row = session.scalar(select(EvalRow).where(EvalRow.id == eval_id))
    if row is None:
        raise NotFound(f"There is no eval {eval_id[:80]!r}.", code="not_found", param=param)
    return row


def eval_json(row: EvalRow) -> dict[str, Any]:
    """The API's object."""
    return {
        "id": row.id,
        "object": "eval",
        "created_at": seconds(row.created),
        "name": row.name,
        "data_source_config": row.content["data_source_config"],
        "testing_criteria": row.content["testing_criteria"],
        "metadata": row.content["metadata"] or {},
    }


def seconds(moment: datetime) -> int:
    """A time in Unix seconds."""
    return int(moment.timestamp())


def with_criterion_id(grader: Mapping[str, Any]) -> dict[str, Any]:
    """A criterion with an id, to which results refer."""
    return {"id": f"{grader['name'][:200]}-{uuid.uuid4()}"} | {k: v for k, v in grader.items() if v is not None}


def config_json(request: EvalCreate) -> dict[str, Any]:
    """The `data_source_config` that the API returns."""
    config = request.data_source_config
    if config.type == "custom":
        properties = {"item": config.item_schema}
        required = ["item"]
        if config.include_sample_schema:
            properties |= {"sample": dict(_SAMPLE_SCHEMA)}
            required.append("sample")
        return {"type": "custom", "schema": {"type": "object", "properties": properties, "required": required}}
    schema = {"type": "object", "properties": {"item": {"type": "object"}, "sample": dict(_SAMPLE_SCHEMA)}}
    return {"type": config.type, "schema": schema | {"required": ["item", "sample"]}, "metadata": config.metadata or {}}
