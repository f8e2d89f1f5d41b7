"""How well a judge agrees with people, and what it can be trusted for. Labelled pairs in, frozen results out.

Agreement is that of Zheng et al. 2023 (arXiv:2306.05685): over all pairs of one verdict and one vote on the same two
answers; people's own agreement, the ceiling, over all pairs of votes of two people. "Without ties" counts only pairs
where neither chose a tie. The correction for chance is Cohen's kappa and not Gwet's AC1, because AC1 is high for a
judge that always names the favourite, which the correction must expose. Intervals are clustered by prompt.

`_trusted` has the rule, for all votes and for each category. Its comparison with people follows the alternative
annotator test (Calderon et al. 2025, arXiv:2501.10970): can the judge replace one of the voters?
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan, sqrt
from typing import Literal, cast

import numpy as np

Choice = Literal["a", "b", "tie"]
State = Literal["yes", "no", "unknown"]
VOTES, PROMPTS = 30, 20  # below either, nothing is concluded: as for ratings
MARGIN = 0.1  # how much less than a person a judge may agree with people: the paper's ε for non-expert raters
MIN_SHARE = 2 / 3  # without a ceiling: the share of people's decisive votes that the judge must match
_ROUNDING = 1e-9  # a smaller spread is rounding
_CODE = {"a": 0, "b": 1, "tie": 2}


@dataclass(frozen=True)
class LabelledPair:
    """One pair of answers: the judge's verdict and each voter's vote."""

    prompt: Hashable
    category: str | None
    judge: Choice
    votes: tuple[tuple[str, Choice], ...]


@dataclass(frozen=True)
class Rate:
    """An estimate with its 95 % interval; n is the number of compared pairs."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class AltTest:
    """The alternative annotator test: how many voters the judge can replace (arXiv:2501.10970).

    `voters` are those with 30 pairs that others voted on too. For `won` of them, the voter is shown to be no better
    than the judge by more than the margin, at a false discovery rate of 5 %. `advantage` is the mean probability that
    the judge is at least as close to the other voters as this voter is. The judge passes by winning half of them.
    """

    voters: int
    won: int
    advantage: float

    @property
    def passed(self) -> bool:
        """Whether the judge can replace at least half of the voters."""
        return 2 * self.won >= self.voters


@dataclass(frozen=True)
class HumanAgreement:
    """A judge's agreement with people over all votes (`category` None) or one category's.

    `people` and `people_without_ties` are people's agreement with each other, `people_kappa` their kappa; None if no
    pair has two voters. `gap` is how much more often the judge agrees with a voter than another voter does.
    """

    category: str | None
    pairs: int
    votes: int
    prompts: int
    voters: int
    with_ties: Rate
    without_ties: Rate | None
    kappa: Rate | None
    people: Rate | None
    people_without_ties: Rate | None
    people_kappa: Rate | None
    gap: Rate | None
    alt_test: AltTest | None
    trusted: State
    why: str


def agreement_by_category(labelled: Sequence[LabelledPair]) -> tuple[HumanAgreement, ...]:
    """All pairs first, then each category, those with most votes first; empty if there are no votes."""
    labelled = [pair for pair in labelled if pair.votes]
    if not labelled:
        return ()
    by_category: dict[str, list[LabelledPair]] = {}
    for pair in labelled:
        if pair.category is not None:
            by_category.setdefault(pair.category, []).append(pair)
    ranked = sorted(by_category.items(), key=lambda item: (-sum(len(pair.votes) for pair in item[1]), item[0]))
    return (human_agreement(labelled, None), *(human_agreement(pairs, category) for category, pairs in ranked))


def human_agreement(labelled: Sequence[LabelledPair], category: str | None) -> HumanAgreement:
    """The agreement over these pairs; there is at least one vote."""
    judged = [(pair.judge, choice, pair.prompt) for pair in labelled for _, choice in pair.votes]
    human = [
        (first, second, pair.prompt)
        for pair in labelled
        for i, (_, first) in enumerate(pair.votes)
        for j, (_, second) in enumerate(pair.votes)
        if i != j  # both ways round, so that kappa's two sides are the same people
    ]
    agreement = HumanAgreement(
        category=category,
        pairs=len(labelled),
        votes=len(judged),
        prompts=len({pair.prompt for pair in labelled}),
        voters=len({voter for pair in labelled for voter, _ in pair.votes}),
        with_ties=cast(Rate, _agreement(judged)),
        without_ties=_agreement(_decisive(judged)),
        kappa=kappa(judged),
        people=_halved(_agreement(human)),
        people_without_ties=_halved(_agreement(_decisive(human))),
        people_kappa=_halved(kappa(human)),
        gap=_gap(labelled),
        alt_test=_alt_test(labelled),
        trusted="unknown",
        why="",
    )
    state, why = _trusted(agreement)
    return replace(agreement, trusted=state, why=why)


def _trusted(agreement: HumanAgreement) -> tuple[State, str]:
    """The rule: the first of these that decides, and the reason.

    1. Under 30 votes or 20 prompts: unknown.
    2. Kappa must be above chance: if its interval reaches 0, unknown; if it lies below 0, no.
    3. With a second voter on 30 votes and 20 prompts: yes if the judge agrees with people at most 10 points less
       than they do with each other (the interval's lower end), and passes the alternative annotator test if there
       are three voters; no if it agrees over 10 points less (the upper end); otherwise unknown.
    4. Without: yes if the judge matches at least two thirds of people's decisive votes (the lower end), no if
       it matches fewer (the upper end), otherwise unknown.
    """
    if agreement.votes < VOTES or agreement.prompts < PROMPTS:
        return (
            "unknown",
            f"{agreement.votes} votes on {agreement.prompts} prompts; at least {VOTES} votes on {PROMPTS} are needed",
        )
    if agreement.kappa is None or agreement.kappa.low <= 0:
        worse = agreement.kappa is not None and agreement.kappa.high <= 0
        return ("no" if worse else "unknown"), "its agreement with people may be chance"
    if agreement.gap is not None:
        span = f"{100 * agreement.gap.low:+.0f} to {100 * agreement.gap.high:+.0f} points".replace("-", "−")
        gap = f"its agreement with people differs from people's agreement with each other by {span}"
        if agreement.gap.high < -MARGIN:
            return "no", f"{gap}, which is too low"
        if agreement.gap.low < -MARGIN:
            return "unknown", f"{gap}; more votes are needed"
        if agreement.alt_test and not agreement.alt_test.passed:
            return (
                "unknown",
                f"{gap}, but it can replace only {agreement.alt_test.won} of {agreement.alt_test.voters} voters",
            )
        return "yes", gap
    if agreement.without_ties is None:
        return "unknown", "there is no pair on which both the judge and a voter chose a side"
    share = f"{agreement.without_ties.low:.0%} to {agreement.without_ties.high:.0%} of people's decisive votes"
    if agreement.without_ties.low >= MIN_SHARE:
        return "yes", f"it matches {share}; too few pairs have two voters to compare it with people"
    if agreement.without_ties.high < MIN_SHARE:
        return "no", f"it matches {share}"
    return "unknown", f"it matches {share}; more votes are needed"


def describe_trust(judge: str, groups: Sequence[HumanAgreement]) -> str:
    """What the judge can be trusted for, in one paragraph."""
    if not groups:
        return f"Nobody has voted on pairs that {judge} judged, so it is not known whether to trust it."
    whole, *categories = groups
    sentences = []
    for state, start in (("yes", "Trust"), ("no", "Do not trust"), ("unknown", "It is not known whether to trust")):
        names = [str(group.category) for group in categories if group.trusted == state]
        if names:
            sentences.append(f"{start} {judge} for {_listed(names)}.")
    overall = {
        "yes": f"Overall, {judge} can be trusted",
        "no": f"Overall, {judge} cannot be trusted",
        "unknown": f"Overall, it is not known whether {judge} can be trusted",
    }[whole.trusted]
    sentences.append(f"{overall}: {whole.why}.")
    agrees = f"It agrees with {_percent(whole.with_ties)} of {whole.votes} votes"
    if whole.without_ties:
        agrees += f", and with {_percent(whole.without_ties)} of those where neither side chose a tie"
    if whole.people:
        agrees += f"; people agree with each other in {_percent(whole.people)}"
        if whole.people_without_ties:
            agrees += f" and {_percent(whole.people_without_ties)}"
    return " ".join([*sentences, f"{agrees}."])


def _percent(rate: Rate) -> str:
    return f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _decisive(compared: Sequence[tuple[str, str, Hashable]]) -> list[tuple[str, str, Hashable]]:
    return [row for row in compared if "tie" not in row[:2]]


def _agreement(compared: Sequence[tuple[str, str, Hashable]]) -> Rate | None:
    from evals.intervals import share_interval

    if not compared:
        return None
    estimate = share_interval(
        [float(first == second) for first, second, _ in compared], [prompt for *_, prompt in compared]
    )
    return Rate(estimate.mean, estimate.low, estimate.high, estimate.n)


def _halved(rate: Rate | None) -> Rate | None:
    """A rate over pairs of people, each of which was counted in both directions."""
    return rate and Rate(rate.value, rate.low, rate.high, rate.n // 2)


def kappa(compared: Sequence[tuple[str, str, Hashable]]) -> Rate | None:
    """Cohen's kappa over a, b and tie, from (one side's choice, the other's, prompt).

    The interval is Student's t times the delete-one-prompt jackknife's error. None if both sides have one value
    only.
    """
    from scipy.stats import t as student

    tables: dict[Hashable, np.ndarray] = {}
    for first, second, prompt in compared:
        tables.setdefault(prompt, np.zeros((3, 3)))[_CODE[first], _CODE[second]] += 1
    whole = sum(tables.values(), np.zeros((3, 3)))
    value = _cohen(whole)
    if isnan(value):
        return None
    n = len(tables)
    jackknife = np.array([_cohen(whole - table) for table in tables.values()])
    if n < 2 or np.isnan(jackknife).any():
        return Rate(value, -1.0, 1.0, len(compared))
    error = sqrt((n - 1) / n * float(((jackknife - jackknife.mean()) ** 2).sum()))
    # If every prompt agrees there is no spread; the rule of three bounds what may have been missed.
    width = float(student.ppf(0.975, n - 1)) * error if error > _ROUNDING else 3 / n
    return Rate(value, max(-1.0, value - width), min(1.0, value + width), len(compared))


def _cohen(table: np.ndarray) -> float:
    """Kappa of a (3, 3) table of counts; NaN if it is empty, or if both sides have one value only."""
    total = float(table.sum())
    if total == 0:
        return nan
    by_chance = float(table.sum(0) @ table.sum(1)) / total**2
    return (float(np.trace(table)) / total - by_chance) / (1 - by_chance) if by_chance < 1 else nan


def _gap(labelled: Sequence[LabelledPair]) -> Rate | None:
    from evals.intervals import mean_interval

    values, prompts = [], []
    for pair in labelled:
        choices = [choice for _, choice in pair.votes]
        for i, choice in enumerate(choices):
            others = choices[:i] + choices[i + 1 :]
            if others:
                values.append(float(pair.judge == choice) - others.count(choice) / len(others))
                prompts.append(pair.prompt)
    if len(values) < VOTES or len(set(prompts)) < PROMPTS:
        return None
    estimate = mean_interval(values, prompts)
    spread = estimate.high - estimate.mean
    width = spread if spread > _ROUNDING else 3 / estimate.clusters
    return Rate(estimate.mean, estimate.mean - width, estimate.mean + width, estimate.n)


def _alt_test(labelled: Sequence[LabelledPair]) -> AltTest | None:
    """The test with agreement as the score; None with fewer than three voters of 30 shared pairs."""
    from scipy.stats import t as student

    from evals.intervals import mean_interval

    by_voter: dict[str, list[tuple[float, float, Hashable]]] = {}
    for pair in labelled:
        counts = Counter(choice for _, choice in pair.votes)
        for voter, choice in pair.votes if len(pair.votes) > 1 else ():
            others = len(pair.votes) - 1
            person = (counts[choice] - 1) / others
            judge = (counts[pair.judge] - (pair.judge == choice)) / others
            by_voter.setdefault(voter, []).append((float(judge >= person), float(person >= judge), pair.prompt))
    eligible = {voter: rows for voter, rows in by_voter.items() if len(rows) >= VOTES}
    if len(eligible) < 3:
        return None
    p_values = []
    for rows in eligible.values():
        prompts = [prompt for *_, prompt in rows]
        estimate = mean_interval([person - judge for judge, person, _ in rows], prompts)
        spread = estimate.high - estimate.mean
        if spread == inf:
            p_values.append(1.0)
        elif spread <= _ROUNDING:
            p_values.append(float(estimate.mean >= MARGIN))
        else:
            freedom = estimate.clusters - 1
            error = spread / float(student.ppf(0.975, freedom))
            p_values.append(float(student.cdf((estimate.mean - MARGIN) / error, freedom)))
    advantage = sum(sum(judge for judge, *_ in rows) / len(rows) for rows in eligible.values()) / len(eligible)
    return AltTest(len(eligible), _discoveries(p_values), advantage)


def _discoveries(p_values: Sequence[float], rate: float = 0.05) -> int:
    """How many of these p-values are significant at this false discovery rate (Benjamini and Yekutieli 2001)."""
    m = len(p_values)
    harmonic = sum(1 / i for i in range(1, m + 1))
    below = [i for i, p in enumerate(sorted(p_values), start=1) if p <= i * rate / (m * harmonic)]
    return max(below, default=0)
