"""Downloads the small files of a hub model before its engine's first start.

The engine's command depends on them: the chat template, the token that ends a turn, the parsers for tool calls and
reasoning, and whether the model makes embeddings. The engine downloads the weights itself.
"""

import asyncio
import logging
import subprocess
import sys

from pydantic import SecretStr

from models.settings.environment import engine_environment
from models.settings.hub import hub_is_offline, hub_variables
from models.spec import ModelSpec
from serve.fleet.model_files import find_model_files

_MODULE = "huggingface_hub.cli.hf"
_PATTERNS = ("*.json", "*.jinja")
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"
}  # fmt: skip
_TIMEOUT_S = 120.0
_log = logging.getLogger("parley.supervisor")


async def download_small_files(spec: ModelSpec, token: SecretStr | None = None) -> None:
    """Downloads a hub model's JSON files and chat templates into the hub's cache, unless its weights are there.

    Without them the engine starts with defaults, and its own error says why the hub cannot be reached. A cancellation
    ends the download, so that a slow hub does not delay a stop.
    """
    if spec.path is None or spec.folder is not None or hub_is_offline():
        return
    folder = find_model_files(spec).folder
    if folder is not None and next(folder.glob("*.safetensors"), None) is not None:
        return
    patterns = [argument for pattern in _PATTERNS for argument in ("--include", pattern)]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            command = [sys.executable, "-m", _MODULE, "download", spec.path, *patterns, "--quiet"]
            failure = await _run(command, engine_environment(**_QUIET, **hub_variables(token)))
    except TimeoutError:
        failure = f"the hub did not answer within {_TIMEOUT_S:.0f} s"
    except OSError as error:
        failure = str(error)
    if failure:
        _log.warning("%s: its configuration cannot be downloaded before the start: %s", spec.id, failure)


async def _run(command: list[str], environment: dict[str, str]) -> str:
    """Runs a program to its end; returns the last line of its errors if it failed."""
    child = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    last = errors.decode(errors="replace").strip().rpartition("\n")[2][:300]
    return (last or f"it ended with status {child.returncode}") if child.returncode else ""
