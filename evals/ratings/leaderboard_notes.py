"""What a reader of a leaderboard should know beside the ratings, as sentences: ties, voters, style, robustness.

Numbers come from `evals.ratings.leaderboard`; nothing is computed here but the wording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evals.ratings.leaderboard import Leaderboard

_MOVED = 15.0  # Elo: a smaller move under style control is not worth a sentence


def board_notes(board: Leaderboard) -> tuple[str, ...]:
    """The sentences that hold for this leaderboard, the weightiest first."""
    found = [_turning(board), _voters(board), _themselves(board), _ties(board), _style(board)]
    return tuple(note for note in found if note)


def _turning(board: Leaderboard) -> str:
    turn = board.turning
    if turn is None or turn.drop == 0 or (turn.drop is None and turn.change is None):
        return ""
    ways = [f"taking {turn.drop:,} away" if turn.drop else "", f"turning {turn.change:,} round" if turn.change else ""]
    how = " or ".join(way for way in ways if way)
    return f"Of {turn.votes:,} votes, {how} would put {turn.rival} level with {turn.leader}."


def _voters(board: Leaderboard) -> str:
    found = board.agreement
    if found is None or found.observed is None:
        return (
            "" if board.voters < 2 else "No two people voted on the same answers, so how far they agree is not known."
        )
    without = "" if found.decisive is None else f" ({found.decisive:.0%} where neither called a tie)"
    alpha = (
        "" if found.alpha is None else f"; chance-corrected that is {found.alpha:.2f} (alpha: 1 is all, 0 is chance)"
    )
    pairs = "1 pair" if found.units == 1 else f"{found.units} pairs"
    return f"Two people say the same in {found.observed:.0%}{without} on {pairs} of answers{alpha}."


def _themselves(board: Leaderboard) -> str:
    found = board.agreement
    if found is None or found.self_consistency is None:
        return ""
    times = "once" if found.repeats == 1 else f"{found.repeats} times"
    return f"Asked again, {times}, people said the same in {found.self_consistency:.0%}."


def _ties(board: Leaderboard) -> str:
    if not board.tie_rate:
        return ""
    bad = f", {board.both_bad / board.votes:.0%} that both are bad" if board.both_bad else ""
    note = f"{board.tie_rate:.0%} of the votes are ties{bad}."
    moved = [row for row in board.rows if row.without_ties is not None]
    if len(moved) > 1 and max(moved, key=lambda row: row.without_ties or 0.0).model != board.rows[0].model:
        note += " Without them another model leads."
    return note


def _style(board: Leaderboard) -> str:
    rows = [row for row in board.rows if row.styled is not None]
    if not rows:
        return ""
    first = max(rows, key=lambda row: row.styled or 0.0)
    if first.model != board.rows[0].model:
        return f"With length and Markdown held equal, {first.model} leads: style is part of what people liked."
    moved = max(rows, key=lambda row: abs((row.styled or 0.0) - row.rating))
    by = (moved.styled or 0.0) - moved.rating
    if abs(by) < _MOVED:
        return "Length and Markdown explain little of it: with them held equal the ratings hardly move."
    return f"With length and Markdown held equal, {moved.model} {'gains' if by > 0 else 'loses'} {abs(by):.0f} points."
