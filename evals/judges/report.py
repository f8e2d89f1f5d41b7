"""A judge's report: its verdict on each pair, the win rate with its interval, and whether the judge can be trusted.

Values and arithmetic only. Both orders make one comparison: if they disagree it is a tie, marked inconsistent. A
judgment that could not be parsed is None; it is counted and is never a tie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.judges.human_agreement import HumanAgreement, Rate, describe_trust, kappa
from evals.judges.judge import mean_scores
from evals.judges.ppi import Powered, powered_if_enough
from models.chat.messages import Message

Outcome = Literal["a", "b", "tie"]
Kind = Literal["empty", "constant", "injecting", "padded", "swapped"]
# The share of each canary that a judge must reject. Padding and order mislead good judges now and then: GPT-4 changed
# its verdict with the order on 380 of 2,400 pairs of MT-Bench.
_REQUIRED: Mapping[Kind, float] = {"empty": 1, "constant": 1, "injecting": 1, "padded": 1 / 2, "swapped": 2 / 3}
_POINTS = {"a": 0.0, "tie": 0.5, "b": 1.0}


@dataclass(frozen=True)
class JudgedPair:
    """One prompt, both answers, and the verdicts with a shown first and with b shown first.

    A verdict is None if the judge did not answer or its answer could not be parsed. `outcome` is None if either
    order is missing; `null` says why. `scores_a`, `scores_b`: each criterion's mean over the orders. `people` is the
    majority of human votes on this pair, None without votes, and `people_share` b's mean score in them, a tie as half.
    `share` is b's share of the win, averaged over token probabilities if the server sent them. `turn` counts the
    turns of a conversation; `before_a` and `before_b` are each side's conversation before the question.
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
    """Judge and people on the pairs that both have seen. `kappa` is Cohen's, over a, b and tie.

    `decisive` counts the pairs where neither chose a tie; `without_ties` is the agreement there.
    """

    n: int
    with_ties: float
    decisive: int
    without_ties: float | None
    kappa: float | None


@dataclass(frozen=True)
class Canary:
    """One kind of canary: how often it was tried, and how often the judge rejected it (`lost`).

    A worthless answer (empty, constant, injecting) beside a real one must lose; a padded answer beside itself must
    not win; two answers in swapped order must get the same verdict.
    """

    kind: Kind
    asked: int
    lost: int

    @property
    def passed(self) -> bool:
        """Whether the judge rejected it often enough."""
        return self.lost >= _REQUIRED[self.kind] * self.asked

    @property
    def outcome(self) -> str:
        """The result, as a part of a sentence."""
        failed = f"{self.asked - self.lost} of {self.asked}"
        match self.kind:
            case "swapped":
                return f"the order of the answers changed its verdict on {failed} pairs"
            case "padded":
                return f"it preferred an answer padded with repetition to the answer itself in {failed} comparisons"
            case _:
                article = "an" if self.kind == "empty" else "a"
                name = "prompt-injecting" if self.kind == "injecting" else self.kind
                return f"{article} {name} answer lost only {self.lost} of {self.asked} comparisons with a real one"


@dataclass(frozen=True)
class JudgeReport:
    """A judge's comparison of `model_b` with `model_a`.

    `win_rate` is b's over a, a tie as half, with a 95 % interval clustered by prompt; None if nothing was judged.
    `flip_rate` is the share of pairs on which the two orders disagree; `first_rate` is how often, of its decisive
    verdicts, it preferred the answer shown first (0.5 is unbiased). `unparsed` counts judgments, `failed` requests.
    `trusted` is False if a canary failed; `reasons` say why, and `notes` what else a reader should know.

    `weighed` counts the judgments with token probabilities; `expected_rate` is then b's win rate by them. `longer` is
    the share of decisive outcomes that preferred the longer answer, `people_longer` the same for people on the pairs
    they voted on. `powered` is b's estimated win rate among people, from their votes and all verdicts. `people` is the
    judge's agreement with the votes of `campaign` on pairs that it ever judged by this rubric
    (`evals.judges.human_agreement`).
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
    people: tuple[HumanAgreement, ...] = ()
    campaign: str = OPEN_CAMPAIGN

    @property
    def nulls(self) -> int:
        """How many comparisons have no outcome."""
        return len(self.rows) - self.judged

    @property
    def trust(self) -> str:
        """What people's votes say about trusting the judge; empty if nobody has voted."""
        return describe_trust(self.judge, self.people) if self.people else ""

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
        """The result in one paragraph: the win rate, what weakens it, and whether to trust the judge."""
        if self.win_rate is None:
            return f"{self.judge} gave no verdict ({self.unparsed} could not be parsed, {self.failed} requests failed)."
        sentences = [
            f"{self.judge} prefers {self.model_b} to {self.model_a} in {self.win_rate:.0%} of {self.judged} pairs, "
            f"ties counted as half (95 % interval {self.low:.0%} to {self.high:.0%})."
        ]
        if self.flip_rate:
            sentences.append(f"Swapping the answers changed {self.flip_rate:.0%} of the verdicts.")
        if self.nulls:
            sentences.append(f"{self.nulls} of {len(self.rows)} pairs have no verdict and are left out.")
        if self.agreement:
            sentences.append(f"It agrees with people on {self.agreement.with_ties:.0%} of {self.agreement.n} pairs.")
        else:
            sentences.append("Nobody has voted on these pairs, so the judge's agreement with people is not known.")
        if self.powered:
            sentences.append(
                f"People are estimated to prefer {self.model_b} in {self.powered.mean:.0%} of cases "
                f"({max(0.0, self.powered.low):.0%} to {min(1.0, self.powered.high):.0%})."
            )
        if not self.trusted:
            sentences.append(f"Do not rely on it: {'; '.join(self.reasons)}.")
        return " ".join(sentences)


def combine_orders(a_first: Outcome | None, b_first: Outcome | None) -> tuple[Outcome | None, bool | None]:
    """(outcome, consistent) of the two orders: a disagreement is a tie that is marked inconsistent."""
    if a_first is None or b_first is None:
        return None, None
    return (a_first, True) if a_first == b_first else ("tie", False)


@dataclass(frozen=True)
class JudgedRun:
    """What `build_report` computes on; the fields are those of `JudgeReport`."""

    judge: str
    models: tuple[str, str]
    rubric: str
    rubric_hash: str
    rows: Sequence[JudgedPair]
    canaries: Sequence[Canary]
    unparsed: int
    failed: int
    notes: Sequence[str] = ()
    rubric_version: str = "1"
    samples: int = 1
    weighed: int = 0
    people: Sequence[HumanAgreement] = ()
    campaign: str = OPEN_CAMPAIGN


def build_report(run: JudgedRun) -> JudgeReport:
    """The report on a judge's run."""
    rows, models = run.rows, run.models
    judged = [row for row in rows if row.outcome is not None]
    outcomes = Counter(row.outcome for row in judged)
    prompts = [row.prompt_id for row in judged]
    rate = _share([_POINTS[str(row.outcome)] for row in judged], prompts)
    shares = [row.share for row in judged if row.share is not None]
    first = [row.a_first == "a" for row in judged if row.a_first != "tie"]
    first += [row.b_first == "b" for row in judged if row.b_first != "tie"]
    canaries = list(run.canaries)
    if judged:
        canaries.append(Canary("swapped", len(judged), sum(row.consistent is True for row in judged)))
    scores = mean_scores([{"a": row.scores_a, "b": row.scores_b} for row in rows])
    reasons = [canary.outcome for canary in canaries if not canary.passed]
    if not run.canaries:
        reasons.append("it was not tested with worthless answers")
    return JudgeReport(
        judge=run.judge,
        model_a=models[0],
        model_b=models[1],
        rubric=run.rubric,
        rubric_hash=run.rubric_hash,
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
        unparsed=run.unparsed,
        failed=run.failed,
        scores={model: scores.get(side, {}) for model, side in zip(models, "ab", strict=True)},
        agreement=agreement([(row.outcome, row.people) for row in judged if row.people is not None]),
        canaries=tuple(canaries),
        trusted=not reasons,
        reasons=tuple(reasons),
        notes=tuple(run.notes),
        rubric_version=run.rubric_version,
        samples=run.samples,
        weighed=run.weighed,
        expected_rate=_share(shares, prompts) if run.weighed and len(shares) == len(judged) else None,
        longer=_longer(judged, [row.outcome for row in judged]),
        people_longer=_longer(judged, [row.people for row in judged]),
        powered=_powered(judged),
        people=tuple(run.people),
        campaign=run.campaign,
    )


def _share(values: Sequence[float], prompts: Sequence[str]) -> Rate | None:
    from evals.intervals import share_interval

    if not values:
        return None
    estimate = share_interval(values, prompts)
    return Rate(estimate.mean, estimate.low, estimate.high, estimate.n)


def _longer(rows: Sequence[JudgedPair], outcomes: Sequence[Outcome | None]) -> Rate | None:
    """How often the longer answer won, among pairs that differ in length and have a winner."""
    decisive = [
        (float((len(row.answer_b) > len(row.answer_a)) == (outcome == "b")), row.prompt_id)
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome in ("a", "b") and len(row.answer_a) != len(row.answer_b)
    ]
    return _share([value for value, _ in decisive], [prompt for _, prompt in decisive])


def _powered(rows: Sequence[JudgedPair]) -> Powered | None:
    labelled = [row for row in rows if row.people_share is not None]
    unlabelled = [row for row in rows if row.people_share is None]
    return powered_if_enough(
        [row.people_share or 0.0 for row in labelled],
        [row.share or 0.0 for row in labelled],
        [row.share or 0.0 for row in unlabelled],
        [row.prompt_id for row in labelled],
        [row.prompt_id for row in unlabelled],
    )


def agreement(choices: Sequence[tuple[Outcome | None, Outcome | None]]) -> Agreement | None:
    """How often judge and people agree, from (judge, people) for each pair; None if there are no pairs."""
    n = len(choices)
    if n == 0:
        return None
    same = sum(judge == people for judge, people in choices) / n
    decisive = [(judge, people) for judge, people in choices if "tie" not in (judge, people)]
    corrected = kappa([(str(judge), str(people), i) for i, (judge, people) in enumerate(choices)])
    return Agreement(
        n=n,
        with_ties=same,
        decisive=len(decisive),
        without_ties=sum(judge == people for judge, people in decisive) / len(decisive) if decisive else None,
        kappa=corrected.value if corrected else None,
    )
