"""The three adapters of the demo, trained with `train.training` on generated conversations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.demo.catalogue import Catalogue, Style
from train.demo.dialogues import dialogues
from train.demo.judge_pairs import grades, pairs
from train.hyperparameters import Hyperparameters
from train.run.folder import TrainingResult
from train.run.progress import Progress

BASE_NAME = "demo-base"  # the base in adapter_config.json: its id, never a path
STYLED: Mapping[str, Style] = {"support-concise": "concise", "support-friendly": "friendly"}
JUDGE = "support-judge"
ADAPTERS = (*STYLED, JUDGE)


@dataclass(frozen=True)
class Lesson:
    """The amount of data and the hyperparameters of an adapter. So small a base needs a high learning rate."""

    rows: int
    epochs: float
    rank: int
    rate: float


LESSONS: Mapping[str, Lesson] = {
    "support-concise": Lesson(rows=6000, epochs=2, rank=16, rate=4e-3),
    "support-friendly": Lesson(rows=6000, epochs=2, rank=16, rate=4e-3),
    JUDGE: Lesson(rows=12000, epochs=1, rank=16, rate=3e-3),
}


def conversations(name: str, catalogue: Catalogue, seed: int) -> Iterator[dict[str, Any]]:
    """The training data of an adapter as rows of a chat file, from training frames only."""
    lesson = LESSONS[name]
    if name in STYLED:
        # not the seed of the base, so that all rows are new
        yield from ({"messages": talk.as_dicts()} for talk in dialogues(seed + 1, catalogue, STYLED[name], lesson.rows))
        return
    graded = lesson.rows // 8
    yield from ({"messages": pair.conversation()} for pair in pairs(seed + 1, catalogue, lesson.rows - graded))
    yield from ({"messages": row} for row in grades(seed + 1, catalogue, graded))


def train_adapter(
    name: str, catalogue: Catalogue, base: Path, run_folder: Path, seed: int, progress: Progress
) -> TrainingResult:
    """Trains one adapter; its files are in the `adapter` folder of the result."""
    from train.training import train

    lesson = LESSONS[name]
    return train(
        list(conversations(name, catalogue, seed)),
        base=base,
        name=name,
        out=run_folder,
        base_name=BASE_NAME,
        hyperparameters=Hyperparameters(
            epochs=lesson.epochs, rank=lesson.rank, alpha=2 * lesson.rank, learning_rate=lesson.rate,
            batch_size=8, max_length=2048, seed=seed,
        ),
        validation=0.05,
        progress=progress,
    )  # fmt: skip
