"""An owner's first steps, with the state of each: training data, a fine-tune, a comparison, votes.

They are shown above the tabs until all are done, or until the owner hides them (page.js).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from evals.tasks.evaluations import list_evaluations
from evals.votes.votes import count_votes
from models.files.stored_files import Files
from models.jobs.jobs import list_jobs
from models.quantities import count_noun
from ui.backend.context import PageContext, ServedModel
from ui.backend.model_options import is_tuned
from ui.backend.uploads import TRAINING_PURPOSE


@dataclass(frozen=True)
class Step:
    """One step. `tab`: where the owner takes it. `state`: its state in a few words."""

    tab: str
    title: str
    state: str
    done: bool


def first_steps(context: PageContext) -> tuple[Step, ...]:
    """The steps with their current state."""
    models = context.models()
    return (_data(context), _training(context, models), _comparison(context, models), _votes(context))


def steps_html(steps: Sequence[Step]) -> str:
    """The steps as a row of buttons, each of which opens its tab; empty once all are done."""
    if all(step.done for step in steps):
        return ""
    upcoming = next(step for step in steps if not step.done)
    items = "".join(
        f"<li class='{'done' if step.done else 'next' if step is upcoming else ''}'>"
        f"<button type='button' data-parley='tab' data-tab='{step.tab}'>"
        f"<i aria-hidden='true'>{'✓' if step.done else number}</i>"
        f"<span><b>{step.title}</b><small>{escape(step.state)}</small></span></button></li>"
        for number, step in enumerate(steps, 1)
    )
    hide = "<button type='button' class='text' data-parley='hide-steps'>Hide</button>"
    return f"<nav class='steps' aria-label='First steps'><ol>{items}</ol>{hide}</nav>"


def _data(context: PageContext) -> Step:
    files = len(Files(context.settings, context.database).list(TRAINING_PURPOSE))
    return Step(
        "Data",
        "Check your data",
        count_noun(files, "file uploaded", "files uploaded") if files else "no file yet",
        files > 0,
    )


def _training(context: PageContext, models: Sequence[ServedModel]) -> Step:
    tuned = sorted((model.spec for model in models if is_tuned(model.spec)), key=lambda spec: spec.created)
    running = next((job for job in list_jobs(context.database, "train", 5) if job.status == "running"), None)
    if running is not None:
        state = f"{running.params.get('name') or 'a training'}: {100 * running.progress:.0f} %"
    elif tuned:
        state = tuned[-1].id + (f" and {len(tuned) - 1} more" if len(tuned) > 1 else "")
    else:
        state = "no fine-tune yet"
    return Step("Train", "Train a model", state, bool(tuned))


def _comparison(context: PageContext, models: Sequence[ServedModel]) -> Step:
    judged = [job for job in list_jobs(context.database, "judge", 20) if job.status == "succeeded"]
    done = len(judged) + sum(row.finished is not None for row in list_evaluations(context.database))
    if done:
        return Step("Compare", "Compare", count_noun(done, "report", "reports"), True)
    ready = sum(model.ready and not model.spec.judge for model in models)
    return Step(
        "Compare", "Compare", f"{count_noun(ready, 'model', 'models')} ready" if ready else "no model is ready", False
    )


def _votes(context: PageContext) -> Step:
    votes = count_votes(context.database)
    return Step(
        "Leaderboard" if votes else "Campaigns", "Let people vote", count_noun(votes, "vote", "votes"), votes > 0
    )
