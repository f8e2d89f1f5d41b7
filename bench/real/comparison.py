"""Parley's training beside TRL's plain script and this machine's matrix products, in alternating windows.

Both train on a base whose template ends an answer with the end-of-text token, because Parley would otherwise replace an
end-of-turn token that the base has not learnt, and the losses could not be compared.
"""

import json
import re
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.progress import print_progress
from bench.real.options import Sizes
from bench.real.windows import Side, Window, WindowJob
from bench.training.measurements import tokenise_rows

_SEED = 0


def build_job(
    rows: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]], base: Path, sizes: Sizes, threads: int
) -> tuple[WindowJob, list[list[Any]]]:
    """The job of both sides, and the rows of each window as token ids.

    Parley puts rows of similar length into a step, so TRL gets the rows in the order that Parley's sampler gives.
    """
    from train.trainers.packing import SimilarLengthSampler

    windows = (1, *([sizes.window_steps] * sizes.windows))
    number = sum(windows) * sizes.batch
    chosen = [rows[place % len(rows)] for place in range(number)]
    tokenised = tokenise_rows(chosen, base)
    order = tuple(SimilarLengthSampler([row.tokens for row in tokenised], sizes.batch, _SEED))
    job = WindowJob(
        base=str(base), rows=tuple(chosen), order=order, validation=tuple(validation), batch=sizes.batch,
        windows=windows, threads=threads, seed=_SEED,
    )  # fmt: skip
    places = iter(order)
    return job, [[tokenised[next(places)] for _ in range(steps * sizes.batch)] for steps in windows]


def with_end_of_text(base: Path, folder: Path) -> Path:
    """A copy of the base, made of links, whose template ends each answer with the tokenizer's end-of-text token."""
    from train.trainers.bases import find_base, load_tokenizer
    from train.trainers.templates import turn_end

    tokenizer = load_tokenizer(find_base(str(base)))
    end = turn_end(tokenizer).token
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    if end is not None:
        template = folder / "chat_template.jinja"
        text = template.read_text("utf-8")
        template.unlink()
        written = str(tokenizer.convert_ids_to_tokens(end))
        marked = re.compile(r"(\{%-?\s*generation\s*-?%\})(.*?)(\{%-?\s*endgeneration)", re.DOTALL)
        template.write_text(
            marked.sub(lambda part: part[1] + part[2].replace(written, tokenizer.eos_token) + part[3], text), "utf-8"
        )
    return folder


def compare_training(job: WindowJob, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Trains both sides in turns, and measures the machine's matrix products before each pair of windows.

    `share_of_limit` is the operations that a step needs, divided by its time and by the matrix products' speed.
    """
    from train.planning.shapes import find_shape
    from train.trainers.bases import find_base

    shape = find_shape(find_base(job.base))
    measured: dict[str, list[Window]] = {"parley": [], "trl": []}
    limits = []
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(asdict(job)), "utf-8")
        with Side("parley", path) as parley, Side("trl", path) as trl:
            for number in range(len(job.windows)):
                sides = [("parley", parley), ("trl", trl)]
                limits.append(_matrix_limit(job.threads) if number else 0.0)
                for name, side in sides if number % 2 else reversed(sides):
                    measured[name].append(side.next_window())
                print_progress(_describe(number, measured, rows[number]))
    return summarise_windows(measured, rows, limits, shape)


def summarise_windows(
    measured: dict[str, list[Window]], rows: Sequence[Sequence[Any]], limits: Sequence[float], shape: Any
) -> dict[str, Any]:
    """The figures of all windows but the first; ratios are medians of the pairs of windows."""
    from train.planning.speeds import TokenWork

    def speeds(name: str) -> list[float]:
        windows = zip(measured[name][1:], rows[1:], strict=True)
        return [sum(row.tokens for row in trained) / window.seconds for window, trained in windows]

    ours, theirs = speeds("parley"), speeds("trl")
    shares = []
    for speed, trained, limit in zip(ours, rows[1:], limits[1:], strict=True):
        tokens, learnt = sum(row.tokens for row in trained), sum(row.learnt for row in trained)
        work = TokenWork(shape, mean_length=tokens / len(trained), learnt=learnt / tokens)
        shares.append(speed * work.operations("lora") / limit)
    losses = {name: [loss for window in windows for loss in window.losses] for name, windows in measured.items()}
    return {
        "train_tokens_per_s": round(statistics.median(ours), 1),
        "trl_tokens_per_s": round(statistics.median(theirs), 1),
        "times_trl": round(statistics.median(parley / trl for parley, trl in zip(ours, theirs, strict=True)), 3),
        "share_of_limit": round(statistics.median(shares), 3),
        "matrix_gflops": round(statistics.median(limits[1:]) / 1e9, 1),
        "loss_apart": max(abs(parley - trl) for parley, trl in zip(losses["parley"], losses["trl"], strict=True)),
        "losses": {name: [round(loss, 5) for loss in values] for name, values in losses.items()},
        "peak_memory_bytes": {name: windows[-1].peak_memory_bytes for name, windows in measured.items()},
        "windows": {"parley": [round(speed, 1) for speed in ours], "trl": [round(speed, 1) for speed in theirs]},
        "shares": [round(share, 3) for share in shares],
    }


def _matrix_limit(threads: int) -> float:
    """Operations per second of float32 matrix products with these threads."""
    import torch

    from train.planning.speeds import matrix_speed

    torch.set_num_threads(threads)
    return matrix_speed("cpu", 4)


def _describe(number: int, measured: dict[str, list[Window]], rows: Sequence[Any]) -> str:
    tokens = sum(row.tokens for row in rows)
    speeds = ", ".join(f"{name} {tokens / windows[-1].seconds:.0f} tokens/s" for name, windows in measured.items())
    return f"window {number}: {speeds}" if number else "both sides have started"
