"""One training run as a person reads it: how far it is, its numbers, its curves, and what it became. No layout here.

It reads the job's row and the run's own folder, which the training writes to while it goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.jobs import Job
from models.settings import Settings
from models.spec import ModelSpec, Parity
from train.run.curves import Curves, read_curves
from train.run.folder import METRICS
from train.run.progress import duration
from ui.backend.model_options import notice
from ui.look.plots import loss_plot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KINDS = ("train", "fine-tune")
_WORDS = {
    "queued": "waiting for the worker",
    "running": "running",
    "paused": "paused",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class Run:
    """A training's job, and the curves that its folder holds by now."""

    job: Job
    curves: Curves

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.job.over

    @property
    def seen(self) -> tuple[str, int, int]:
        """What a picture of it shows: the same value, the same picture."""
        return self.job.id, len(self.curves.train), len(self.curves.validation)


def read_run(settings: Settings, job: Job) -> Run:
    """The run as it stands on disk. Its folder is called as its job."""
    names = [job.id, *[value for value in [job.params.get("fine_tuning_job")] if isinstance(value, str)]]
    folders = [settings.runs_dir / name for name in names if Path(name).name == name]
    folder = next((folder for folder in folders if (folder / METRICS).exists()), None)
    return Run(job, read_curves(folder / METRICS) if folder else Curves())


def entries(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Dropdown entries: (when, what of what, how it stands; the job's id)."""
    return [(_entry(job), job.id) for job in jobs]


def state_html(run: Run) -> str:
    """Where the run is, in a line or a bar; its error line where it failed. HTML."""
    job = run.job
    if job.status == "failed":
        return notice(f"This run failed: {job.error or job.message or 'no reason was left'}", "bad")
    if job.status == "cancelled":
        return notice("This run was cancelled. What it had learnt by then is in its folder.", "warn")
    if job.status == "succeeded":
        return ""
    done = job.progress if job.status == "running" else 0.0
    words = job.message or _WORDS.get(job.status, job.status)
    return (
        f"<div class='job'><b>{100 * done:.0f} %</b>"
        f"<div class='progress'><i style='width:{max(2.0, 100 * done):.0f}%'></i></div><p>{escape(words)}</p></div>"
    )


def numbers_html(run: Run) -> str:
    """The run's numbers side by side: steps, losses, speed, time left. HTML; empty before the first step."""
    curves, last = run.curves, run.curves.last
    if not last:
        return ""
    facts = [
        (f"{curves.step:,} / {curves.steps:,}", f"steps, epoch {last.get('epoch', 0):.1f}"),
        (f"{last['loss']:.3f}", "training loss, nats per learnt token"),
    ]
    if curves.validation:
        first, now = f"{curves.validation[0][1]:.3f}", f"{curves.validation[-1][1]:.3f}"
        one = len(curves.validation) == 1
        facts.append(
            (first, "validation loss, before") if one else (f"{first} → {now}", "validation loss, first and now")
        )
    facts.append((f"{last.get('tokens_per_s', 0):,.0f}", "tokens a second, padding not counted"))
    if run.over:
        facts.append((duration(last.get("seconds", 0)), "spent learning"))
    else:
        facts.append((duration(last.get("seconds_left", 0)), "left, at this speed"))
    return _facts(facts)


def result_html(run: Run, spec: ModelSpec | None) -> str:
    """What a finished run became: its name, where to talk to it, how it compares with base + adapter. HTML."""
    result = run.job.result or {}
    name = spec.id if spec else result.get("model")
    if run.job.status != "succeeded" or not name:
        return ""
    before, after = result.get("loss_before"), result.get("loss_after")
    losses = f" Loss {before:.3f} → {after:.3f}." if isinstance(before, float) and isinstance(after, float) else ""
    badge = ""
    if spec is not None and spec.state == "candidate":
        badge = " <span class='badge warn'>candidate, not listed</span>"
    link = f"<a href='/bot/{quote(str(name))}/' target='_blank'>Chat with {escape(str(name))} ↗</a>"
    words = f"<div class='verdict'><div><b id='train-made'>{escape(str(name))}</b> is served.{badge} {link}</div>"
    what = result.get("kind") or (spec.kind if spec else "a model")
    said = f"<p>{escape(str(what))} of {escape(str(result.get('base', '')))}."
    return f"{words}{said}{losses} {_parity_words(spec.parity if spec else None)}</p></div>"


def curves_plot(run: Run) -> "Figure | None":
    """The losses over the steps; None before there is anything to draw."""
    return loss_plot(run.curves) if run.curves.train or run.curves.validation else None


def rules_html(reasons: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """What every «auto» becomes, and by which rule. HTML."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td class='num'>{escape(_number(values[name]))}</td>"
        f"<td class='said'>{escape(reason)}</td></tr>"
        for name, reason in reasons.items()
    )
    head = "<thead><tr><th>auto</th><th>becomes</th><th>by this rule</th></tr></thead>"
    return f"<div class='scroll'><table class='board'>{head}<tbody>{rows}</tbody></table></div>" if rows else ""


def _parity_words(parity: Parity | None) -> str:
    if parity is None:
        return ""
    if parity.refused:
        return f"It is not listed: {escape(parity.refused)}."
    said = f"Against float32 base + adapter: {parity.agreement:.1%} the same token in {escape(parity.dtype)}"
    if parity.served:
        return f"{said}, {parity.served.agreement:.1%} through vLLM."
    return f"{said}; not asked through vLLM."


def _entry(job: Job) -> str:
    params = job.params
    what = params.get("name") or params.get("fine_tuning_job") or job.id
    base = params.get("base")
    from_base = f" from {base}" if base else ""
    return f"{job.created:%Y-%m-%d %H:%M} · {what}{from_base} · {_WORDS.get(job.status, job.status)}"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<div class='fact'><b>{escape(one)}</b><span>{escape(words)}</span></div>" for one, words in facts)
    return f"<div class='facts'>{cells}</div>"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
