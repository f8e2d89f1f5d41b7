"""Kills a training run at random moments, resumes it each time, and compares its result with an undisturbed run's.

    python -m bench.kills [--kills 20] [--seed 0] [--epochs 8] [--threads 1] [--json]

Each process gets SIGKILL while it loads, while it trains (after a random number of steps and fraction of a step), or
while it writes a checkpoint. The next process resumes the run. Both runs train the tests' tiny model; the processes are
forked from one with loaded libraries, so that each costs about a second. Exit status 1 if the two results differ in a
byte of the adapter, a loss, or a line of metrics.jsonl, times excluded.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CONVERSATIONS, _BATCH, _SAVE_STEPS = 90, 4, 2
_TIMES = ("seconds", "seconds_left", "tokens_per_s", "memory_bytes")
_POLL_S = 0.001
_MOMENTS = ("loading", "learning", "writing", "learning", "writing")  # taken in turn, in a random order
_TIMEOUT_S = 120.0  # without a step for this long, the benchmark itself is broken


@dataclass(frozen=True)
class Outcome:
    """The killed run's comparison with the undisturbed run. `moments` counts kills by what the run was doing.

    `torn` counts checkpoints that a kill left incomplete; `seconds` includes the undisturbed run.
    """

    kills: int
    moments: dict[str, int]
    torn: int
    steps: int
    same_adapter: bool
    same_losses: bool
    same_metrics: bool
    loss_after: float
    seconds: float

    @property
    def same(self) -> bool:
        """Whether the two results are identical."""
        return self.same_adapter and self.same_losses and self.same_metrics


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the run; more kills need more epochs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-kills-") as folder:
        outcome = kill_and_compare(Path(folder), options.kills, options.seed, options.epochs, options.threads)
    if options.json:
        print(json.dumps(asdict(outcome)))
    else:
        for name, value in asdict(outcome).items():
            print(f"{name:14} {value}")
    return 0 if outcome.same else 1


def kill_and_compare(folder: Path, kills: int, seed: int, epochs: int, threads: int) -> Outcome:
    """Trains once undisturbed and once with kills, and compares the results."""
    began = time.monotonic()
    train = _prepare(folder, epochs, threads)
    alone, killed = folder / "alone", folder / "killed"
    _wait(_start_run(train, alone))
    steps = json.loads((alone / "result.json").read_text("utf-8"))["steps"]
    moments, torn = _kill_repeatedly(train, killed, kills, random.Random(seed), steps)
    _wait(_start_run(train, killed))
    results = [json.loads((run / "result.json").read_text("utf-8")) for run in (alone, killed)]
    return Outcome(
        kills=sum(moments.values()),
        moments=dict(moments),
        torn=torn,
        steps=steps,
        same_adapter=_digests(alone / "adapter") == _digests(killed / "adapter"),
        same_losses=all(results[0][name] == results[1][name] for name in ("loss_before", "loss_after", "tokens")),
        same_metrics=_rows(alone) == _rows(killed),
        loss_after=results[1]["loss_after"],
        seconds=round(time.monotonic() - began, 1),
    )


def _prepare(folder: Path, epochs: int, threads: int) -> Callable[[Path], None]:
    """Makes base and data, loads all libraries, and returns a function that trains in a run's folder.

    This process computes nothing, because OpenMP's threads do not survive a fork.
    """
    import train.trainers.fit
    import train.trainers.sft  # noqa: F401 -- loaded here once, so that no life has to
    from tests.tiny_model import make_base
    from tests.train.conftest import style_rows
    from train import Hyperparameters
    from train.training import train as run

    base, data = folder / "base", folder / "data.jsonl"
    _wait(_forked(lambda: make_base(base)))
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(_CONVERSATIONS)), "utf-8")
    # Dropout makes the result depend on the random state.
    numbers = Hyperparameters(epochs=epochs, rank=4, batch_size=_BATCH, dropout=0.1)

    def train_in(out: Path) -> None:
        run(
            data, base=base, out=out, hyperparameters=numbers, validation=0.1, threads=threads,
            save_steps=_SAVE_STEPS, resume=True,
        )  # fmt: skip

    return train_in


def _kill_repeatedly(
    train: Callable[[Path], None], run: Path, kills: int, rng: random.Random, steps: int
) -> tuple[Counter[str], int]:
    """Starts and kills `kills` processes; returns kills by moment, and how many left an incomplete checkpoint."""
    moments: Counter[str] = Counter()
    torn = 0
    order = [_MOMENTS[number % len(_MOMENTS)] for number in range(kills)]
    rng.shuffle(order)
    for moment in order:
        # On average half of each process's share of the steps, so that the run does not end too early.
        until = _lines(run) + rng.randint(1, max(1, steps // kills))
        child = _start_run(train, run)
        began = time.monotonic()
        if moment == "loading":
            time.sleep(rng.uniform(0, 0.8))
        else:
            while _lines(run) < until or (moment == "writing" and not _pending(run)):
                _require_alive(child, began)
                time.sleep(_POLL_S)
            time.sleep(rng.uniform(0, 0.03 if moment == "learning" else 0.006))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        moments[moment] += 1
        torn += bool(_pending(run))
    return moments, torn


def _start_run(train: Callable[[Path], None], run: Path) -> int:
    return _forked(lambda: train(run))


def _forked(work: Callable[[], Any]) -> int:
    """Forks a process that calls `work` and exits; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(2, 1)  # keeps the libraries' output out of the benchmark's
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _wait(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"a process that was not killed ended with status {status}")


def _require_alive(child: int, began: float) -> None:
    if os.waitpid(child, os.WNOHANG)[0]:
        raise RuntimeError("the run ended before it could be killed: give it more --epochs")
    if time.monotonic() - began > _TIMEOUT_S:
        os.kill(child, signal.SIGKILL)
        raise RuntimeError(f"no step for {_TIMEOUT_S:.0f} s")


def _lines(run: Path) -> int:
    """The number of lines in metrics.jsonl: steps, validations and checkpoints."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _pending(run: Path) -> list[Path]:
    """Checkpoints that are being written, or were when their writer was killed."""
    return list((run / "checkpoints").glob(".pending-*"))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in _TIMES} for line in lines]


if __name__ == "__main__":
    sys.exit(main())
