"""The three adapters, trained by train/ itself on conversations that the generator writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.demo.dialogues import dialogues
from train.demo.judge_pairs import grades, pairs
from train.demo.world import Style, World
from train.hyperparameters import Hyperparameters
from train.run.progress import Progress
from train.run.result import TrainingResult

BASE_NAME = "demo-base"  # what adapter_config.json calls the base: its id, never a path
STYLED: Mapping[str, Style] = {"support-concise": "concise", "support-friendly": "friendly"}
JUDGE = "support-judge"
ADAPTERS = (*STYLED, JUDGE)


@dataclass(frozen=True)
class Lesson:
    """How much an adapter sees, and how it is trained. A base this narrow needs a rate far above the usual one."""

    rows: int
    epochs: float
    rank: int
    rate: float


LESSONS: Mapping[str, Lesson] = {
    "support-concise": Lesson(rows=6000, epochs=2, rank=16, rate=4e-3),
    "support-friendly": Lesson(rows=6000, epochs=2, rank=16, rate=4e-3),
    JUDGE: Lesson(rows=12000, epochs=1, rank=16, rate=3e-3),
}


def conversations(name: str, world: World, seed: int) -> Iterator[dict[str, Any]]:
    """What that adapter is trained on, as rows of a chat file. Training frames only."""
    lesson = LESSONS[name]
    if name in STYLED:
        # another seed than the base's, so that no row was seen before
        yield from ({"messages": talk.as_dicts()} for talk in dialogues(seed + 1, world, STYLED[name], lesson.rows))
        return
    graded = lesson.rows // 8
    yield from ({"messages": pair.conversation()} for pair in pairs(seed + 1, world, lesson.rows - graded))
    yield from ({"messages": row} for row in grades(seed + 1, world, graded))


def train_adapter(
    name: str, world: World, base: Path, run_folder: Path, seed: int, progress: Progress
) -> TrainingResult:
    """Train one adapter; its files are in the result's `adapter` folder."""
    from train.training import train

    lesson = LESSONS[name]
    return train(
        list(conversations(name, world, seed)),
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
