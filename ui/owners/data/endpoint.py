"""`POST /data/check` of the owners' app: checks a training file and returns the report, also as HTML.

The file bypasses Gradio, which would store it. data.js sends it; the check is `train.data.endpoint`'s.
"""

import tempfile
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.files.atomic import incoming_file
from models.http.multipart import receive_form
from models.http.payloads import run_in_thread, threaded_context
from train.data.endpoint import DataCheck, DataFile, data_suffix
from ui.backend.context import PageContext
from ui.backend.uploads import error_response, json_response
from ui.owners.data.html import report_html

CHECK_PATH = "/data/check"


class DataCheckEndpoint:
    """The endpoint as an ASGI app: `{"report": …, "html": …}`, or OpenAI's error body."""

    def __init__(self, context: PageContext) -> None:
        self._settings, self._registry = context.settings, context.registry
        self._checks = DataCheck()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._respond(Request(scope, receive)))(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method != "POST":
            return Response("Send a file.", 405, {"allow": "POST"}, "text/plain")
        try:
            report = await self._check(request)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return error_response(error)
        return json_response({"report": report, "html": report_html(report)})

    async def _check(self, request: Request) -> dict[str, Any]:
        self._settings.files_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._settings.files_dir, prefix=".pending-") as folder:
            limit = int(self._settings.max_upload_mib * 2**20)
            async with threaded_context(incoming_file(Path(folder), limit)) as incoming:
                form = await receive_form(request, "file", incoming)
                path = await run_in_thread(incoming.publish, f"data{data_suffix(form.filename)}")
            sent = DataFile(path, form.filename, form.fields)
            return await self._checks.check_file(self._settings, self._registry, sent)
