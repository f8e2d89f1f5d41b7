"""The Data tab: a file is dropped, and what is wrong with it is shown. The check itself is `train.data.endpoint`'s.

The file does not go through Gradio, which would keep it: the browser sends it to `/data/check`, for owners only, which
answers with the report and with the report as HTML. What the browser does is in data.js.
"""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import ParleyError
from train.data.endpoint import DataCheck
from ui.backend.context import Room, friendly
from ui.owners.data.html import report_html

CHECK = "/data/check"

_TAB = """
<form id="data-form" class="data-form" autocomplete="off">
  <label id="data-drop" class="drop" for="data-file" tabindex="0">
    <b>Drop training data here</b>
    <span>or choose a file: .jsonl, .json, .csv, .tsv or .parquet. It is checked on your machine and not kept.</span>
    <input id="data-file" name="file" type="file" accept=".jsonl,.ndjson,.json,.csv,.tsv,.parquet">
  </label>
  <details><summary>How to read it</summary><div class="fields">
    <label>Trained by <select name="provider"><option value="openai">OpenAI (at least 10 examples)</option>
      <option value="together">Together AI</option><option value="local">this machine</option></select></label>
    <label>Question column <input name="prompt_column" placeholder="prompt"></label>
    <label>Answer column <input name="response_column" placeholder="response"></label>
    <label>System message for all <input name="system" placeholder="none"></label>
  </div></details>
</form>
<div id="data-line" role="status" aria-live="polite"></div>
<div id="data-report"></div>
"""


class DataDesk:
    """`POST /data/check` of the page, as an ASGI app: `{"report": …, "html": …}`, or OpenAI's error body."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._check = DataCheck()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = {"settings": self._room.settings, "database": self._room.database, "lift_limit": lambda: None}
        answer = await self._answer(Request({**scope, "state": state}, receive))
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return Response("Send a file.", 405, {"allow": "POST"}, "text/plain")
        try:
            report = await self._check.report(request)
        except ParleyError as error:
            return _json(error.body(), error.status)
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return _json(ParleyError(friendly(error)).body(), 500)
        return _json({"report": report, "html": report_html(report)}, 200)


def data_tab() -> None:
    """Lay out the tab. Call inside the tab."""
    import gradio as gr

    gr.HTML(_TAB, elem_id="data-tab")


def _json(content: object, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
