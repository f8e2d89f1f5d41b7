"""Sentences for the reader of a leaderboard: robustness, voter agreement, ties, style. Wording only."""

from evals.ratings.leaderboard_types import Leaderboard
from models.quantities import count_noun

_SIDED = 1.96  # standard errors from one half at which the side is mentioned
_MOVED = 15.0  # Elo: smaller changes under style control are not mentioned


def leaderboard_notes(board: Leaderboard) -> tuple[str, ...]:
    """The sentences that apply to this leaderboard, the most important first."""
    notes = [_frequent_voter(board), _robustness(board), _agreement(board), _self_consistency(board), _sides(board)]
    notes += [_ties(board), _style(board)]
    return tuple(note for note in notes if note)


def _frequent_voter(board: Leaderboard) -> str:
    if board.frequent_voter is None:
        return ""
    return f"{board.frequent_voter} cast at least half of the votes. Every voter still has the same weight."


def _sides(board: Leaderboard) -> str:
    agreement = board.agreement
    if agreement is None or agreement.left_rate is None or agreement.left_error is None:
        return ""
    if abs(agreement.left_rate - 0.5) < _SIDED * agreement.left_error:
        return ""
    share = f"{agreement.left_rate:.0%} of their decisive votes"
    return f"People chose the answer on the left in {share}, so the side influences them."


def _robustness(board: Leaderboard) -> str:
    turn = board.turning
    if turn is None or turn.drop == 0 or (turn.drop is None and turn.change is None):
        return ""
    ways = [f"removing {turn.drop:,}" if turn.drop else "", f"reversing {turn.change:,}" if turn.change else ""]
    how = " or ".join(way for way in ways if way)
    return f"Of {count_noun(turn.votes, 'vote')}, {how} would bring {turn.rival} level with {turn.leader}."


def _agreement(board: Leaderboard) -> str:
    agreement = board.agreement
    if agreement is None or agreement.observed is None:
        return "" if board.voters < 2 else "No two people voted on the same answers, so their agreement is not known."
    without = "" if agreement.decisive is None else f" ({agreement.decisive:.0%} if neither chose a tie)"
    pairs = count_noun(agreement.units, "pair")
    share = f"{agreement.observed:.0%} of cases{without}"
    return f"Two people who see the same answers agree in {share}, on {pairs} of answers."


def _self_consistency(board: Leaderboard) -> str:
    agreement = board.agreement
    if agreement is None or agreement.self_consistency is None:
        return ""
    times = "once" if agreement.repeats == 1 else f"{agreement.repeats} times"
    share = f"{agreement.self_consistency:.0%} of cases"
    return f"Shown the same answers again ({times}), people repeated their choice in {share}."


def _ties(board: Leaderboard) -> str:
    if not board.tie_rate:
        return ""
    bad = f" ({board.both_bad / board.votes:.0%} say that both are bad)" if board.both_bad else ""
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
        return f"With equal length and formatting, {first.model} would lead: style influences these votes."
    moved = max(rows, key=lambda row: abs((row.styled or 0.0) - row.rating))
    by = (moved.styled or 0.0) - moved.rating
    if abs(by) < _MOVED:
        return "With equal length and formatting, the ratings hardly change."
    return f"With equal length and formatting, {moved.model} {'gains' if by > 0 else 'loses'} {abs(by):.0f} points."
