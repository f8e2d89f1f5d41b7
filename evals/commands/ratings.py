"""`parley leaderboard` and `parley verdict`. They print and draw what `evals.ratings` computes."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from evals.commands.flags import CampaignName, Category, JsonFlag, OpenLinks, PlotFile
from evals.reports.terminal import echo
from models.errors import Invalid, NotFound
from models.terminal import Home, open_home, print_json


def show_leaderboard(
    category: Category = None,
    by_category: Annotated[bool, typer.Option("--by-category", help="Also show win rates by category.")] = False,
    campaign: CampaignName = "open",
    open_links: OpenLinks = True,
    plot: PlotFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Rate the models from people's blind votes, with intervals and notes on reliability.

    Ratings are on the Elo scale with mean 1000 (Bradley–Terry); each voter has the same weight. The 95 % intervals
    allow for differences between prompts and between voters; with under five voters they hold for these people only.
    Ranks are the range that the votes allow. "Equal style" is the rating as if all answers had the same length and
    formatting. By default, the votes are those at the page's /vote. Other campaigns ask other questions, so their votes
    are never
    counted together: name one with `--campaign`.
    """
    from evals.campaigns.lifecycle import load_campaign
    from evals.ratings.leaderboard import leaderboard
    from evals.recordings.recorded_models import recorded_on
    from evals.reports.interval_chart import write_plot
    from evals.reports.rating_tables import board_cells, board_plot, board_table, category_table

    with open_home() as home:
        load_campaign(home.database, campaign)
        board = leaderboard(home.database, category, campaign, open_links=open_links)
        board = replace(board, notes=(*board.notes, *recorded_on(home.database, [row.model for row in board.rows])))
    if plot is not None and board.rows:
        write_plot(plot, board_plot(board), "Leaderboard", board_cells(board), [board.verdict, *board.notes])
    if as_json:
        print_json(board.to_json())
        return
    if board.rows:
        echo(board_table(board))
    echo(board.verdict)
    for note in board.notes:
        echo(f"· {note}")
    if by_category:
        echo(category_table(board.categories))
    _echo_plot(plot, bool(board.rows))


def show_verdict(
    model_a: Annotated[str, typer.Argument(help="The model to assess: a name or an alias.")],
    model_b: Annotated[str, typer.Argument(help="The model to compare it with.")],
    category: Category = None,
    campaign: CampaignName = "open",
    open_links: OpenLinks = True,
    plot: PlotFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show whether people prefer one model to another in blind votes, overall and by category.

    The result is one of: better, worse, no meaningful difference, at least as good, not enough evidence. It is about
    people like the voters; with under five voters it can only be about these people. Each voter has the same weight.
    You may read the result after every vote: it allows for that. The intervals do not: read them only once.

    Example:

      parley verdict support-v2 support-v1 --plot verdict.html
    """
    from evals.campaigns.lifecycle import load_campaign
    from evals.ratings.category_win_rates import duel_by_category
    from evals.ratings.verdict import compare
    from evals.recordings.recorded_models import recorded_on
    from evals.reports.interval_chart import write_plot
    from evals.reports.rating_tables import duel_cells, duel_plot, duel_table, scope_notes, voters_table
    from evals.votes.votes import VoteSelection, stored_votes

    with open_home() as home:
        load_campaign(home.database, campaign)
        stored = stored_votes(home.database, VoteSelection(category, campaign, open_links))
        first, second = _resolve(home, model_a), _resolve(home, model_b)
        if first == second:
            raise Invalid("A verdict compares two different models.", param="model_b")
        verdict = compare(stored.votes, first, second)
        notes = recorded_on(home.database, [verdict.model_a, verdict.model_b])
    rows = duel_by_category(stored, verdict.model_a, verdict.model_b)
    if plot is not None and verdict.votes:
        title = f"{verdict.model_a} compared with {verdict.model_b}"
        write_plot(
            plot, duel_plot(verdict, rows), title, duel_cells(verdict, rows), [verdict.text, *scope_notes(verdict)]
        )
    if as_json:
        categories = {"categories": [asdict(row) for row in rows]}
        print_json(verdict.to_json() | categories | {"notes": notes})
        return
    if verdict.votes:
        echo(duel_table(verdict, rows))
        echo(voters_table(verdict))
    echo(verdict.text)
    for note in notes:
        echo(f"· {note}")
    _echo_plot(plot, verdict.votes > 0)


def _echo_plot(plot: Path | None, drawn: bool) -> None:
    if plot is not None:
        echo(f"Chart written to {plot}." if drawn else f"There are no votes to draw, so {plot} was not written.")


def _resolve(home: Home, name: str) -> str:
    """An alias's id; an unknown name stays as it is, since votes outlive their models."""
    from evals.recordings.recorded_models import parse_recorded_name, resolve_recorded

    try:
        if recorded := parse_recorded_name(name):
            return resolve_recorded(home.database, home.registry, recorded).id
        return home.registry.resolve(name).id
    except NotFound:
        return name
