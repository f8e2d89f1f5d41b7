"""What a run was made of: its data's fingerprint, its environment; and whether a resumed run is made of the same.

Fingerprints are sha256 over the file, and over the examples as they were understood, in order: so a file whose blank
lines were moved is still the same data, and one whose examples were shuffled is not. It knows nothing of checkpoints.
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
from typing import Any

from models.errors import Invalid
from train.run.folder import CONFIG, DATA, ENVIRONMENT, read_json, write_json
from train.run.progress import Progress, Stage

_PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets", "tokenizers", "safetensors",
    "numpy",
)  # fmt: skip
_CHUNK = 1 << 20
# What may differ between the two lives of a run: it says when and from where, not what is learnt.
_FREE = frozenset({"started", "asked", "data", "run"})


def fingerprint(data: Any, examples: Iterable[Any], held: Iterable[Any], rows: Iterable[Any]) -> dict[str, Any]:
    """What was learnt from, as data.json has it.

    Args:
        data: a path, or anything in memory.
        examples: what is learnt, as it was understood, in order. held: what the loss is measured on.
        rows: what became of them with this base's tokenizer and chat template.
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
    """sha256 over items in order: dataclasses, pydantic models and what JSON knows."""
    total = hashlib.sha256()
    for item in items:
        total.update(json.dumps(_plain(item), ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return total.hexdigest()


def environment(device: str, threads: int, seed: int) -> dict[str, Any]:
    """Where a run learns, as environment.json has it: what its last digits depend on, beside its data and config."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
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
    """Both lives of a run must be made of the same.

    Raises:
        Invalid: what differs, in one line.
    """
    for name, was, is_now in _differences(before, now):
        if name.endswith("sha256"):
            part = name.removesuffix("_sha256").replace("rows", "rows made of the data with this base")
            told = f"the {part} changed since" if part != "file" else "the data's file changed since"
        else:
            told = f"{name.replace('_', ' ')} was {was} and is {is_now} now"
        raise Invalid(
            f"This run cannot go on with another {what}: {told}. Put it back, or start a run of its own.", param=name
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two environments, in words. A run goes on in another, but its last digits may differ."""
    return tuple(
        f"{name} was {was} and is {is_now} now"
        for name, was, is_now in _differences(
            dict(before) | dict(before.get("packages", {})), dict(now) | dict(now.get("packages", {}))
        )
        if name not in ("packages", "git")
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    # Through JSON, as the older of the two has been: a tuple there is a list.
    now = json.loads(json.dumps(now))
    for name in {**before, **now}:
        was, is_now = before.get(name), now.get(name)
        if name in _FREE or was == is_now:
            continue
        if isinstance(was, dict) and isinstance(is_now, dict):
            yield from _differences(was, is_now)
        elif name != "file":  # the same file may have been moved; its digest is what counts
            yield name, was, is_now


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, list | tuple):
        # Ids and labels are long lists of numbers, which are plain already.
        return value if value and isinstance(value[0], int) else [_plain(inner) for inner in value]
    return value


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
    """The git revision of this program, with a + where files were changed; None where it was installed without git."""
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
