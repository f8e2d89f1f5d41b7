"""This room's commands: `parley campaign`, `leaderboard`, `verdict`, `votes`, `judge`, `rubrics`, `eval` and others.

The commands are in `evals.commands`; nothing heavy is imported before one runs. `parley.py` adds `parley record`, which
needs the prices of another room.
"""

import typer

from evals.commands.campaigns import campaign_group
from evals.commands.evaluations import eval_group
from evals.commands.judges import judge_group, rubrics_group
from evals.commands.openai_evals import import_group
from evals.commands.prompts import prompts_group
from evals.commands.ratings import show_leaderboard, show_verdict
from evals.commands.record import recordings_group
from evals.commands.votes import votes_group


def add_commands(app: typer.Typer) -> None:
    """Adds this room's commands to the `parley` app."""
    app.command("leaderboard")(show_leaderboard)
    app.command("verdict")(show_verdict)
    app.add_typer(campaign_group(), name="campaign")
    app.add_typer(votes_group(), name="votes")
    app.add_typer(judge_group(), name="judge")
    app.add_typer(rubrics_group(), name="rubrics")
    app.add_typer(prompts_group(), name="prompts")
    app.add_typer(eval_group(), name="eval")
    app.add_typer(recordings_group(), name="recordings")
    app.add_typer(import_group(), name="import")
