"""A judge's report: what it said of each pair, what that comes to, and why it should or should not be believed.

Values and their arithmetic only; asking is `evals.judging`'s. Both orders are one comparison: where they disagree
it is a tie, marked inconsistent. What did not parse is None, counted, and never a tie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["a", "b", "tie"]


@dataclass(frozen=True)
class JudgedPair:
    """One prompt, both answers, and the verdicts with a shown first and with b shown first.

    A verdict is None where none came, or what came did not parse.
    `outcome` is None where either order is missing. `scores_a`, `scores_b`: each criterion's mean over the orders.
    `people` is what the majority of human votes on this very pair says, None where there are none.
    """

    pair_id: str
    prompt_id: str
    question: str
    category: str | None
    answer_a: str
    answer_b: str
    a_first: Outcome | None
    b_first: Outcome | None
    outcome: Outcome | None
    consistent: bool | None
    scores_a: Mapping[str, float]
    scores_b: Mapping[str, float]
    reasons: str
    people: Outcome | None


@dataclass(frozen=True)
class Agreement:
    """Judge against people on the pairs that both have seen. `kappa` is Cohen's, over a, b and tie.

    `decisive` counts the pairs where neither says tie; `without_ties` is the agreement there.
    """

    n: int
    with_ties: float
    decisive: int
    without_ties: float | None
    kappa: float | None


@dataclass(frozen=True)
class Canary:
    """A worthless answer put beside a real one, in both orders: how often it was asked, and how often it lost."""

    kind: Literal["empty", "constant", "injecting"]
    asked: int
    lost: int


@dataclass(frozen=True)
class JudgeReport:
    """What a judge makes of `model_b` against `model_a`.

    `win_rate` is b's over a, a tie as half, with a 95 % interval clustered by prompt; None where nothing was judged.
    `flip_rate` is the share of pairs on which the two orders disagree; `first_rate` is how often, of its decisive
    verdicts, it preferred what was shown first (0.5 is fair). `unparsed` counts verdicts, `failed` questions that
    no model answered. `trusted` is False where a canary did not lose; `reasons` say why, and `notes` what else a
    reader should know.
    """

    judge: str
    model_a: str
    model_b: str
    rubric: str
    rubric_hash: str
    rows: tuple[JudgedPair, ...]
    judged: int
    win_rate: float | None
    low: float
    high: float
    wins_a: int
    wins_b: int
    ties: int
    flip_rate: float | None
    first_rate: float | None
    unparsed: int
    failed: int
    scores: Mapping[str, Mapping[str, float]]
    agreement: Agreement | None
    canaries: tuple[Canary, ...]
    trusted: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        from pydantic import TypeAdapter

        return TypeAdapter(JudgeReport).dump_python(self, mode="json")

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "JudgeReport":
        """The report that `to_json` wrote."""
        from pydantic import TypeAdapter

        return TypeAdapter(JudgeReport).validate_python(value)

    @property
    def summary(self) -> str:
        """One paragraph in plain words."""
        if self.win_rate is None:
            return f"{self.judge} gave no verdict that can be read ({self.unparsed} unparsed, {self.failed} failed)."
        believed = "" if self.trusted else f" Do not rely on it: {'; '.join(self.reasons)}."
        agreed = (
            f" It agrees with people on {self.agreement.with_ties:.0%} of {self.agreement.n} pairs."
            if self.agreement
            else " Nobody has voted on these pairs, so its agreement with people is not known."
        )
        flips = f" The order of the answers changed {self.flip_rate:.0%} of them." if self.flip_rate else ""
        flips = flips or " The order of the answers changed none of them."
        unread = f" {self.unparsed} verdicts could not be read, {self.failed} questions failed."
        return (
            f"{self.judge} prefers {self.model_b} to {self.model_a} in {self.win_rate:.0%} of {self.judged} pairs, "
            f"ties as half (95 % interval {self.low:.0%} to {self.high:.0%}).{flips}{unread}{agreed}{believed}"
        )


def combine(a_first: Outcome | None, b_first: Outcome | None) -> tuple[Outcome | None, bool | None]:
    """(outcome, consistent) of the two orders: a disagreement is a tie that is marked inconsistent."""
    if a_first is None or b_first is None:
        return None, None
    return (a_first, True) if a_first == b_first else ("tie", False)


def summarise(
    *,
    judge: str,
    models: tuple[str, str],
    rubric: str,
    rubric_hash: str,
    rows: Sequence[JudgedPair],
    canaries: Sequence[Canary],
    unparsed: int,
    failed: int,
    notes: Sequence[str] = (),
) -> JudgeReport:
    """The report over judged rows."""
    from evals.intervals import share_interval

    judged = [row for row in rows if row.outcome is not None]
    outcomes = Counter(row.outcome for row in judged)
    points = [{"a": 0.0, "b": 1.0, "tie": 0.5}[str(row.outcome)] for row in judged]
    rate = share_interval(points, [row.prompt_id for row in judged])
    first = [row.a_first == "a" for row in judged if row.a_first != "tie"]
    first += [row.b_first == "b" for row in judged if row.b_first != "tie"]
    reasons = [
        f"{'an' if canary.kind != 'constant' else 'a'} {canary.kind} answer lost only {canary.lost} of {canary.asked} "
        "comparisons with a real one"
        for canary in canaries
        if canary.lost < canary.asked
    ]
    if not canaries:
        reasons.append("it was not tested with worthless answers")
    return JudgeReport(
        judge=judge,
        model_a=models[0],
        model_b=models[1],
        rubric=rubric,
        rubric_hash=rubric_hash,
        rows=tuple(rows),
        judged=len(judged),
        win_rate=rate.mean if judged else None,
        low=rate.low if judged else 0.0,
        high=rate.high if judged else 1.0,
        wins_a=outcomes["a"],
        wins_b=outcomes["b"],
        ties=outcomes["tie"],
        flip_rate=sum(row.consistent is False for row in judged) / len(judged) if judged else None,
        first_rate=sum(first) / len(first) if first else None,
        unparsed=unparsed,
        failed=failed,
        scores={
            models[0]: _mean_scores([row.scores_a for row in rows]),
            models[1]: _mean_scores([row.scores_b for row in rows]),
        },
        agreement=agreement([(row.outcome, row.people) for row in judged if row.people is not None]),
        canaries=tuple(canaries),
        trusted=not reasons,
        reasons=tuple(reasons),
        notes=tuple(notes),
    )


def agreement(said: Sequence[tuple[Outcome | None, Outcome | None]]) -> Agreement | None:
    """How far two sides agree, from (judge, people) on each pair; None where there is no pair."""
    n = len(said)
    if n == 0:
        return None
    same = sum(one == other for one, other in said) / n
    decisive = [(one, other) for one, other in said if "tie" not in (one, other)]
    ones, others = Counter(one for one, _ in said), Counter(other for _, other in said)
    by_chance = sum(ones[outcome] * others[outcome] for outcome in ones) / n**2
    return Agreement(
        n=n,
        with_ties=same,
        decisive=len(decisive),
        without_ties=sum(one == other for one, other in decisive) / len(decisive) if decisive else None,
        kappa=(same - by_chance) / (1 - by_chance) if by_chance < 1 else None,
    )


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in scores:
        for criterion, score in row.items():
            found.setdefault(criterion, []).append(score)
    return {criterion: sum(values) / len(values) for criterion, values in found.items()}
