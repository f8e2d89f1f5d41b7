"""Kills one training run at random moments, again and again, and holds its end against that of a run left alone.

    python -m bench.kills [--kills 20] [--seed 0] [--epochs 8] [--threads 1] [--json]

Each life is a process that gets SIGKILL while it loads, while it learns (after a random number of steps and a random
fraction of one), or while it writes a checkpoint (upon sight of the folder that it fills). The next life resumes the
run. Both runs train the tests' tiny model; the processes are forked from one that has loaded the libraries, so that
a life costs a second. It ends with status 1 where the two ends differ in a byte of the adapter, in a loss, or in a
line of metrics.jsonl, times left out.
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
_LOOK_S = 0.001
_LOST_S = 120.0  # a life that shows no progress for so long is a fault of the benchmark


@dataclass(frozen=True)
class Outcome:
    """What became of the killed run. `moments` counts kills by what the run did then; `torn` the checkpoints that a
    kill left half-written; `seconds` is all of it, the undisturbed run included.
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
        """Whether the kills left no trace."""
        return self.same_adapter and self.same_losses and self.same_metrics


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--epochs", type=int, default=8, help="of the run; more make room for more kills")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-kills-") as folder:
        outcome = kill_and_compare(Path(folder), asked.kills, asked.seed, asked.epochs, asked.threads)
    if asked.json:
        print(json.dumps(asdict(outcome)))
    else:
        for name, value in asdict(outcome).items():
            print(f"{name:14} {value}")
    return 0 if outcome.same else 1


def kill_and_compare(folder: Path, kills: int, seed: int, epochs: int, threads: int) -> Outcome:
    """Trains once undisturbed and once with kills, in `folder`, and compares the two."""
    began = time.monotonic()
    train = _prepared(folder, epochs, threads)
    alone, killed = folder / "alone", folder / "killed"
    _ended(_life(train, alone))
    steps = json.loads((alone / "result.json").read_text("utf-8"))["steps"]
    moments, torn = _kill(train, killed, kills, random.Random(seed), steps)
    _ended(_life(train, killed))
    ends = [json.loads((run / "result.json").read_text("utf-8")) for run in (alone, killed)]
    return Outcome(
        kills=sum(moments.values()),
        moments=dict(moments),
        torn=torn,
        steps=steps,
        same_adapter=_digests(alone / "adapter") == _digests(killed / "adapter"),
        same_losses=all(ends[0][name] == ends[1][name] for name in ("loss_before", "loss_after", "tokens")),
        same_metrics=_rows(alone) == _rows(killed),
        loss_after=ends[1]["loss_after"],
        seconds=round(time.monotonic() - began, 1),
    )


def _prepared(folder: Path, epochs: int, threads: int) -> Callable[[Path], None]:
    """Base, data, and a function that trains in a run's folder, with all libraries loaded.

    Nothing is computed in this process: OpenMP's threads do not live on in a fork.
    """
    import train.trainers.fit
    import train.trainers.sft  # noqa: F401 -- loaded here once, so that no life has to
    from tests.tiny_model import make_base
    from tests.train.conftest import style_rows
    from train import Hyperparameters
    from train.training import train as run

    base, data = folder / "base", folder / "data.jsonl"
    _ended(_forked(lambda: make_base(base)))
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(_CONVERSATIONS)), "utf-8")
    # Dropout makes the run depend on the state of chance, too.
    numbers = Hyperparameters(epochs=epochs, rank=4, batch_size=_BATCH, dropout=0.1)

    def train_in(out: Path) -> None:
        run(
            data, base=base, out=out, hyperparameters=numbers, validation=0.1, threads=threads,
            save_steps=_SAVE_STEPS, resume=True,
        )  # fmt: skip

    return train_in


def _kill(
    train: Callable[[Path], None], run: Path, kills: int, chance: random.Random, steps: int
) -> tuple[Counter[str], int]:
    """Lives that are ended, `kills` of them; how many at which moment, and how many half-written checkpoints stayed."""
    moments: Counter[str] = Counter()
    torn = 0
    for _ in range(kills):
        moment = chance.choices(("loading", "learning", "writing"), (1, 2, 2))[0]
        # On average half of a life's share of the steps, so that the run outlives its kills.
        until = _lines(run) + chance.randint(1, max(1, steps // kills))
        child = _life(train, run)
        began = time.monotonic()
        if moment == "loading":
            time.sleep(chance.uniform(0, 0.8))
        else:
            while _lines(run) < until or (moment == "writing" and not _pending(run)):
                _require_alive(child, began)
                time.sleep(_LOOK_S)
            time.sleep(chance.uniform(0, 0.03 if moment == "learning" else 0.006))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        moments[moment] += 1
        torn += bool(_pending(run))
    return moments, torn


def _life(train: Callable[[Path], None], run: Path) -> int:
    return _forked(lambda: train(run))


def _forked(work: Callable[[], Any]) -> int:
    """A process that does some work and ends; its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(2, 1)  # what libraries print is not the benchmark's result
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"a life that nobody killed ended with status {status}")


def _require_alive(child: int, began: float) -> None:
    if os.waitpid(child, os.WNOHANG)[0]:
        raise RuntimeError("the run ended before it could be killed: give it more --epochs")
    if time.monotonic() - began > _LOST_S:
        os.kill(child, signal.SIGKILL)
        raise RuntimeError(f"no step for {_LOST_S:.0f} s")


def _lines(run: Path) -> int:
    """Lines of metrics.jsonl: steps, validations and checkpoints."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _pending(run: Path) -> list[Path]:
    """Checkpoints that are being written, or were when the writer died."""
    return list((run / "checkpoints").glob(".pending-*"))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in _TIMES} for line in lines]


if __name__ == "__main__":
    sys.exit(main())
