"""Downloads the small files of a hub model before its engine's first start.

The engine's command depends on them: the chat template, the token that ends a turn, the parsers for tool calls and
reasoning, and whether the model makes embeddings. The engine downloads the weights itself.
"""

import logging
import subprocess
import sys

from models.settings.hub import hub_is_offline
from models.settings.settings import engine_environment
from models.spec import ModelSpec
from serve.fleet.model_files import find_model_files

_MODULE = "huggingface_hub.cli.hf"
_PATTERNS = ("*.json", "*.jinja")
_TIMEOUT_S = 120.0
_log = logging.getLogger("parley.supervisor")


def download_small_files(spec: ModelSpec) -> None:
    """Downloads a hub model's JSON files and chat templates into the hub's cache, unless its weights are there.

    Without them the engine starts with defaults, and its own error says why the hub cannot be reached.
    """
    if spec.path is None or spec.folder is not None or hub_is_offline():
        return
    folder = find_model_files(spec).folder
    if folder is not None and next(folder.glob("*.safetensors"), None) is not None:
        return
    patterns = [argument for pattern in _PATTERNS for argument in ("--include", pattern)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE, "download", spec.path, *patterns, "--quiet"], env=_environment(),
            capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        failure = done.stderr.strip().rpartition("\n")[2][:300] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        _log.warning("%s: its configuration cannot be downloaded before the start: %s", spec.id, failure)


def _environment() -> dict[str, str]:
    return engine_environment(
        hub_token=True, HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1"
    )
