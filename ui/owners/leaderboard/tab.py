"""The Leaderboard tab: what the votes say, and how sure they are. It computes nothing: `evals.ratings` does."""

import asyncio
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.ratings.leaderboard import Leaderboard, leaderboard
from evals.votes.votes import count_votes
from ui.backend.context import Room, friendly
from ui.backend.model_options import notice
from ui.look.components import QUIET
from ui.look.plots import Dot, rating_plot, win_rate_plot

_EVERY_S = 10


@dataclass(frozen=True)
class BoardView:
    """The components that the handlers fill."""

    verdict: gr.HTML
    table: gr.HTML
    rating: gr.Plot
    matrix: gr.Plot
    behind: gr.HTML
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
            view.behind: behind(board),
            view.body: gr.update(visible=True),
            view.seen: board.votes,
        }

    async def tick(self, seen: int | None) -> dict[Any, Any]:
        """As `refresh`, but only where votes have come: a redrawn plot loses what a reader was pointing at."""
        try:
            votes = await asyncio.to_thread(count_votes, self._room.database)
        except Exception as error:  # as above
            return {self._view.verdict: notice(friendly(error), "bad"), self._view.seen: None}
        return {self._view.seen: seen} if votes == seen else await self.refresh()


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
        about = gr.HTML(elem_id="board-behind")
    seen = gr.State(None)
    view = BoardView(verdict, table, rating, matrix, about, body, seen)
    board = Board(room, view)
    outputs = [verdict, table, rating, matrix, about, body, seen]
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
    """Raw rating and the one with style held equal side by side; a phone shows the raw one."""
    rows = []
    for row in board.rows:
        rank = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"
        sure = "" if row.enough else "<span class='badge warn'>not enough evidence</span>"
        styled = (
            f"<td class='num roomy'>{'—' if row.styled is None else f'{row.styled:.0f}'}</td>"
            if board.style_votes
            else ""
        )
        rows.append(
            f"<tr><td class='num'>{rank}</td><th scope='row'>{escape(row.model)} {sure}</th>"
            f"<td class='num'><b>{row.rating:.0f}</b></td><td class='num'>{row.low:.0f} to {row.high:.0f}</td>{styled}"
            f"<td class='num'>{row.votes}</td><td class='num roomy'>{row.wins} / {row.ties} / {row.losses}</td></tr>"
        )
    head = (
        "<th>Rank</th><th>Model</th><th>Rating</th><th>95 % interval</th>"
        + ("<th class='roomy'>Style held equal</th>" if board.style_votes else "")
        + "<th>Votes</th><th class='roomy'>Won / tied / lost</th>"
    )
    return _framed(f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>")


def behind(board: Leaderboard) -> str:
    """What a careful reader asks next: four numbers, and the rest folded away. HTML."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in board.notes)
    folded = f"<details class='behind'><summary>In words</summary><ul>{notes}</ul></details>" if notes else ""
    cells = "".join(
        f"<div class='fact'><b>{value}</b><span>{escape(what)}</span></div>" for value, what in _facts(board)
    )
    title = "<h3 class='plot-title'>What stands behind it</h3>"
    return f"{title}<div class='facts'>{cells}</div>{folded}{_style(board)}{_categories(board)}"


def _facts(board: Leaderboard) -> list[tuple[str, str]]:
    facts = []
    if board.tie_rate is not None:
        bad = f", {board.both_bad} of them «both bad»" if board.both_bad else ""
        facts.append((f"{board.tie_rate:.0%}", f"of the votes are ties{bad}"))
    found = board.agreement
    if found and found.observed is not None:
        alpha = "" if found.alpha is None else f"; alpha {found.alpha:.2f}, where 0 is chance"
        facts.append((f"{found.observed:.0%}", f"agreement of two people, on {found.units} pairs{alpha}"))
    elif board.voters > 1:
        facts.append(("—", "agreement of people is not known: no two voted on the same answers"))
    if found and found.self_consistency is not None:
        facts.append((f"{found.self_consistency:.0%}", f"said the same when asked again, {found.repeats} times"))
    turn = board.turning
    if turn and turn.change:
        drop = f" (or {turn.drop:,} taken away)" if turn.drop else ""
        what = f"of {turn.votes:,} votes turned round{drop} would put {turn.rival} level with {turn.leader}"
        facts.append((f"{turn.change:,}", what))
    return facts


def _style(board: Leaderboard) -> str:
    if not board.style:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{effect.covariate}</th><td class='num'>{effect.effect:+.0f}</td>"
        f"<td class='num'>{effect.low:+.0f} to {effect.high:+.0f}</td></tr>"
        for effect in board.style
    )
    head = "<thead><tr><th>One standard deviation more</th><th>Elo</th><th>95 % interval</th></tr></thead>"
    table = _framed(f"{head}<tbody>{rows}</tbody>")
    return f"<details class='behind'><summary>What length and Markdown are worth</summary>{table}</details>"


def _categories(board: Leaderboard) -> str:
    if len({row.category for row in board.categories}) < 2:
        return ""
    few = " <span class='badge warn'>too few</span>"
    rows = "".join(
        f"<tr><td>{escape(row.category) or '(none)'}</td><th scope='row'>{escape(row.model)}"
        f"{'' if row.enough else few}</th>"
        f"<td class='num'><b>{row.win_rate:.0%}</b></td><td class='num'>{row.low:.0%} to {row.high:.0%}</td>"
        f"<td class='num'>{row.votes}</td></tr>"
        for row in board.categories
    )
    head = "<th>Category</th><th>Model</th><th>Wins</th><th>95 % interval</th><th>Votes</th>"
    table = _framed(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>", "tall")
    return f"<details class='behind'><summary>Win rates by category</summary>{table}</details>"


def _framed(table: str, how: str = "") -> str:
    return f"<div class='scroll {how}'><table class='board'>{table}</table></div>"
