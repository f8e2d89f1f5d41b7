"""The Leaderboard tab: what the votes say, and how sure they are. It computes nothing: `evals.leaderboard` does."""

import asyncio
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.leaderboard import Leaderboard, leaderboard
from ui.choices import notice
from ui.plots import Dot, rating_plot, win_rate_plot
from ui.room import Room, friendly
from ui.wiring import QUIET

_EVERY_S = 10


@dataclass(frozen=True)
class BoardView:
    """The components that the handlers fill."""

    verdict: gr.HTML
    table: gr.HTML
    rating: gr.Plot
    matrix: gr.Plot
    body: gr.Column
    seen: gr.State


class Board:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: BoardView) -> None:
        self._room = room
        self._view = view

    async def refresh(self) -> dict[Any, Any]:
        """Everything, from the votes as they are now."""
        view = self._view
        try:
            board = await asyncio.to_thread(leaderboard, self._room.database)
        except Exception as error:  # a timer's fault is a line on the page, not a pop-up
            return {view.verdict: notice(friendly(error), "bad"), view.seen: None}
        if not board.rows:
            return {
                view.verdict: _nothing(),
                view.body: gr.update(visible=False),
                view.seen: board.votes,
            }
        names = [row.model for row in board.rows]
        return {
            view.verdict: _verdict(board),
            view.table: _table(board),
            view.rating: rating_plot([_dot(row) for row in board.rows]),
            view.matrix: win_rate_plot(names, board.win_rates),
            view.body: gr.update(visible=True),
            view.seen: board.votes,
        }

    async def tick(self, seen: int | None) -> dict[Any, Any]:
        """As `refresh`, but only where votes have come: a redrawn plot loses what a reader was pointing at."""
        try:
            board = await asyncio.to_thread(leaderboard, self._room.database)
        except Exception as error:  # as above
            return {self._view.verdict: notice(friendly(error), "bad"), self._view.seen: None}
        return {self._view.seen: seen} if board.votes == seen else await self.refresh()


def leaderboard_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; it is drawn when it is opened. Call inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML(
            "<p class='lead'>Votes from <a href='/vote/' target='_blank'>/vote</a>, as ratings. "
            "<button type='button' class='text' data-parley='vote-link'>Copy the raters’ link</button></p>"
        )
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="board-refresh")
    verdict = gr.HTML(elem_id="board-verdict")
    with gr.Column(visible=False, elem_id="board") as body:
        table = gr.HTML(elem_id="board-table")
        with gr.Row(elem_classes="plots"):
            with gr.Column(min_width=320):
                gr.HTML("<h3 class='plot-title'>Rating</h3>")
                rating = gr.Plot(show_label=False, container=False, buttons=[])
            with gr.Column(min_width=320):
                gr.HTML("<h3 class='plot-title'>How often the row beats the column</h3>")
                matrix = gr.Plot(show_label=False, container=False, buttons=[])
    seen = gr.State(None)
    view = BoardView(verdict, table, rating, matrix, body, seen)
    board = Board(room, view)
    outputs = [verdict, table, rating, matrix, body, seen]
    tab.select(board.refresh, None, outputs, **QUIET)
    again.click(board.refresh, None, outputs, **QUIET)
    gr.Timer(_EVERY_S).tick(board.tick, [seen], outputs, **QUIET)


def _dot(row: Any) -> Dot:
    votes = "1 vote" if row.votes == 1 else f"{row.votes} votes"
    return Dot(row.model, row.rating, row.low, row.high, row.enough, votes if row.enough else f"{votes}: not enough")


def _nothing() -> str:
    return (
        "<div class='quiet'><b>No votes yet</b><span>Open <a href='/vote/' target='_blank'>/vote</a> and compare two "
        "answers, or send the link to the people whose opinion counts.</span></div>"
    )


def _verdict(board: Leaderboard) -> str:
    votes = "1 vote" if board.votes == 1 else f"{board.votes} votes"
    prompts = "1 prompt" if board.prompts == 1 else f"{board.prompts} prompts"
    badge = "" if board.enough else "<span class='badge warn'>not enough evidence</span>"
    return (
        f"<div class='verdict'><div><b id='board-votes'>{votes}</b> on {prompts} {badge}</div>"
        f"<p>{escape(board.verdict)}</p></div>"
    )


def _table(board: Leaderboard) -> str:
    rows = []
    for row in board.rows:
        rank = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"
        sure = "" if row.enough else "<span class='badge warn'>not enough evidence</span>"
        rows.append(
            f"<tr><td class='num'>{rank}</td><th scope='row'>{escape(row.model)} {sure}</th>"
            f"<td class='num'><b>{row.rating:.0f}</b></td><td class='num'>{row.low:.0f} to {row.high:.0f}</td>"
            f"<td class='num'>{row.votes}</td><td class='num roomy'>{row.wins} / {row.ties} / {row.losses}</td></tr>"
        )
    head = (
        "<th>Rank</th><th>Model</th><th>Rating</th><th>95 % interval</th><th>Votes</th>"
        "<th class='roomy'>Won / tied / lost</th>"
    )
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class='scroll'><table class='board'>{table}</table></div>"
