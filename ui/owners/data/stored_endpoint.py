"""Stored answers on the Data tab: what there is, which match, one in full, and rows stored as a file.

stored.js calls these addresses. Long work is answered as lines of JSON: progress, then the result.
"""

import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from models.clock import new_ulid, utcnow
from models.completions.chat_forms import ChatForms
from models.completions.feedback import feedback_names
from models.completions.stored_completions import CompletionFilter, StoredCompletions
from models.errors import Invalid, NotFound
from models.files.json_lines import json_line
from models.files.stored_files import Files
from models.http.payloads import read_json_object, run_in_thread
from models.keys import list_keys
from train.data.stored_choice import read_choice
from train.data.stored_rows import RowOptions
from train.data.stored_selection import RowCounts, SelectedAnswer, no_rows_message, select_answers, with_feedback
from ui.backend.context import PageContext
from ui.backend.uploads import TASK_PURPOSE, TRAINING_PURPOSE, error_body, error_response, json_response
from ui.owners.data.stored_form import read_form
from ui.owners.data.stored_html import answer_html, answers_table, counts_html, saved_html

STORED_PATHS = ("/data/stored", "/data/stored/show", "/data/stored/page", "/data/stored/row", "/data/stored/save")
_PAGE = 20
_KEPT = 4  # selections: at 100,000 answers some 15 MB each
_PROGRESS_S = 0.5
_NAMES = {"conversations": "answers", "pairs": "corrections", "prompts": "prompts"}


@dataclass(frozen=True)
class _Selection:
    """The answers that a form has chosen: their ids, and for each why it is left out, or an empty text."""

    options: RowOptions
    ids: list[str]
    reasons: list[str]


class StoredAnswersEndpoint:
    """The endpoint as an ASGI app. One instance serves every browser."""

    def __init__(self, context: PageContext) -> None:
        self._database = context.database
        self._stored = StoredCompletions(context.database)
        self._files = Files(context.settings, context.database)
        self._selections: OrderedDict[str, _Selection] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            response = error_response(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        action = request.url.path.removeprefix("/data/stored").strip("/")
        if request.method != ("POST" if action else "GET"):
            return Response("The Data tab sends this request.", 405, {"allow": "POST" if action else "GET"})
        if not action:
            return json_response(await run_in_thread(self._options))
        sent = await read_json_object(request)
        if action == "page":
            return json_response(await run_in_thread(self._page, sent))
        if action == "row":
            return json_response({"html": await run_in_thread(self._row, sent)})
        work = self._show if action == "show" else self._save
        # Read before the response starts, so that a mistake in the form has its status.
        chosen = await run_in_thread(read_choice, self._database, read_form(sent))
        return StreamingResponse(_lines(work, *chosen), media_type="application/x-ndjson")

    def _options(self) -> dict[str, Any]:
        keys = [{"id": key.id, "name": key.name} for key in list_keys(self._database)]
        return {
            "total": self._stored.count(), "models": self._stored.models(), "names": feedback_names(self._database),
            "keys": keys,
        }  # fmt: skip

    def _show(self, chosen: CompletionFilter, options: RowOptions) -> Generator[dict[str, Any]]:
        counts, first = RowCounts(), list[SelectedAnswer]()
        ids: list[str] = []
        reasons: list[str] = []
        total, due = self._stored.count(chosen), time.monotonic() + _PROGRESS_S
        for answer in select_answers(self._database, chosen, options, counts):
            ids.append(answer.completion.id)
            reasons.append(answer.reason)
            if len(ids) <= _PAGE:
                first.append(answer)
            if len(ids) == _PAGE:
                yield {"table": answers_table(first, options)}
            if time.monotonic() > due:
                due = time.monotonic() + _PROGRESS_S
                yield _progress(counts, total)
        token = new_ulid()
        self._selections[token] = _Selection(options, ids, reasons)
        while len(self._selections) > _KEPT:
            self._selections.popitem(last=False)
        yield {
            "selection": token, "counts": counts_html(counts, options), "table": answers_table(first, options),
            "matches": counts.read, "rows": counts.rows, "page_size": _PAGE,
        }  # fmt: skip

    def _page(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        selection, page = self._selection(sent), sent.get("page")
        if not isinstance(page, int) or isinstance(page, bool) or page < 0:
            raise Invalid("There is no such page.", param="page")
        start = page * _PAGE
        reasons = dict(zip(selection.ids[start : start + _PAGE], selection.reasons[start:], strict=False))
        forms = ChatForms(self._stored)
        page_answers = map(forms.shown, self._stored.get_all(list(reasons)))
        stored = with_feedback(self._database, page_answers)
        answers = [SelectedAnswer(each, feedback, None, reasons[each.id]) for each, feedback in stored]
        return {"table": answers_table(answers, selection.options)}

    def _row(self, sent: Mapping[str, Any]) -> str:
        options = self._selection(sent).options
        stored = ChatForms(self._stored).shown(self._stored.get(str(sent.get("id", ""))))
        ((completion, feedback),) = with_feedback(self._database, iter([stored]))
        return answer_html(SelectedAnswer(completion, feedback, None), options)

    def _selection(self, sent: Mapping[str, Any]) -> _Selection:
        selection = self._selections.get(str(sent.get("selection", "")))
        if selection is None:
            raise NotFound("This list is no longer kept: show the answers again.", param="selection")
        return selection

    def _save(self, chosen: CompletionFilter, options: RowOptions) -> Generator[dict[str, Any]]:
        counts = RowCounts()
        total, due = self._stored.count(chosen), time.monotonic() + _PROGRESS_S
        purpose = TASK_PURPOSE if options.kind == "prompts" else TRAINING_PURPOSE
        name = f"{_NAMES[options.kind]}-{utcnow():%Y-%m-%d}.jsonl"
        with self._files.incoming() as incoming:
            for answer in select_answers(self._database, chosen, options, counts):
                if answer.row is not None:
                    incoming.write(json_line(answer.row))
                if time.monotonic() > due:
                    due = time.monotonic() + _PROGRESS_S
                    yield _progress(counts, total)
            if not counts.rows:
                raise Invalid(no_rows_message(counts))
            # A second click on the same rows gets the same file.
            same = self._files.find_duplicate(incoming, name, purpose)
            file = same or self._files.save(incoming, name, purpose)
        yield {"saved": saved_html(options.kind, file.filename, file.id, counts), "kind": options.kind}


def _progress(counts: RowCounts, total: int) -> dict[str, Any]:
    return {"read": counts.read, "total": total}


async def _lines(
    work: Callable[[CompletionFilter, RowOptions], Generator[dict[str, Any]]],
    chosen: CompletionFilter,
    options: RowOptions,
) -> AsyncIterator[bytes]:
    """The work's parts as lines of JSON, each made in a thread. If the browser goes, the work ends there."""
    parts = work(chosen, options)
    try:
        while (part := await run_in_thread(next, parts, None)) is not None:
            yield json.dumps(part).encode() + b"\n"
    except Exception as error:  # the response has started: its last line has the error
        yield json.dumps(error_body(error)).encode() + b"\n"
    finally:
        parts.close()  # removes a file that is not complete
