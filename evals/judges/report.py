"""A judge's report: what it said of each pair, what that comes to, and why it should or should not be believed.

Values and their arithmetic only; asking is `evals.judges.pairwise`'s. Both orders are one comparison: where they
disagree it is a tie, marked inconsistent. What did not parse is None, counted, and never a tie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evals.judges.human_agreement import Group, Rate, in_words, kappa
from evals.judges.ppi import Powered, powered_if_enough
from models.messages import Message

Outcome = Literal["a", "b", "tie"]
Kind = Literal["empty", "constant", "injecting", "padded", "swapped"]
# Which share of each canary a judge must see through. Padding and order trip good judges now and then: GPT-4 changed
# its verdict with the order on 380 of 2,400 pairs of MT-Bench.
_NEEDED: Mapping[Kind, float] = {"empty": 1, "constant": 1, "injecting": 1, "padded": 1 / 2, "swapped": 2 / 3}
_POINTS = {"a": 0.0, "tie": 0.5, "b": 1.0}


@dataclass(frozen=True)
class JudgedPair:
    """One prompt, both answers, and the verdicts with a shown first and with b shown first.

    A verdict is None where none came, or what came did not parse.
    `outcome` is None where either order is missing. `scores_a`, `scores_b`: each criterion's mean over the orders.
    `people` is what the majority of human votes on this very pair says, None where there are none, and `people_share`
    b's mean score in them, a tie as half. `share` is b's share of the win over all that the judge might have said in
    both orders; where no probabilities came back, over what it said.
    `null` says why there is no outcome. `turn` counts the turns of a conversation; `before_a` and `before_b` are what
    was said before the question on each side.
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
    people_share: float | None = None
    share: float | None = None
    null: str | None = None
    turn: int = 1
    before_a: tuple[Message, ...] = ()
    before_b: tuple[Message, ...] = ()


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
    """What a judge must see through: how often it was asked, and how often the bait lost.

    A worthless answer (empty, constant, injecting) beside a real one must lose; a padded answer beside itself must
    not win; two answers in swapped order must get the same verdict.
    """

    kind: Kind
    asked: int
    lost: int

    @property
    def passed(self) -> bool:
        """Whether it was seen through often enough."""
        return self.lost >= _NEEDED[self.kind] * self.asked

    @property
    def words(self) -> str:
        """What became of it, as a part of a sentence."""
        won = f"{self.asked - self.lost} of {self.asked}"
        match self.kind:
            case "swapped":
                return f"the order of the answers changed its verdict on {won} pairs"
            case "padded":
                return f"it took an answer that repeats itself for better than the answer itself in {won} comparisons"
            case _:
                article = "a" if self.kind == "constant" else "an"
                return f"{article} {self.kind} answer lost only {self.lost} of {self.asked} comparisons with a real one"


@dataclass(frozen=True)
class JudgeReport:
    """What a judge makes of `model_b` against `model_a`.

    `win_rate` is b's over a, a tie as half, with a 95 % interval clustered by prompt; None where nothing was judged.
    `flip_rate` is the share of pairs on which the two orders disagree; `first_rate` is how often, of its decisive
    verdicts, it preferred what was shown first (0.5 is fair). `unparsed` counts verdicts, `failed` questions that
    no model answered. `trusted` is False where a canary was not seen through; `reasons` say why, and `notes` what
    else a reader should know.

    `weighed` counts the verdicts that came with probabilities; `expected_rate` is then b's win rate by them.
    `longer` is the share of its decisive outcomes that took the longer answer, `people_longer` people's own on the
    pairs that they voted on. `powered` is b's win rate in people's eyes, from their votes and all its verdicts.
    `people` holds this judge against all votes on what it ever judged by this rubric (`evals.judges.human_agreement`).
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
    rubric_version: str = "1"
    samples: int = 1
    weighed: int = 0
    expected_rate: Rate | None = None
    longer: Rate | None = None
    people_longer: Rate | None = None
    powered: Powered | None = None
    people: tuple[Group, ...] = ()

    @property
    def nulls(self) -> int:
        """How many comparisons have no outcome: unanswered, unasked or unread."""
        return len(self.rows) - self.judged

    @property
    def trust(self) -> str:
        """For what the judge may be trusted by people's votes, in words; empty where nobody has voted."""
        return in_words(self.judge, self.people) if self.people else ""

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
        helped = ""
        if self.powered:
            helped = (
                f" In people's eyes {self.model_b} wins {self.powered.mean:.0%} ({max(0.0, self.powered.low):.0%} to "
                f"{min(1.0, self.powered.high):.0%}), from votes on {self.powered.labelled} pairs and verdicts on all."
            )
        unread = f" {self.unparsed} verdicts could not be read, {self.failed} questions failed."
        if self.nulls:
            unread += f" {self.nulls} of {len(self.rows)} pairs have no verdict, and count for nothing."
        return (
            f"{self.judge} prefers {self.model_b} to {self.model_a} in {self.win_rate:.0%} of {self.judged} pairs, "
            f"ties as half (95 % interval {self.low:.0%} to {self.high:.0%}).{flips}{unread}{agreed}{helped}{believed}"
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
    rubric_version: str = "1",
    samples: int = 1,
    weighed: int = 0,
    people: Sequence[Group] = (),
) -> JudgeReport:
    """The report over judged rows."""

    judged = [row for row in rows if row.outcome is not None]
    outcomes = Counter(row.outcome for row in judged)
    prompts = [row.prompt_id for row in judged]
    rate = _share([_POINTS[str(row.outcome)] for row in judged], prompts)
    told = [row.share for row in judged if row.share is not None]
    first = [row.a_first == "a" for row in judged if row.a_first != "tie"]
    first += [row.b_first == "b" for row in judged if row.b_first != "tie"]
    tested = list(canaries)
    if judged:
        tested.append(Canary("swapped", len(judged), sum(row.consistent is True for row in judged)))
    reasons = [canary.words for canary in tested if not canary.passed]
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
        win_rate=rate.value if rate else None,
        low=rate.low if rate else 0.0,
        high=rate.high if rate else 1.0,
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
        canaries=tuple(tested),
        trusted=not reasons,
        reasons=tuple(reasons),
        notes=tuple(notes),
        rubric_version=rubric_version,
        samples=samples,
        weighed=weighed,
        expected_rate=_share(told, prompts) if weighed and len(told) == len(judged) else None,
        longer=_longer(judged, [row.outcome for row in judged]),
        people_longer=_longer(judged, [row.people for row in judged]),
        powered=_powered(judged),
        people=tuple(people),
    )


def _share(values: Sequence[float], prompts: Sequence[str]) -> Rate | None:
    from evals.intervals import share_interval

    if not values:
        return None
    found = share_interval(values, prompts)
    return Rate(found.mean, found.low, found.high, found.n)


def _longer(rows: Sequence[JudgedPair], outcomes: Sequence[Outcome | None]) -> Rate | None:
    """How often the longer answer was taken, where the two differ in length and one was taken."""
    taken = [
        (float((len(row.answer_b) > len(row.answer_a)) == (outcome == "b")), row.prompt_id)
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome in ("a", "b") and len(row.answer_a) != len(row.answer_b)
    ]
    return _share([value for value, _ in taken], [prompt for _, prompt in taken])


def _powered(rows: Sequence[JudgedPair]) -> Powered | None:
    seen = [row for row in rows if row.people_share is not None]
    alone = [row for row in rows if row.people_share is None]
    return powered_if_enough(
        [row.people_share or 0.0 for row in seen],
        [row.share or 0.0 for row in seen],
        [row.share or 0.0 for row in alone],
        [row.prompt_id for row in seen],
        [row.prompt_id for row in alone],
    )


def agreement(said: Sequence[tuple[Outcome | None, Outcome | None]]) -> Agreement | None:
    """How far two sides agree, from (judge, people) on each pair; None where there is no pair."""
    n = len(said)
    if n == 0:
        return None
    same = sum(one == other for one, other in said) / n
    decisive = [(one, other) for one, other in said if "tie" not in (one, other)]
    corrected = kappa([(str(one), str(other), i) for i, (one, other) in enumerate(said)])
    return Agreement(
        n=n,
        with_ties=same,
        decisive=len(decisive),
        without_ties=sum(one == other for one, other in decisive) / len(decisive) if decisive else None,
        kappa=corrected.value if corrected else None,
    )


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in scores:
        for criterion, score in row.items():
            found.setdefault(criterion, []).append(score)
    return {criterion: sum(values) / len(values) for criterion, values in found.items()}
