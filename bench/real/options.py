"""The options of `bench.real`: the base, the folder with the checkpoints, and the sizes of each stage."""

import argparse
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from models.errors import Invalid

BASE_VARIABLE = "PARLEY_TEST_REAL_BASE"
_DEFAULT_BASE = Path("~/.cache/parley-real-base").expanduser()
_DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "parley-bench-real"


@dataclass(frozen=True)
class Sizes:
    """How much each stage does.

    Attributes:
        conversations: for training. validation: conversations on which its loss is measured.
        questions: held-out questions for the base and the merged model; `adapter_questions` of them for the adapter.
        answer_tokens: the limit of an answer.
        pairs: for DPO, whose rejected answers are the base's, of `rejected_tokens` at most.
        windows, window_steps, batch: of the comparison with TRL, after one warm-up step.
        served_rounds, served_requests, served_tokens: of the comparison of merged model and adapter.
    """

    conversations: int = 400
    validation: int = 24
    questions: int = 60
    adapter_questions: int = 12
    answer_tokens: int = 200
    pairs: int = 60
    rejected_tokens: int = 64
    windows: int = 4
    window_steps: int = 1
    batch: int = 8
    served_rounds: int = 3
    served_requests: int = 8
    served_tokens: int = 32


FULL = Sizes()
QUICK = Sizes(
    conversations=24, validation=4, questions=4, adapter_questions=2, answer_tokens=24, pairs=4, rejected_tokens=12,
    windows=2, window_steps=1, batch=2, served_rounds=1, served_requests=2, served_tokens=8,
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """One run. `folder` holds its checkpoints; the same folder and sizes continue an earlier run."""

    base: Path
    folder: Path
    sizes: Sizes
    threads: int
    port: int
    seed: int = 0

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a folder's stages to be used again."""
        return {"base": str(self.base), "threads": self.threads, "seed": self.seed} | asdict(self.sizes)


def parse_options(arguments: list[str] | None, description: str) -> tuple[Options, argparse.Namespace]:
    """Reads the command line; the second value holds what concerns the output only."""
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=description)
    parser.add_argument(
        "--base", type=Path, default=None, help=f"the base's folder (default: ${BASE_VARIABLE}, or {_DEFAULT_BASE})"
    )
    parser.add_argument(
        "--folder", type=Path, default=_DEFAULT_FOLDER, help="holds a checkpoint of each stage; run again to continue"
    )
    parser.add_argument("--fresh", action="store_true", help="delete the folder's checkpoints first")
    parser.add_argument("--quick", action="store_true", help="a small run that only shows that everything works")
    parser.add_argument("--until", default=None, help="stop after this stage; run again to continue")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for training")
    parser.add_argument("--port", type=int, default=8394, help="the gateway's port")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parsed = parser.parse_args(arguments)
    options = Options(
        base=_locate_base(parsed.base),
        folder=parsed.folder.expanduser().absolute(),
        sizes=QUICK if parsed.quick else FULL,
        threads=parsed.threads,
        port=parsed.port,
    )
    return options, parsed


def require_data(options: Options) -> None:
    """Raises Invalid if the data or the base is missing."""
    if not bitext.FILE.is_file():
        raise Invalid(f"the data is missing: put {bitext.FILE.name} into ../shared/data/bitext.")
    parse_base(options.base)


def parse_base(base: Path | None) -> Path:
    """The base's folder, as given, or from the environment, or the default.

    Raises:
        Invalid: there is no model.
    """
    folder = _locate_base(base)
    if not (folder / "config.json").is_file():
        raise Invalid(f"there is no base in {folder}: set --base or {BASE_VARIABLE} to a model's folder.")
    return folder


def _locate_base(base: Path | None) -> Path:
    return (base or Path(os.environ.get(BASE_VARIABLE) or _DEFAULT_BASE)).expanduser().absolute()
