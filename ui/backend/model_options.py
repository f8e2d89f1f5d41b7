"""Models in dropdowns and notices of the owners' app: their labels, descriptions and states."""

from collections.abc import Sequence
from html import escape

from evals.recordings.recorded_models import RecordedName
from evals.recordings.recording_store import list_recordings
from models.database import Database
from models.spec import ModelSpec
from ui.backend.context import ServedModel
from ui.look.markup import notice

_DOTS = {"ready": "●", "starting": "◐", "failed": "✕", "stopped": "○"}
_KINDS = {
    "base": "base model",
    "merged": "fine-tuned, merged into its base",
    "adapter": "fine-tuned adapter",
    "hosted": "hosted by a provider",
}


def model_options(models: Sequence[ServedModel]) -> list[tuple[str, str]]:
    """Dropdown options (label, id). The label shows the state of a model that is not ready."""
    return [(_label(model), model.id) for model in models]


def recorded_options(database: Database) -> list[tuple[str, str]]:
    """Dropdown options (label, `MODEL@recorded`) of models with a finished recording; the label says when it was."""
    options: dict[str, str] = {}
    for recording in list_recordings(database):
        if recording.finished and not recording.training:
            name = str(RecordedName(recording.model))
            options.setdefault(name, f"{name} ({recording.finished:%Y-%m-%d}, {recording.complete:,} prompts)")
    return [(label, name) for name, label in options.items()]


def pick_model(models: Sequence[ServedModel], current: str | None, position: int = 0) -> str | None:
    """The current model if it is in the list, else the one at `position` or the last; None if the list is empty."""
    ids = [model.id for model in models]
    if current in ids:
        return current
    return ids[min(position, len(ids) - 1)] if ids else None


def is_tuned(spec: ModelSpec) -> bool:
    """Whether a model was fine-tuned: an adapter, a merged model or a provider's fine-tune, but not a judge."""
    trained = spec.kind in ("adapter", "merged") or (
        spec.upstream is not None and spec.upstream.model.startswith("ft:")
    )
    return trained and not spec.judge


def preselected_pair(models: Sequence[ServedModel]) -> list[str]:
    """The ids of the models that are compared by default: the newest fine-tune, preceded by its base or parent.

    Ready models come first. Without a fine-tune, the first two models that are not judges; fewer if there are fewer.
    """
    candidates = sorted((model for model in models if not model.spec.judge), key=lambda model: not model.ready)
    tuned = sorted(
        (model for model in candidates if is_tuned(model.spec)),
        key=lambda model: (model.ready, model.spec.created),
        reverse=True,
    )
    if not tuned:
        return [model.id for model in candidates[:2]]
    spec = tuned[0].spec
    related = [model.id for model in candidates if model.id in (spec.base, spec.parent)]
    others = [model.id for model in candidates if model.id != spec.id]
    return [*(related or others)[:1], spec.id]


def preselected_model(models: Sequence[ServedModel], current: str | None = None) -> str | None:
    """The current model if it is in the list; otherwise the newest fine-tune, ready ones first; otherwise any model."""
    if any(model.id == current for model in models):
        return current
    pair = preselected_pair(models)
    return pair[-1] if pair and is_tuned(_spec_of(models, pair[-1])) else pick_model(models, None)


def readiness_banner(models: Sequence[ServedModel], *chosen: str | None) -> str:
    """Notices about the chosen models that are not ready, as HTML; empty if all are."""
    if not models:
        return notice("No model is served yet. Run `parley demo`, or add your own with `parley models add`.", "warn")
    by_id = {model.id: model for model in models}
    lines = []
    for name in dict.fromkeys(name for name in chosen if name):
        model = by_id.get(name)
        if model is None:
            lines.append(notice(f"{name} is no longer served. Choose another model.", "warn"))
        elif model.state == "starting":
            lines.append(notice(f"{name} is starting. It answers as soon as it is ready.", "wait"))
        elif model.state == "failed":
            reason = f" {model.note}" if model.note else ""
            lines.append(notice(f"{name} failed to start.{reason}", "bad"))
        elif not model.ready:
            lines.append(notice(f"{name} is not running. Your first message starts it if memory allows.", "warn"))
    return "".join(lines)


def describe_model(spec: ModelSpec) -> str:
    """A model's kind, base and description as a short paragraph of HTML."""
    parts = [_KINDS[spec.kind]]
    if spec.base:
        parts.append(f"based on {spec.base}")
    if spec.judge:
        parts.append("judge")
    if spec.toy:
        parts.append("a toy model for demos")
    if spec.shutdown_date:
        parts.append(f"shuts down on {spec.shutdown_date.isoformat()}")
    text = escape(" · ".join(parts))
    return f'<p class="about">{text}{"<br>" + escape(spec.description) if spec.description else ""}</p>'


def _spec_of(models: Sequence[ServedModel], name: str) -> ModelSpec:
    return next(model.spec for model in models if model.id == name)


def _label(model: ServedModel) -> str:
    parts = [_DOTS.get(model.state, "○") + " " + model.id]
    if model.spec.judge:
        parts.append("judge")
    if not model.ready:
        parts.append(model.state)
    return " · ".join(parts)
