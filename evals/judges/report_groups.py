"""A judge's report by category and by turn: win rates with intervals, and why pairs have no verdict."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evals.intervals import share_interval
from evals.judges.human_agreement import Rate
from evals.judges.report import JudgedPair, JudgeReport

EVERYTHING = "everything"
_POINTS = {"a": 0.0, "tie": 0.5, "b": 1.0}


@dataclass(frozen=True)
class GroupVerdict:
    """Some of a report's pairs. `rate` is model b's win rate, ties as half, clustered by prompt; None without verdicts.

    `nulls` have no outcome; `flips` are ties because the two orders disagree.
    """

    name: str
    judged: int
    nulls: int
    rate: Rate | None
    wins_a: int
    wins_b: int
    ties: int
    flips: int


def by_group(report: JudgeReport) -> list[GroupVerdict]:
    """All pairs first, then each category, then each turn if conversations have several."""
    groups: list[tuple[str, Callable[[JudgedPair], bool]]] = [(EVERYTHING, lambda row: True)]
    categories = sorted({row.category for row in report.rows if row.category})
    if len(categories) > 1:
        groups += [(name, lambda row, name=name: row.category == name) for name in categories]
    turns = sorted({row.turn for row in report.rows})
    if len(turns) > 1:
        groups += [(f"turn {turn}", lambda row, turn=turn: row.turn == turn) for turn in turns]
    return [_group(name, [row for row in report.rows if belongs(row)]) for name, belongs in groups]


def null_reasons(report: JudgeReport) -> list[tuple[str, int]]:
    """Why pairs have no outcome, the most frequent reason first."""
    return Counter(row.null or "no verdict in both orders" for row in report.rows if row.outcome is None).most_common()


def report_json(report: JudgeReport) -> dict[str, Any]:
    """The report as plain JSON values, with its groups, its missing verdicts by reason, and its paragraphs."""
    from pydantic import TypeAdapter

    return report.to_json() | {
        "groups": TypeAdapter(list[GroupVerdict]).dump_python(by_group(report), mode="json"),
        "nulls": dict(null_reasons(report)),
        "summary": report.summary,
        "trust": report.trust,
    }


def _group(name: str, rows: list[JudgedPair]) -> GroupVerdict:
    judged = [row for row in rows if row.outcome is not None]
    outcomes = Counter(row.outcome for row in judged)
    rate = None
    if judged:
        estimate = share_interval([_POINTS[str(row.outcome)] for row in judged], [row.prompt_id for row in judged])
        rate = Rate(estimate.mean, estimate.low, estimate.high, estimate.n)
    return GroupVerdict(
        name=name,
        judged=len(judged),
        nulls=len(rows) - len(judged),
        rate=rate,
        wins_a=outcomes["a"],
        wins_b=outcomes["b"],
        ties=outcomes["tie"],
        flips=sum(row.consistent is False for row in judged),
    )
