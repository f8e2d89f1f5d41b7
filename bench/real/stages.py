"""Stages of a long run, each stored when it ends, so that a stopped run continues with the next one."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.progress import print_progress
from models.errors import Invalid
from models.files.atomic import atomic_write

_RUN = "run.json"


class Stopped(Exception):
    """The run ends after the requested stage."""


@dataclass(frozen=True)
class Stages:
    """The stages of one run, as JSON files in `folder`."""

    folder: Path
    until: str | None = None

    def run(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stage's result, stored or new; it includes its `seconds`.

        Raises:
            Stopped: the run was to end after this stage.
        """
        path = self.folder / f"{name}.json"
        if path.is_file():
            result = json.loads(path.read_text("utf-8"))
        else:
            print_progress(f"── {name}")
            began = time.perf_counter()
            result = work()
            result["seconds"] = round(time.perf_counter() - began, 1)
            atomic_write(path, (json.dumps(result, ensure_ascii=False) + "\n").encode())
            print_progress(f"── {name}: {result['seconds']:.0f} s")
        if name == self.until:
            raise Stopped
        return result


def open_stages(folder: Path, fingerprint: dict[str, Any], *, fresh: bool = False, until: str | None = None) -> Stages:
    """The stages of a run in a folder, which is created or continued.

    Args:
        fingerprint: what the stored stages depend on. fresh: delete an earlier run's stages.

    Raises:
        Invalid: the folder holds something else, or a run with another fingerprint.
    """
    stored = folder / _RUN
    if fresh and stored.is_file():
        shutil.rmtree(folder)
    if stored.is_file():
        if json.loads(stored.read_text("utf-8")) != fingerprint:
            raise Invalid(f"{folder} holds a run with other options: add --fresh, or choose another --folder.")
    elif folder.is_dir() and any(folder.iterdir()):
        raise Invalid(f"{folder} holds other files: choose another --folder.")
    else:
        atomic_write(stored, json.dumps(fingerprint).encode())
    return Stages(folder, until)
