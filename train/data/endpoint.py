"""`POST /v1/parley/data/check`: the report of a file in the request, or of an uploaded file. Light to import.

The request is a form (multipart/form-data) with the file as `file`, or a JSON body with the id of an uploaded file as
`file`. Other fields: `validation_file` (an id), `format`, `provider`, `prompt_column`, `response_column`,
`system_column`, `system`, `encoding`, `separator`, and `model`, whose tokens are counted. At most two checks run at
once, each in a process of its own (`train.planning.check_process`).
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import Busy, Invalid, NotFound, ParleyError
from models.files.atomic import incoming_file
from models.files.file_kinds import TRAINING_SUFFIXES
from models.files.stored_files import Files, StoredFile
from models.http.multipart import receive_form
from models.http.payloads import json_response, read_json_object, run_in_thread, threaded_context
from models.registry.registry import Registry
from models.settings.environment import child_environment

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from models.settings.settings import Settings

_LONGEST_S = 600.0
_COUNTED_MODEL, _LONGEST_NAME = "gpt-4o-mini", 255
_WAITING = 8  # checks that may wait for a free process
_COLUMNS = {
    "prompt_column": "prompt", "response_column": "response", "system_column": "system_column", "system": "system",
    "encoding": "encoding", "separator": "separator",
}  # fmt: skip


class CheckFailed(ParleyError):
    """A user error that the check process reported."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(str(fields["message"]), param=fields.get("param"), code=fields.get("code"))
        self.status = int(fields["status"])  # type: ignore[misc]  # the status of the original error
        self.kind = "invalid_request_error" if self.status < 500 else "server_error"  # type: ignore[misc]  # likewise


@dataclass(frozen=True)
class DataFile:
    """A file to check: its path with a suffix that tells the format, its original name, and the form's other fields."""

    path: Path
    filename: str
    fields: Mapping[str, Any]


class DataCheck:
    """The endpoint. `request.state` holds `settings` and `database`, as the gateway sets them for every room."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(2)
        self._waiting = 0

    async def answer(self, request: "Request") -> "Response":
        """200 with the report, however bad the data is; an error only if there is no file to read."""
        return json_response(await self.report(request))

    async def report(self, request: "Request") -> dict[str, Any]:
        """The report as `CheckedData.to_json` has it.

        Raises:
            Invalid, NotFound: no file, or one of an unknown kind. Busy: too many checks are running.
        """
        settings = request.state.settings
        settings.files_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.files_dir, prefix=".pending-") as folder:
            sent = await self._received(request, Path(folder))
            validation = None
            if stored_id := sent.fields.get("validation_file"):
                held = await run_in_thread(_stored(request).get, str(stored_id))
                validation = _named(Path(folder), "validation", held)
            return await self.check_file(settings, Registry(request.state.database), sent, validation)

    async def check_file(
        self, settings: "Settings", registry: Registry, data: DataFile, validation: Path | None = None
    ) -> dict[str, Any]:
        """The report on a file, from a process of its own; at most two checks run at once.

        Raises:
            Invalid: an option or the file cannot be read. Busy: too many checks are waiting.
        """
        arguments = _arguments(data) | ({"validation": str(validation)} if validation else {})
        arguments["model"] = await run_in_thread(_counted_model, data.fields.get("model"), registry)
        if self._waiting >= _WAITING:
            raise Busy("Other files are being checked: try again in a moment.", retry_after=5)
        self._waiting += 1
        try:
            async with self._turn:
                report = await _run(arguments, child_environment(settings), data.filename)
        finally:
            self._waiting -= 1
        return report | {"source": data.filename}

    async def _received(self, request: "Request", folder: Path) -> DataFile:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            limit = int(request.state.settings.max_upload_mib * 2**20)
            async with threaded_context(incoming_file(folder, limit)) as incoming:
                form = await receive_form(request, "file", incoming)
                path = await run_in_thread(incoming.publish, f"data{data_suffix(form.filename)}")
            return DataFile(path, form.filename, form.fields)
        body = await read_json_object(request)
        if not isinstance(body.get("file"), str):
            raise Invalid("Send a form with the file as `file`, or the id of an uploaded file as `file`.", param="file")
        stored = await run_in_thread(_stored(request).get, body["file"])
        return DataFile(_named(folder, "data", stored), stored.filename, body)


def _counted_model(name: Any, registry: Registry) -> str:
    """The model whose tokens are counted: a registered one's weights, or an OpenAI model.

    Raises:
        Invalid: it is not text, or a path: other files of this server are not read.
    """
    if not name:
        return _COUNTED_MODEL
    if not isinstance(name, str):
        raise Invalid("model must be text.", param="model")
    try:
        spec = registry.resolve(name)
        spec = registry.resolve(str(spec.base)) if spec.kind == "adapter" else spec
    except NotFound:
        if len(name) > _LONGEST_NAME or os.path.exists(name):
            raise Invalid("model must be a registered model or an OpenAI model.", param="model") from None
        return name
    return spec.upstream.model if spec.upstream else str(spec.path)


def _stored(request: "Request") -> Files:
    return Files(request.state.settings, request.state.database)


def _named(folder: Path, name: str, stored: StoredFile) -> Path:
    """The stored bytes under a name that says what kind they are."""
    path = folder / f"{name}{data_suffix(stored.filename)}"
    path.symlink_to(stored.path.resolve())
    return path


def data_suffix(filename: str) -> str:
    """The suffix by which a file of this name is read; .jsonl for an unknown one."""
    suffix = Path(filename).suffix.lower()
    return suffix if suffix in TRAINING_SUFFIXES else ".jsonl"


def _arguments(sent: DataFile) -> dict[str, Any]:
    fields = sent.fields
    for name in ("format", "provider", *_COLUMNS):
        if fields.get(name) is not None and not isinstance(fields[name], str):
            raise Invalid(f"{name} must be text.", param=name)
    provider = fields.get("provider") or "openai"
    if provider not in ("openai", "together", "local"):
        raise Invalid(f"There is no provider {provider!r}: use openai, together or local.", param="provider")
    columns = {inner: fields[name] for name, inner in _COLUMNS.items() if fields.get(name)}
    return {
        "data": str(sent.path), "format": fields.get("format") or "auto", "provider": provider, "columns": columns,
    }  # fmt: skip


async def _run(arguments: Mapping[str, Any], environment: Mapping[str, str], filename: str) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "train.planning.check_process", env=dict(environment),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_LONGEST_S):
            out, err = await child.communicate(json.dumps(arguments).encode())
    except TimeoutError as error:
        raise Invalid(f"The check took over {_LONGEST_S:.0f} s. `parley data check` has no limit.") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ParleyError(f"The check process failed with exit code {child.returncode}: {last[:300]}")
    answer = json.loads(out)
    if "error" in answer:
        # The message has the name of our copy of the file.
        message = str(answer["error"]["message"]).replace(Path(arguments["data"]).name, filename)
        raise CheckFailed(answer["error"] | {"message": message})
    return answer["report"]
