"""The leaderboard as HTML: the verdict, the table of ratings, and the numbers behind them."""

from html import escape
from typing import TYPE_CHECKING

from models.quantities import count_noun
from ui.look.markup import badge, empty_state, facts, heading, table

if TYPE_CHECKING:
    from evals.ratings.leaderboard_types import Leaderboard, RatedModel

EMPTY = empty_state(
    "No votes yet",
    "Open <a href='/vote/' target='_blank'>the voting page</a> and compare two answers, or send its link to the "
    "people whose opinion counts.",
)


def verdict_html(board: "Leaderboard") -> str:
    """The number of votes, and the verdict in a sentence."""
    scope = badge(f"intervals for {board.scope}") if board.enough else ""
    return (
        f"<div class='verdict'><div><b id='board-votes'>{count_noun(board.votes, 'vote')}</b> on "
        f"{count_noun(board.prompts, 'prompt')} {scope}</div><p>{escape(board.verdict)}</p></div>"
    )


def ratings_table(board: "Leaderboard") -> str:
    """Ratings with their intervals; models without enough votes follow in a separate block, without a rank.

    Another column has the ratings without the effect of style (hidden on phones).
    """
    from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES  # loads scipy.stats: a second of the page's start

    head = (
        "<th>Rank</th><th>Model</th><th>Rating</th><th>95 % interval</th>"
        + ("<th class='roomy'>Style-adjusted rating</th>" if board.style_votes else "")
        + "<th>Votes</th><th class='roomy'>Won / tied / lost</th>"
    )
    unranked = [row for row in board.rows if not row.enough]
    block = ""
    if unranked:
        rule = (
            f"Too few votes for a rank: fewer than {MIN_VOTES} votes or {MIN_PROMPTS} prompts, or never compared with "
            "the other models"
        )
        columns = 7 if board.style_votes else 6
        block = f"<tr class='unproven'><td colspan='{columns}'>{rule}</td></tr>"
    ranked = "".join(_row(row, board) for row in board.rows if row.enough)
    return table(head, ranked + block + "".join(_row(row, board) for row in unranked))


def _row(row: "RatedModel", board: "Leaderboard") -> str:
    rank = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"
    styled = "—" if row.styled is None else f"{row.styled:.0f}"
    return (
        f"<tr class='{'' if row.enough else 'faint'}'><td class='num'>{rank if row.enough else '—'}</td>"
        f"<th scope='row'>{escape(row.model)}</th><td class='num'><b>{row.rating:.0f}</b></td>"
        f"<td class='num'>{row.low:.0f} to {row.high:.0f}</td>"
        + (f"<td class='num roomy'>{styled}</td>" if board.style_votes else "")
        + f"<td class='num'>{row.votes}</td><td class='num roomy'>{row.wins} / {row.ties} / {row.losses}</td></tr>"
    )


def evidence_html(board: "Leaderboard") -> str:
    """How reliable the ratings are: four numbers; notes, style and categories are folded away under "Details"."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in board.notes)
    details = (f"<ul>{notes}</ul>" if notes else "") + _style(board) + _categories(board)
    folded = f"<details class='behind'><summary>Details</summary>{details}</details>" if details else ""
    return f"{heading('How reliable is this?')}{facts(_numbers(board))}{folded}"


def _numbers(board: "Leaderboard") -> list[tuple[str, str]]:
    numbers = []
    if board.tie_rate is not None:
        bad = f", {board.both_bad} of them “both are bad”" if board.both_bad else ""
        numbers.append((f"{board.tie_rate:.0%}", f"of votes are ties{bad}"))
    agreement = board.agreement
    if agreement and agreement.observed is not None:
        numbers.append((f"{agreement.observed:.0%}", f"agreement between two people, on {agreement.units} pairs"))
    elif board.voters > 1:
        numbers.append(("—", "agreement between people is not known: no two voted on the same answers"))
    if agreement and agreement.self_consistency is not None:
        numbers.append(
            (f"{agreement.self_consistency:.0%}", f"same vote on a repeated pair ({agreement.repeats} repeats)")
        )
    turn = board.turning
    if turn and turn.change:
        drop = f" (or {turn.drop:,} if left out)" if turn.drop else ""
        meaning = f"of {count_noun(turn.votes, 'vote')}, if reversed{drop}, would tie {turn.rival} with {turn.leader}"
        numbers.append((f"{turn.change:,}", meaning))
    return numbers


def _style(board: "Leaderboard") -> str:
    if not board.style:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{effect.covariate}</th><td class='num'>{effect.effect:+.0f}</td>"
        f"<td class='num'>{effect.low:+.0f} to {effect.high:+.0f}</td></tr>"
        for effect in board.style
    )
    head = "<th>One standard deviation more of</th><th>Rating points</th><th>95 % interval</th>"
    return heading("Effect of length and formatting") + table(head, rows)


def _categories(board: "Leaderboard") -> str:
    if len({row.category for row in board.categories}) < 2:
        return ""
    few = f" {badge('too few votes', 'warn')}"
    rows = "".join(
        f"<tr><td>{escape(row.category) or '(none)'}</td><th scope='row'>{escape(row.model)}"
        f"{'' if row.enough else few}</th>"
        f"<td class='num'><b>{row.win_rate:.0%}</b></td><td class='num'>{row.low:.0%} to {row.high:.0%}</td>"
        f"<td class='num'>{row.votes}</td></tr>"
        for row in board.categories
    )
    head = "<th>Category</th><th>Model</th><th>Wins</th><th>95 % interval</th><th>Votes</th>"
    return heading("Win rates by category") + table(head, rows, tall=True)
