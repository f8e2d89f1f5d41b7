"""The stages that train: data and plan, LoRA through `train`, and DPO on the merged model; and the publication."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.progress import print_progress
from bench.real.options import Options
from bench.real.parts import RealParts, preference_rows, write_chat_files, write_lines
from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Parity

BASE, ADAPTER, MERGED = "real-base", "bitext-adapter", "bitext-merged"


@dataclass(frozen=True)
class Place:
    """Where a run works: its options, its home, and the data's parts."""

    options: Options
    settings: Settings
    database: Database
    parts: RealParts

    @property
    def registry(self) -> Registry:
        """The home's registry."""
        return Registry(self.database)

    @property
    def training_file(self) -> Path:
        """The training conversations, which `check_data` writes."""
        return self.options.folder / "training.jsonl"

    @property
    def run_folder(self) -> Path:
        """The run of the adapter."""
        return self.options.folder / "runs" / "sft"

    @property
    def validation_file(self) -> Path:
        """The conversations that only measure the loss."""
        return self.options.folder / "validation.jsonl"


def check_data(place: Place) -> dict[str, Any]:
    """Writes the data's files and checks them as `parley data check` does; registers the base."""
    from train import check

    write_chat_files(place.parts, place.options.folder)
    checked = check(place.training_file, provider="local", validation=place.validation_file)
    if BASE not in {spec.id for spec in place.registry.list()}:
        place.registry.register(ModelSpec(id=BASE, kind="base", path=str(place.options.base)))
    return {
        "requests": len(bitext.read_requests()),
        "conversations": len(checked.examples),
        "questions": len(place.parts.questions),
        "left_out": checked.left_out,
        "problems": len(checked.problems),
    }


def plan_training(place: Place) -> dict[str, Any]:
    """What `parley data plan` says before the run: tokens per second, and memory in bytes."""
    from train import Hyperparameters, TrainingRequest, plan

    request = TrainingRequest(
        place.training_file, BASE, hyperparameters=Hyperparameters(epochs=1, seed=place.options.seed), validation=0.0,
        threads=place.options.threads,
    )  # fmt: skip
    made = plan(request, settings=place.settings, registry=place.registry)
    way = made.way("lora")
    return {
        "tokens_per_s": round(way.tokens_per_s, 1),
        "memory_bytes": way.need.total,
        "minutes": round(way.seconds / 60, 1),
        "speed_from": made.speed.how,
        "parts": {name: getattr(way.need, name) for name in ("weights", "activations", "logits", "program", "proof")},
    }


def train_adapter(place: Place) -> dict[str, Any]:
    """Trains the adapter with `train`; an interrupted run continues from its last checkpoint."""
    from train import Hyperparameters, train
    from train.run.progress import PlainLines

    result = train(
        place.training_file, base=place.options.base, name=ADAPTER, validation=place.validation_file,
        settings=place.settings, out=place.run_folder, resume=True,
        hyperparameters=Hyperparameters(epochs=1, seed=place.options.seed), threads=place.options.threads,
        progress=PlainLines(print_progress),
    )  # fmt: skip
    return _figures(result)


def publish_models(place: Place) -> dict[str, Any]:
    """Publishes the adapter and merges it while Parley runs; returns the parity of both, also through their engines."""
    from train import Publication, publish, publish_merge
    from train.run.progress import PlainLines

    progress, known = PlainLines(print_progress), _known(place.registry)
    if ADAPTER not in known:
        publish(
            place.run_folder, Publication(ADAPTER), registry=place.registry, settings=place.settings, progress=progress
        )
    if MERGED not in known:
        publish_merge(ADAPTER, MERGED, registry=place.registry, settings=place.settings, progress=progress)
    return {name: _parity(place.registry.resolve(name).parity) for name in (ADAPTER, MERGED)}


def train_preferences(place: Place, rejected: list[str | None]) -> dict[str, Any]:
    """DPO on top of the merged model: the data's answers are preferred to the base's."""
    from train import Hyperparameters, train
    from train.run.progress import PlainLines

    rows = preference_rows(place.parts.pairs, rejected)
    path = place.options.folder / "preferences.jsonl"
    write_lines(path, rows)
    result = train(
        path, base=Path(str(place.registry.resolve(MERGED).path)), method="dpo", validation=0.1,
        settings=place.settings, out=place.options.folder / "runs" / "dpo", resume=True,
        hyperparameters=Hyperparameters(epochs=1, seed=place.options.seed), threads=place.options.threads,
        progress=PlainLines(print_progress),
    )  # fmt: skip
    return _figures(result) | {
        "pairs": len(rows),
        "ranked_right": result.accuracy_after,
        "margin": result.margin_after,
    }


def _figures(result: Any) -> dict[str, Any]:
    return {
        "loss_before": round(result.loss_before, 4),
        "loss_after": round(result.loss_after, 4),
        "steps": result.steps,
        "tokens": result.tokens,
        "learnt_tokens": result.learnt_tokens,
        "train_seconds": round(result.seconds, 1),
        "tokens_per_s": round(result.tokens_per_s, 1),
        "peak_memory_bytes": result.peak_memory_bytes,
        "hyperparameters": result.hyperparameters,
    }


def _parity(parity: Parity | None) -> dict[str, Any] | None:
    return parity.model_dump(mode="json", exclude={"checked"}) if parity else None


def _known(registry: Registry) -> set[str]:
    return {spec.id for spec in registry.list(include_candidates=True)}
