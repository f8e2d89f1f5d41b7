"""What a run is made of (the data's fingerprint, the environment), and whether a resumed run is made of the same.

Fingerprints are sha256 over the file, and over the parsed examples in order: a file with moved blank lines is still the
same data, a file with shuffled examples is not.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.errors import Invalid
from train.run.folder import CONFIG, DATA, ENVIRONMENT, read_json, write_json
from train.run.progress import Progress, Stage

_PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets", "tokenizers", "safetensors",
    "numpy",
)  # fmt: skip
_CHUNK = 1 << 20
# Fields of examples and messages that were added later. With their default they are left out of a fingerprint, so that
# runs from before can be resumed.
_ADDED: Mapping[str, Any] = MappingProxyType({"label": None, "reasoning": ""})
# What may differ after a resume: it says when, from where and why, but not what is learnt.
_IGNORED = frozenset({"started", "asked", "data", "run", "reasons"})


def fingerprint(data: Any, examples: Iterable[Any], held: Iterable[Any], rows: Iterable[Any]) -> dict[str, Any]:
    """The content of data.json.

    Args:
        data: a path, or data in memory.
        examples: the parsed training examples in order. held: those on which the loss is measured.
        rows: their tokens with this base's tokenizer and chat template.
    """
    file = Path(data) if isinstance(data, str | Path) and Path(data).is_file() else None
    return {
        "file": str(file.absolute()) if file else None,
        "file_sha256": _file_digest(file) if file else None,
        "examples_sha256": digest(examples),
        "validation_sha256": digest(held),
        "rows_sha256": digest(rows),
    }


def digest(items: Iterable[Any]) -> str:
    """sha256 over items in order: dataclasses, pydantic models and JSON values."""
    total = hashlib.sha256()
    for item in items:
        total.update(json.dumps(_plain(item), ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return total.hexdigest()


def environment(device: str, threads: int, seed: int) -> dict[str, Any]:
    """The content of environment.json: what the last digits depend on besides data and config."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: number for name in _PACKAGES if (number := _version(name))},
        "device": _device(device),
        "threads": threads,
        "seed": seed,
        "git": _revision(),
    }


def record_origin(
    run_folder: Path, config: Mapping[str, Any], data: Mapping[str, Any], environment: Mapping[str, Any], emit: Progress
) -> None:
    """Records what a new run is made of, or checks that a resumed run is made of the same.

    config.json is written last: once it exists, the run has begun.

    Raises:
        Invalid: the config or the data differs; the message says in what.
    """
    if not (run_folder / CONFIG).is_file():
        write_json(run_folder / DATA, data)
        write_json(run_folder / ENVIRONMENT, environment)
        write_json(run_folder / CONFIG, config)
        return
    require_same(read_json(run_folder / DATA), data, "data")
    require_same(read_json(run_folder / CONFIG), config, "configuration")
    if changed := changes(read_json(run_folder / ENVIRONMENT), environment):
        emit(Stage(f"Resuming in another environment, so the last digits may differ: {'; '.join(changed)}"))


def previous_threads(run_folder: Path) -> int | None:
    """The thread count of a run that began earlier: the same count gives the same sums. None for a new run."""
    path = run_folder / ENVIRONMENT
    return int(read_json(path)["threads"]) if path.is_file() else None


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Raises Invalid, with what differs, unless a resumed run is made of the same."""
    for name, old, new in _differences(before, now):
        if name.endswith("sha256"):
            part = name.removesuffix("_sha256").replace("rows", "rows made of the data with this base")
            change = f"the {part} changed since" if part != "file" else "the data's file changed since"
        else:
            change = f"{name.replace('_', ' ')} was {old} and is {new} now"
        raise Invalid(
            f"This run cannot be resumed with another {what}: {change}. Restore it, or start a new run.", param=name
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two environments, in words. A run may be resumed in another one."""
    return tuple(
        f"{name} was {old} and is {new} now"
        for name, old, new in _differences(
            dict(before) | dict(before.get("packages", {})), dict(now) | dict(now.get("packages", {}))
        )
        if name not in ("packages", "git")
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    # Through JSON, like the stored one: its tuples are lists.
    now = json.loads(json.dumps(now))
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if name in _IGNORED or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new)
        elif name != "file":  # the file may have been moved; only its digest counts
            yield name, old, new


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _without_added({field.name: _plain(getattr(value, field.name)) for field in fields(value)})
    if hasattr(value, "model_dump"):
        return _without_added(value.model_dump())
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, list | tuple):
        # Token ids and labels are long lists of plain numbers.
        return value if value and isinstance(value[0], int) else [_plain(inner) for inner in value]
    return value


def _without_added(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _ADDED or value != _ADDED[name]}


def _file_digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _device(kind: str) -> str:
    if kind == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return "cpu: " + next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"cpu: {platform.processor() or platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """This program's git revision, with + if files are changed; None if it was installed without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
