"""Output items of runs as the API's objects: the data, the answer and the results of the graders."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.api_tables import EvalItemRow, EvalRunRow
from evals.eval_runs.evals import Page, PageRange, seconds
from evals.eval_runs.runs import run_row
from evals.tables import AnswerRow, TaskSampleRow
from models.chat.messages import read_api_message
from models.database import Database
from models.errors import NotFound

_ID = re.compile(r"outputitem_(?P<run>[\w-]{1,64})_(?P<place>\d{1,9})", re.ASCII)


def get_item(database: Database, eval_id: str, run_id: str, item_id: str) -> dict[str, Any]:
    """One output item of a run.

    Raises:
        NotFound: there is no such run, or no such item of it.
    """
    with database.read() as session:
        run = run_row(session, eval_id, run_id)
        query = item_query(run).where(EvalItemRow.place == _place(run, item_id, "output_item_id"))
        found: Any = session.execute(query).first()
        if found is None:
            raise _no_item(item_id, "output_item_id")
        item, sample, answer = found
        return _item_json(run, item, sample, answer)


def list_items(database: Database, eval_id: str, run_id: str, page: PageRange, status: str | None = None) -> Page:
    """The output items of a run in the order of its data.

    Args:
        status: only items that `pass`, or only those that `fail`.

    Raises:
        NotFound: there is no such run, or `page.after` is not one of its items.
    """
    with database.read() as session:
        run = run_row(session, eval_id, run_id)
        query = item_query(run)
        if status is not None:
            query = query.where(EvalItemRow.status == status)
        if page.after is not None:
            last = _place(run, page.after, "after")
            query = query.where(EvalItemRow.place < last if page.descending else EvalItemRow.place > last)
        order = EvalItemRow.place.desc() if page.descending else EvalItemRow.place.asc()
        rows: Sequence[Any] = session.execute(query.order_by(order).limit(page.limit + 1)).all()
        data = [_item_json(run, item, sample, answer) for item, sample, answer in rows[: page.limit]]
    return Page(data, len(rows) > page.limit)


def item_id(run_id: str, place: int) -> str:
    """The id of the output item at a place."""
    return f"outputitem_{run_id.removeprefix('evalrun_')}_{place}"


def item_query(run: EvalRunRow) -> Any:
    """The query of a run's items: (item, its row of data, its answer)."""
    return (
        select(EvalItemRow, TaskSampleRow, AnswerRow)
        .join(TaskSampleRow, (TaskSampleRow.place == EvalItemRow.place) & (TaskSampleRow.task_hash == run.task_hash))
        .outerjoin(AnswerRow, AnswerRow.id == EvalItemRow.answer_id)
        .where(EvalItemRow.run_id == run.id)
    )


def _place(run: EvalRunRow, wanted: str, param: str) -> int:
    match = _ID.fullmatch(wanted)
    if match is None or match["run"] != run.id.removeprefix("evalrun_"):
        raise _no_item(wanted, param)
    return int(match["place"])


def _no_item(wanted: str, param: str) -> NotFound:
    return NotFound(f"There is no output item {wanted[:80]!r} of this run.", code="not_found", param=param)


def _item_json(run: EvalRunRow, item: EvalItemRow, sample: TaskSampleRow, answer: AnswerRow | None) -> dict[str, Any]:
    metadata = sample.content["metadata"]
    return {
        "id": item_id(run.id, item.place),
        "object": "eval.run.output_item",
        "created_at": seconds(item.created),
        "run_id": run.id,
        "eval_id": run.eval_id,
        "status": item.status,
        "datasource_item_id": item.place,
        "datasource_item": metadata["item"],
        "results": item.results,
        "sample": _sample_json(run, item, sample.content["messages"], answer),
    }


def _sample_json(
    run: EvalRunRow, item: EvalItemRow, messages: list[dict[str, Any]], answer: AnswerRow | None
) -> dict[str, Any]:
    sampling: Mapping[str, Any] = run.content["data_source"].get("sampling_params") or {}
    prompt, completion = (answer.prompt_tokens or 0, answer.completion_tokens or 0) if answer else (0, 0)
    output = {"role": "assistant", "content": answer.text} if answer else None
    if answer and answer.tool_calls:
        output = (output or {}) | {"tool_calls": answer.tool_calls}
    limit = sampling.get("max_completion_tokens") or sampling.get("max_completions_tokens") or 0
    return {
        "input": [{"role": each.role, "content": each.content} for each in map(read_api_message, messages)],
        "output": [output] if output else [],
        "model": answer.model if answer else run.model,
        "finish_reason": (answer.finish_reason or "stop") if answer else "error",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cached_tokens": 0,
            "total_tokens": prompt + completion,
        },
        "error": {"code": "sample_error", "message": item.error} if item.error else None,
        "seed": _or(sampling.get("seed"), 0),
        "temperature": float(_or(sampling.get("temperature"), 1.0)),
        "top_p": float(_or(sampling.get("top_p"), 1.0)),
        "max_completion_tokens": limit,
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def item_places(session: Session, run_id: str) -> set[int]:
    """The places that have an output item already."""
    return set(session.scalars(select(EvalItemRow.place).where(EvalItemRow.run_id == run_id)))
