"""Builds models/demo: base, adapters, held-out files, metrics."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from train.demo import base, evaluation, held_out, tool_evaluation
from train.demo.base import make_base, passes
from train.demo.catalogue import Catalogue, Style, load_catalogue
from train.demo.dialogues import dialogues
from train.demo.judge_pairs import grades, pairs
from train.demo.pretraining import Recipe, encode, loss_of
from train.demo.tool_dialogues import tool_rows
from train.hyperparameters import Hyperparameters
from train.run.folder import TrainingResult
from train.run.progress import Event, Progress, Step

_JUDGED_PAIRS = 200
_MORE_PER_INTENT = 12  # questions for the metrics: noisy, from held-out frames, besides the shipped clean ones
BASE_NAME = "demo-base"  # the base in adapter_config.json: its id, never a path
STYLED: Mapping[str, Style] = {"support-concise": "concise", "support-friendly": "friendly"}
JUDGE = "support-judge"
TOOLS = "support-tools"
ADAPTERS = (*STYLED, JUDGE, TOOLS)


@dataclass(frozen=True)
class Plan:
    """What to build. `keep_base`: keep the existing base. `adapters`: those to make; the others keep their metrics."""

    out: Path
    seed: int = 1
    steps: int = Recipe.steps
    keep_base: bool = False
    threads: int | None = None
    adapters: tuple[str, ...] = ADAPTERS


@dataclass(frozen=True)
class BuildProgress:
    """The progress of a stage: `done` of `total`, and the loss if there is one."""

    stage: str
    done: int
    total: int
    loss: float | None = None


def build(plan: Plan, report: Callable[[BuildProgress], None]) -> dict[str, Any]:
    """Makes everything under `plan.out` and returns the metrics. Reproducible by seed on one machine."""
    import torch

    if plan.threads:
        torch.set_num_threads(plan.threads)
    catalogue = load_catalogue()
    seconds: dict[str, float] = {}
    base = plan.out / "base"
    metrics = _old_metrics(plan.out) if plan.keep_base else {}
    if not plan.keep_base:
        with _timed(seconds, "base"):
            metrics["pretraining"] = _make_base(plan, catalogue, base, report)
        _write_metrics(plan.out, metrics)  # kept for --keep-base if a later step fails
    work = plan.out / ".runs"
    shutil.rmtree(work, ignore_errors=True)
    training = dict(metrics.get("training", {}))
    for name in plan.adapters:
        with _timed(seconds, name):
            run = AdapterRun(base, work / name, plan.seed, plan.threads)
            result = train_adapter(name, catalogue, run, _listener(name, report))
        _install(result.adapter, plan.out / "adapters" / name)
        training[name] = {"loss_before": round(result.loss_before, 4), "loss_after": round(result.loss_after, 4)}
    shutil.rmtree(work, ignore_errors=True)
    with _timed(seconds, "measures"):
        shown = _write_held_out(plan, catalogue)
        metrics_of_models = _measure(plan, catalogue, shown, report)
    models = {**metrics.get("models", {}), **metrics_of_models.pop("models")}
    metrics |= {"seed": plan.seed, "training": training, **metrics_of_models, "models": models}
    metrics["seconds"] = {**metrics.get("seconds", {}), **{name: round(taken) for name, taken in seconds.items()}}
    metrics["bytes"] = sum(file.stat().st_size for file in plan.out.rglob("*") if file.is_file())
    _write_metrics(plan.out, metrics)
    return metrics


def trained_numbers(seed: int, steps: int, catalogue: Catalogue) -> frozenset[str]:
    """All numbers in the training texts of the base and the adapters."""
    rows = chain(
        *(training_pass.rows(catalogue) for training_pass in passes(seed, steps)),
        (row["messages"] for name in ADAPTERS for row in conversations(name, catalogue, seed)),
    )
    return held_out.numbers_in(text for row in rows for text in base.texts_of(row))


@dataclass(frozen=True)
class HeldOut:
    """What the models are measured on. `trained`: the numbers in the training texts."""

    trained: frozenset[str]
    pairs: Sequence[Any]
    tools: Sequence[tool_evaluation.ToolPrompt]


def _make_base(plan: Plan, catalogue: Catalogue, base: Path, report: Callable[[BuildProgress], None]) -> dict[str, Any]:
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    total = sum(training_pass.recipe.steps for training_pass in passes(plan.seed, plan.steps))
    made = make_base(
        catalogue, base, plan.seed, plan.steps, lambda step, loss: report(BuildProgress("base", step, total, loss))
    )
    return asdict(made)


def _write_held_out(plan: Plan, catalogue: Catalogue) -> HeldOut:
    """Writes the held-out files and returns what the models are measured on."""
    trained = trained_numbers(plan.seed, plan.steps, catalogue)
    shown = HeldOut(
        trained,
        held_out.pairs(plan.seed, catalogue, trained, _JUDGED_PAIRS),
        tool_evaluation.tool_prompts(plan.seed, catalogue, trained),
    )
    prompts = held_out.prompts(plan.seed, catalogue, trained, clean=True)
    for name, rows in (("prompts", prompts), ("judged", shown.pairs), ("tools", shown.tools)):
        _write_lines(plan.out / f"{name}.jsonl", [row.as_dict() for row in rows])
    return shown


def _measure(
    plan: Plan, catalogue: Catalogue, shown: HeldOut, report: Callable[[BuildProgress], None]
) -> dict[str, Any]:
    """The metrics of what was made."""
    base, total = plan.out / "base", 1 + len(plan.adapters)
    prompts = held_out.prompts(plan.seed + 1, catalogue, shown.trained, per_intent=_MORE_PER_INTENT, clean=True)
    measured: dict[str, Any] = {"models": {}}
    report(BuildProgress("measuring", 1, total))
    if not plan.keep_base:
        speaker = evaluation.load(base)
        unseen = encode(
            speaker.tokenizer, (talk.as_dicts() for talk in dialogues(plan.seed, catalogue, "neutral", 300, "held_out"))
        )
        measured["held_out_loss"] = round(loss_of(speaker.model, unseen), 4)
        measured["models"][BASE_NAME] = evaluation.as_dict(evaluation.measure_answers(speaker, prompts, "neutral"))
    for place, name in enumerate(plan.adapters):
        report(BuildProgress("measuring", 2 + place, total))
        speaker = evaluation.load(base, plan.out / "adapters" / name)
        if name in STYLED:
            answered = evaluation.measure_answers(speaker, prompts, STYLED[name])
            measured["models"][name] = evaluation.as_dict(answered)
        elif name == JUDGE:
            measured["judge"] = evaluation.as_dict(evaluation.measure_judge(speaker, shown.pairs))
        else:
            measured["tools"] = evaluation.measure_tools(speaker, shown.tools)
    return measured


def _install(adapter: Path, place: Path) -> None:
    """Copies the two files of an adapter that an engine needs."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, place / name)


def _listener(name: str, report: Callable[[BuildProgress], None]) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, Step):
            report(BuildProgress(name, event.step, event.steps, event.loss))

    return listen


def _old_metrics(out: Path) -> dict[str, Any]:
    path = out / "metrics.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _write_metrics(out: Path, metrics: dict[str, Any]) -> None:
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Stores the duration of the block under a name."""
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


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
    TOOLS: Lesson(rows=16000, epochs=1, rank=16, rate=4e-3),
}


def conversations(name: str, catalogue: Catalogue, seed: int) -> Iterator[dict[str, Any]]:
    """The training data of an adapter as rows of a chat file, from training frames only."""
    lesson = LESSONS[name]
    if name in STYLED:
        # not the seed of the base, so that all rows are new
        yield from ({"messages": talk.as_dicts()} for talk in dialogues(seed + 1, catalogue, STYLED[name], lesson.rows))
        return
    if name == TOOLS:
        yield from tool_rows(seed + 1, catalogue, lesson.rows)
        return
    graded = lesson.rows // 8
    yield from ({"messages": pair.conversation()} for pair in pairs(seed + 1, catalogue, lesson.rows - graded))
    yield from ({"messages": row} for row in grades(seed + 1, catalogue, graded))


@dataclass(frozen=True)
class AdapterRun:
    """Where one adapter is trained, and how. `folder`: the run's. `threads`: CPU threads; None for the usual number."""

    base: Path
    folder: Path
    seed: int
    threads: int | None = None


def train_adapter(name: str, catalogue: Catalogue, run: AdapterRun, progress: Progress) -> TrainingResult:
    """Trains one adapter; its files are in the `adapter` folder of the result."""
    from train.training import train

    lesson = LESSONS[name]
    return train(
        list(conversations(name, catalogue, run.seed)),
        base=run.base,
        name=name,
        out=run.folder,
        base_name=BASE_NAME,
        hyperparameters=Hyperparameters(
            epochs=lesson.epochs, rank=lesson.rank, alpha=2 * lesson.rank, learning_rate=lesson.rate,
            batch_size=8, max_length=2048, seed=run.seed,
        ),
        validation=0.05,
        threads=run.threads,
        progress=progress,
    )  # fmt: skip
