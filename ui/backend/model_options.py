"""How models are named and offered on the owners' page: dropdown entries with their state, and banners in words."""

from collections.abc import Sequence
from html import escape

from models.spec import ModelSpec
from ui.backend.context import ServedModel

_DOTS = {"ready": "●", "starting": "◐", "failed": "✕", "stopped": "○"}
_KINDS = {
    "base": "base model",
    "merged": "fine-tuned, merged into its base",
    "adapter": "fine-tuned adapter",
    "hosted": "hosted elsewhere",
}


def entries(models: Sequence[ServedModel]) -> list[tuple[str, str]]:
    """Dropdown entries: (what is shown, the id). A model that is not ready says so."""
    return [(_entry(model), model.id) for model in models]


def picked(models: Sequence[ServedModel], current: str | None, position: int = 0) -> str | None:
    """The model to keep or pick: the current one while it is there, else the one at `position`, else the first."""
    ids = [model.id for model in models]
    if current in ids:
        return current
    return ids[min(position, len(ids) - 1)] if ids else None


def banner(models: Sequence[ServedModel], *chosen: str | None) -> str:
    """HTML that says what is not ready among the chosen models; empty where all are."""
    if not models:
        return notice("No model is served yet. `parley demo` brings some, or `parley models add` adds yours.", "warn")
    by_id = {model.id: model for model in models}
    lines = []
    for name in dict.fromkeys(name for name in chosen if name):
        model = by_id.get(name)
        if model is None:
            lines.append(notice(f"{name} is not served any more. Choose another model.", "warn"))
        elif model.state == "starting":
            lines.append(notice(f"{name} is starting. It will answer as soon as it is ready.", "wait"))
        elif model.state == "failed":
            why = f" {model.note}" if model.note else ""
            lines.append(notice(f"{name} failed to start.{why}", "bad"))
        elif not model.ready:
            lines.append(notice(f"{name} is not running. Asking it will start it, where there is room.", "warn"))
    return "".join(lines)


def notice(text: str, tone: str = "warn") -> str:
    """A line for a person. HTML; `tone` is wait, warn, bad or good. Text between backticks is set as code."""
    parts = escape(text).split("`")
    body = "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
    return f'<div class="notice {tone}" role="status"><i></i><span>{body}</span></div>'


def about(spec: ModelSpec) -> str:
    """What a model is, in a few words. HTML."""
    facts = [_KINDS[spec.kind]]
    if spec.base:
        facts.append(f"on {spec.base}")
    if spec.judge:
        facts.append("a judge")
    if spec.toy:
        facts.append("a toy, for demonstration")
    if spec.shutdown_date:
        facts.append(f"switched off on {spec.shutdown_date.isoformat()}")
    text = escape(" · ".join(facts))
    return f'<p class="about">{text}{"<br>" + escape(spec.description) if spec.description else ""}</p>'


def _entry(model: ServedModel) -> str:
    words = [_DOTS.get(model.state, "○") + " " + model.id]
    if model.spec.judge:
        words.append("judge")
    if not model.ready:
        words.append(model.state)
    return " · ".join(words)
