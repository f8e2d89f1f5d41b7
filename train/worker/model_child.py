"""The process that imports, merges or exports one model for a job. Input and output: as `train.worker.child`."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from train.run.progress import Progress
from train.worker.child import EventLines, WriteLine, main
from train.worker.model_jobs import EXPORT, MERGE


@dataclass(frozen=True)
class ModelResult:
    """A job's result: the model's name and, for an export, the file and its size in bytes."""

    values: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The result for the job's row."""
        return dict(self.values)


def run_model_work(values: dict[str, Any], registry: Registry, settings: Settings, write: WriteLine) -> ModelResult:
    """Does the work of one job."""
    kind, params, progress = values["kind"], values["params"], EventLines(write)
    if kind == EXPORT:
        return _export(params, registry, settings, datetime.fromisoformat(values["started"]))
    earlier = find_earlier(values, registry, settings)
    if earlier is not None:
        return _finish(earlier, params, registry, settings, progress)
    if kind == MERGE:
        from train.publication.publish import publish_merge

        merged = publish_merge(
            params["adapter"], params["name"], registry=registry, settings=settings, progress=progress
        )
        return ModelResult({"model": merged.model})
    return _import(params, registry, settings, progress)


def find_earlier(values: Mapping[str, Any], registry: Registry, settings: Settings) -> ModelSpec | None:
    """The model that an earlier attempt of the same job registered before it was stopped; None if there is none.

    Its name was free when the job was created, and one job of these kinds runs at a time.
    """
    params = values["params"]
    spec = next((spec for spec in registry.list(include_candidates=True) if spec.id == params["name"]), None)
    if spec is None or spec.folder is None or spec.created < datetime.fromisoformat(values["started"]):
        return None
    merges = values["kind"] == MERGE or bool(params.get("merge"))
    same_parent = values["kind"] != MERGE or spec.parent == params["adapter"]
    # An unpacked GGUF file may be registered as merged weights.
    ours = same_parent and spec.kind in (("merged",) if merges else ("base", "merged"))
    return spec if ours and spec.folder.is_relative_to(settings.models_dir) else None


def _finish(
    spec: ModelSpec, params: Mapping[str, Any], registry: Registry, settings: Settings, progress: Progress
) -> ModelResult:
    from train.publication.publish import finish_check

    finish_check(spec, registry, settings, progress)
    if params.get("pin"):
        registry.pin(spec.id)
    return ModelResult({"model": spec.id})


def _import(params: Mapping[str, Any], registry: Registry, settings: Settings, progress: Progress) -> ModelResult:
    from models.registry.new_model import NewModel
    from train.publication.foreign_models import merge_adapter, unpack_gguf

    fields = {name: value for name, value in params.items() if name != "merge"}
    new = NewModel(**fields | {"fallbacks": tuple(params.get("fallbacks") or ())})
    work = merge_adapter if params.get("merge") else unpack_gguf
    return ModelResult({"model": work(registry, settings, new, progress).id})


def _export(params: Mapping[str, Any], registry: Registry, settings: Settings, started: datetime) -> ModelResult:
    from train.publication.gguf_export import export_gguf

    file = settings.home / "exports" / params["file"]
    file.parent.mkdir(parents=True, exist_ok=True)
    # An earlier attempt of the same job may have been stopped right after the file was complete.
    if not file.exists() or file.stat().st_mtime < started.timestamp():
        export_gguf(registry.resolve(params["model"]), file, kind=params["type"])
    return ModelResult({"model": params["model"], "file": str(file), "bytes": file.stat().st_size})


if __name__ == "__main__":
    sys.exit(main(run_model_work))
