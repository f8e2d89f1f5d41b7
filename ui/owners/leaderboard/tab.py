"""The Leaderboard tab: ratings from blind votes, and how reliable they are. `evals.ratings` computes them."""

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from evals.recordings.recorded_models import recorded_on
from evals.votes.votes import count_votes
from models.database import Database
from models.quantities import count_noun
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET
from ui.look.markup import heading, notice
from ui.look.plots import Dot, rating_plot, win_rate_plot
from ui.owners.campaigns.html import export_links
from ui.owners.leaderboard.html import EMPTY, evidence_html, ratings_table, verdict_html

if TYPE_CHECKING:
    from evals.ratings.leaderboard import Leaderboard

_REFRESH_S = 10


@dataclass(frozen=True)
class LeaderboardView:
    """The components that the handlers update."""

    verdict: gr.HTML
    table: gr.HTML
    rating: gr.Plot
    matrix: gr.Plot
    evidence: gr.HTML
    body: gr.Column
    shown: gr.State


class LeaderboardTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: LeaderboardView) -> None:
        self._context = context
        self._view = view

    async def refresh(self) -> dict[Any, Any]:
        """Updates everything from the votes so far."""
        view = self._view
        try:
            board = await asyncio.to_thread(_leaderboard, self._context.database)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.verdict: notice(error_message(error), "bad"), view.shown: None}
        if not board.rows:
            return {view.verdict: EMPTY, view.body: gr.update(visible=False), view.shown: board.votes}
        recorded = await asyncio.to_thread(recorded_on, self._context.database, [row.model for row in board.rows])
        return {
            view.verdict: verdict_html(board),
            view.table: ratings_table(board),
            view.rating: rating_plot([_dot(row) for row in board.rows]),
            view.matrix: win_rate_plot([row.model for row in board.rows], board.win_rates, board.comparisons),
            view.evidence: evidence_html(replace(board, notes=(*board.notes, *recorded))),
            view.body: gr.update(visible=True),
            view.shown: board.votes,
        }

    async def tick(self, shown: int | None) -> dict[Any, Any]:
        """As `refresh`, but only after new votes: redrawing a plot closes the tooltip that the reader has open."""
        try:
            votes = await asyncio.to_thread(count_votes, self._context.database)
        except Exception as error:  # as above
            return {self._view.verdict: notice(error_message(error), "bad"), self._view.shown: None}
        return {self._view.shown: shown} if votes == shown else await self.refresh()


def _leaderboard(database: Database) -> "Leaderboard":
    from evals.ratings.leaderboard import leaderboard  # loads scipy.stats: a second of the page's start

    return leaderboard(database)


def build_leaderboard_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events; it is filled when it is opened. Call it inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML(
            "<p class='lead'>Ratings from <a href='/vote/' target='_blank'>blind votes</a>. "
            "<button type='button' class='text' data-parley='vote-link'>Copy the link for raters</button></p>"
        )
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="board-refresh")
    verdict = gr.HTML(elem_id="board-verdict")
    with gr.Column(visible=False, elem_id="board") as body:
        table = gr.HTML(elem_id="board-table")
        with gr.Row(elem_classes="plots"):
            with gr.Column(min_width=320):
                gr.HTML(heading("Ratings"))
                rating = gr.Plot(show_label=False, container=False, buttons=[])
            with gr.Column(min_width=320):
                gr.HTML(heading("How often the row’s model beats the column’s"))
                matrix = gr.Plot(show_label=False, container=False, buttons=[])
        evidence = gr.HTML(elem_id="board-behind")
        gr.HTML(f"<p class='about'>{export_links()}</p>", elem_id="board-export")
    shown = gr.State(None)
    board = LeaderboardTab(context, LeaderboardView(verdict, table, rating, matrix, evidence, body, shown))
    outputs = [verdict, table, rating, matrix, evidence, body, shown]
    tab.select(board.refresh, None, outputs, **QUIET)
    again.click(board.refresh, None, outputs, **QUIET)
    gr.Timer(_REFRESH_S).tick(board.tick, [shown], outputs, **QUIET)


def _dot(row: Any) -> Dot:
    votes = count_noun(row.votes, "vote")
    return Dot(row.model, row.rating, row.low, row.high, row.enough, votes if row.enough else f"{votes} only")
