"""A training run as HTML and as a plot: its progress, numbers, loss curves and the model it made."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.spec import ModelSpec, Parity
from train.run.progress import duration
from ui.look.markup import badge, facts, job_status, table
from ui.look.plots import loss_plot
from ui.owners.training.run import Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_KINDS = {"adapter": "an adapter", "merged": "a merged model"}


def state_html(run: Run) -> str:
    """The run's progress bar, or why it ended; empty once it has succeeded."""
    return job_status(run.job, "This run was cancelled. Its last checkpoint is in the run's folder.")


def numbers_html(run: Run) -> str:
    """Steps, losses, speed and time side by side; empty before the first step."""
    curves, last = run.curves, run.curves.last
    if not last:
        return ""
    numbers = [
        (f"{curves.step:,} / {curves.steps:,}", f"steps, epoch {last.get('epoch', 0):.1f}"),
        (f"{last['loss']:.3f}", "training loss (lower is better)"),
    ]
    if curves.validation:
        first, now = f"{curves.validation[0][1]:.3f}", f"{curves.validation[-1][1]:.3f}"
        numbers.append(
            (first, "validation loss before training")
            if len(curves.validation) == 1
            else (f"{first} → {now}", "validation loss, before and now")
        )
    numbers.append((f"{last.get('tokens_per_s', 0):,.0f}", "tokens per second"))
    if run.over:
        numbers.append((duration(last.get("seconds", 0)), "training time"))
    else:
        numbers.append((duration(last.get("seconds_left", 0)), "remaining"))
    return facts(numbers)


def result_html(run: Run, spec: ModelSpec | None) -> str:
    """The model that a finished run made: its name, a link to chat with it, and its quality checks."""
    result = run.job.result or {}
    name = spec.id if spec else result.get("model")
    if run.job.status != "succeeded" or not name:
        return ""
    name = str(name)
    candidate = f" {badge('candidate, not listed', 'warn')}" if spec is not None and spec.state == "candidate" else ""
    link = f"<a href='/bot/{quote(name)}/' target='_blank'>Chat with {escape(name)} ↗</a>"
    kind = str(result.get("kind") or (spec.kind if spec else "model"))
    made = f"{_KINDS.get(kind, kind)} trained on {result.get('base', '')}".capitalize()
    before, after = result.get("loss_before"), result.get("loss_after")
    losses = f" Loss {before:.3f} → {after:.3f}." if isinstance(before, float) and isinstance(after, float) else ""
    refused, details = _parity(spec.parity if spec else None)
    folded = f"<details class='behind'><summary>Details</summary><p>{details}</p></details>" if details else ""
    return (
        f"<div class='verdict'><div><b id='train-made'>{escape(name)}</b> is ready.{candidate} {link}</div>"
        f"<p>{escape(made)}.{losses}{refused}</p>{folded}</div>"
    )


def curves_plot(run: Run) -> "Figure | None":
    """The losses over the steps; None until there is something to draw."""
    return loss_plot(run.curves) if run.curves.train or run.curves.validation else None


def auto_values_html(reasons: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """What each "auto" becomes, and why, as a table."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td class='num'>{escape(_number(values[name]))}</td>"
        f"<td class='long'>{escape(reason)}</td></tr>"
        for name, reason in reasons.items()
    )
    return table("<th>Setting</th><th>Automatic value</th><th>Why</th>", rows) if rows else ""


def _parity(parity: Parity | None) -> tuple[str, str]:
    """Why the model is not listed, if it is not; and the measured agreement, for the details."""
    if parity is None:
        return "", ""
    if parity.refused:
        return f" It is not listed: {escape(parity.refused)}.", ""
    agreement = f"The published {escape(parity.dtype)} weights choose the same token as float32 base + adapter in"
    if parity.served:
        served = f", and in {parity.served.agreement:.1%} when vLLM serves them"
    else:
        served = "; not yet checked through vLLM"
    return "", f"{agreement} {parity.agreement:.1%} of cases{served}."


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
