"""How far a judge agrees with people, and for what it may therefore be trusted. Opinions in, frozen results out.

Agreement is that of Zheng et al. 2023 (arXiv:2306.05685): over all pairs of one verdict and one vote on the same two
answers; people's own, the ceiling, over all pairs of votes of two people. Without ties, only pairs where neither says
tie count. It is corrected for chance by Cohen's kappa and not by Gwet's AC1: AC1 is high for a judge that always names
the favourite, and to see through that judge is what the correction is for here. Intervals are clustered by prompt.

The rule, for all votes and for each category, is in `_trusted`. Its test against people is the question of the
alternative annotator test (Calderon et al. 2025, arXiv:2501.10970): may the judge stand in for one of the voters?
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan, sqrt
from typing import Literal, cast

import numpy as np

Choice = Literal["a", "b", "tie"]
State = Literal["yes", "no", "unknown"]
VOTES, PROMPTS = 30, 20  # below either, nothing is said: as for ratings
MARGIN = 0.1  # how much less than a person a judge may agree with people: the paper's ε for raters who are no experts
ALONE = 2 / 3  # without a ceiling: the share of people's decisive votes that a judge must share at least
_NOTHING = 1e-9  # below this a spread is rounding
_CODE = {"a": 0, "b": 1, "tie": 2}


@dataclass(frozen=True)
class Opinion:
    """One pair of answers: what the judge says of it, and each voter's one vote."""

    prompt: Hashable
    category: str | None
    judge: Choice
    votes: tuple[tuple[str, Choice], ...]


@dataclass(frozen=True)
class Rate:
    """An estimate with its 95 % interval; n is the number of compared pairs that it is of."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class AltTest:
    """The alternative annotator test: how many of the voters the judge can stand in for (arXiv:2501.10970).

    `voters` are those with 30 pairs that others voted on too; `won` of them were shown to be no better than the judge
    by more than the margin, at a false discovery rate of 5 %. `advantage` is the mean chance that the judge is at
    least as close to the others as the voter is. The judge passes where it wins half of them.
    """

    voters: int
    won: int
    advantage: float

    @property
    def passed(self) -> bool:
        """Whether the judge may stand in for half of the voters at least."""
        return 2 * self.won >= self.voters


@dataclass(frozen=True)
class Group:
    """A judge against people over some of the votes: all of them (`category` None) or one category's.

    `people` and `people_without_ties` are people against people, `people_kappa` their kappa; None where no pair has
    two voters. `gap` is how much more often the judge agrees with a voter than another voter does, on the same votes.
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


def groups(opinions: Sequence[Opinion]) -> tuple[Group, ...]:
    """All opinions, then each category, those with most votes first; empty where there are no votes."""
    opinions = [opinion for opinion in opinions if opinion.votes]
    if not opinions:
        return ()
    by_category: dict[str, list[Opinion]] = {}
    for opinion in opinions:
        if opinion.category is not None:
            by_category.setdefault(opinion.category, []).append(opinion)
    often = sorted(by_category.items(), key=lambda one: (-sum(len(o.votes) for o in one[1]), one[0]))
    return (group(opinions, None), *(group(found, category) for category, found in often))


def group(opinions: Sequence[Opinion], category: str | None) -> Group:
    """One group's numbers; there is one vote at least."""
    judged = [(o.judge, choice, o.prompt) for o in opinions for _, choice in o.votes]
    human = [
        (one, other, o.prompt)
        for o in opinions
        for i, (_, one) in enumerate(o.votes)
        for j, (_, other) in enumerate(o.votes)
        if i != j  # both ways round, so that kappa's two sides are the same people
    ]
    found = Group(
        category=category,
        pairs=len(opinions),
        votes=len(judged),
        prompts=len({o.prompt for o in opinions}),
        voters=len({voter for o in opinions for voter, _ in o.votes}),
        with_ties=cast(Rate, _agreement(judged)),
        without_ties=_agreement(_decisive(judged)),
        kappa=kappa(judged),
        people=_halved(_agreement(human)),
        people_without_ties=_halved(_agreement(_decisive(human))),
        people_kappa=_halved(kappa(human)),
        gap=_gap(opinions),
        alt_test=_alt_test(opinions),
        trusted="unknown",
        why="",
    )
    state, why = _trusted(found)
    return replace(found, trusted=state, why=why)


def _trusted(found: Group) -> tuple[State, str]:
    """The rule. In this order, and what decides is named:

    1. Under 30 votes or 20 prompts: not known.
    2. Kappa must be above chance: where its interval reaches 0 it is not known, where it lies below, no.
    3. Where 30 votes on 20 prompts have a second voter beside them: yes where the judge agrees with people at most 10
       points less than they do with each other (the interval's lower end; and it wins the alternative annotator test
       where three voters allow it), no where it is more than 10 points (the upper end), else not known.
    4. Where they have not: yes where the judge shares two thirds of people's decisive votes at least (the lower end),
       no where it shares fewer (the upper end), else not known.
    """
    if found.votes < VOTES or found.prompts < PROMPTS:
        return "unknown", f"{found.votes} votes on {found.prompts} prompts; {VOTES} on {PROMPTS} prompts are the least"
    if found.kappa is None or found.kappa.low <= 0:
        worse = found.kappa is not None and found.kappa.high <= 0
        return ("no" if worse else "unknown"), "its agreement with people is not shown to be above chance"
    if found.gap is not None:
        span = f"{100 * found.gap.low:+.0f} to {100 * found.gap.high:+.0f} points".replace("-", "−")
        beside = f"beside people's agreement with each other, its own with them is {span}"
        if found.gap.high < -MARGIN:
            return "no", f"{beside}, too far below"
        if found.gap.low < -MARGIN:
            return "unknown", f"{beside}: more votes will tell"
        if found.alt_test and not found.alt_test.passed:
            return (
                "unknown",
                f"{beside}, but it can stand in for {found.alt_test.won} of {found.alt_test.voters} voters",
            )
        return "yes", beside
    if found.without_ties is None:
        return "unknown", "there is no pair on which both it and a voter are decided"
    share = f"{found.without_ties.low:.0%} to {found.without_ties.high:.0%} of people's decisive votes"
    if found.without_ties.low >= ALONE:
        return "yes", f"it shares {share}; too few pairs have two voters to say what people would"
    if found.without_ties.high < ALONE:
        return "no", f"it shares {share}"
    return "unknown", f"it shares {share}: more votes will tell"


def in_words(judge: str, found: Sequence[Group]) -> str:
    """For what the judge may be trusted, in one paragraph."""
    if not found:
        return f"Nobody has voted on what {judge} has judged: whether to trust it is not known."
    whole, *categories = found
    said = []
    for state, start in (("yes", "Trust"), ("no", "Do not trust"), ("unknown", "It is not known whether to trust")):
        names = [str(one.category) for one in categories if one.trusted == state]
        if names:
            said.append(f"{start} {judge} for {_listed(names)}.")
    over = {
        "yes": f"Over everything, {judge} can be trusted",
        "no": f"Over everything, {judge} is not to be trusted",
        "unknown": f"Over everything, it is not known whether {judge} can be trusted",
    }[whole.trusted]
    said.append(f"{over}: {whole.why}.")
    said.append(f"It agrees with {_told(whole.with_ties)} of {whole.votes} votes, ties and all")
    if whole.without_ties:
        said[-1] += f", and with {_told(whole.without_ties)} where both are decided"
    if whole.people:
        said[-1] += f"; people agree with each other on {_told(whole.people)}"
        if whole.people_without_ties:
            said[-1] += f" and {_told(whole.people_without_ties)}"
    said[-1] += "."
    if whole.kappa:
        said.append(f"Corrected for chance that is a kappa of {whole.kappa.value:.2f}.")
    return " ".join(said)


def _told(rate: Rate) -> str:
    return f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _decisive(compared: Sequence[tuple[str, str, Hashable]]) -> list[tuple[str, str, Hashable]]:
    return [one for one in compared if "tie" not in one[:2]]


def _agreement(compared: Sequence[tuple[str, str, Hashable]]) -> Rate | None:
    from evals.intervals import share_interval

    if not compared:
        return None
    found = share_interval([float(one == other) for one, other, _ in compared], [prompt for *_, prompt in compared])
    return Rate(found.mean, found.low, found.high, found.n)


def _halved(rate: Rate | None) -> Rate | None:
    """A rate over pairs of people that were counted both ways round."""
    return rate and Rate(rate.value, rate.low, rate.high, rate.n // 2)


def kappa(compared: Sequence[tuple[str, str, Hashable]]) -> Rate | None:
    """Cohen's kappa over a, b and tie, from (one side's choice, the other's, prompt).

    The interval is Student's t times the delete-one-prompt jackknife's error. None where both sides say one thing only.
    """
    from scipy.stats import t as student

    tables: dict[Hashable, np.ndarray] = {}
    for one, other, prompt in compared:
        tables.setdefault(prompt, np.zeros((3, 3)))[_CODE[one], _CODE[other]] += 1
    whole = sum(tables.values(), np.zeros((3, 3)))
    value = _cohen(whole)
    if isnan(value):
        return None
    n = len(tables)
    left = np.array([_cohen(whole - table) for table in tables.values()])
    if n < 2 or np.isnan(left).any():
        return Rate(value, -1.0, 1.0, len(compared))
    error = sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
    # Where every prompt agrees there is no spread; then the rule of three says what may have been missed.
    width = float(student.ppf(0.975, n - 1)) * error if error > _NOTHING else 3 / n
    return Rate(value, max(-1.0, value - width), min(1.0, value + width), len(compared))


def _cohen(table: np.ndarray) -> float:
    """Kappa of a (3, 3) table of counts; NaN where it is empty, or both sides say one thing only."""
    total = float(table.sum())
    if total == 0:
        return nan
    by_chance = float(table.sum(0) @ table.sum(1)) / total**2
    return (float(np.trace(table)) / total - by_chance) / (1 - by_chance) if by_chance < 1 else nan


def _gap(opinions: Sequence[Opinion]) -> Rate | None:
    from evals.intervals import mean_interval

    values, prompts = [], []
    for opinion in opinions:
        choices = [choice for _, choice in opinion.votes]
        for i, choice in enumerate(choices):
            others = choices[:i] + choices[i + 1 :]
            if others:
                values.append(float(opinion.judge == choice) - others.count(choice) / len(others))
                prompts.append(opinion.prompt)
    if len(values) < VOTES or len(set(prompts)) < PROMPTS:
        return None
    found = mean_interval(values, prompts)
    spread = found.high - found.mean
    width = spread if spread > _NOTHING else 3 / found.clusters
    return Rate(found.mean, found.mean - width, found.mean + width, found.n)


def _alt_test(opinions: Sequence[Opinion]) -> AltTest | None:
    """The test with agreement as the score; None with fewer than three voters of 30 shared pairs."""
    from scipy.stats import t as student

    from evals.intervals import mean_interval

    by_voter: dict[str, list[tuple[float, float, Hashable]]] = {}
    for opinion in opinions:
        counts = Counter(choice for _, choice in opinion.votes)
        for voter, choice in opinion.votes if len(opinion.votes) > 1 else ():
            others = len(opinion.votes) - 1
            person = (counts[choice] - 1) / others
            judge = (counts[opinion.judge] - (opinion.judge == choice)) / others
            by_voter.setdefault(voter, []).append((float(judge >= person), float(person >= judge), opinion.prompt))
    able = {voter: rows for voter, rows in by_voter.items() if len(rows) >= VOTES}
    if len(able) < 3:
        return None
    chances = []
    for rows in able.values():
        prompts = [prompt for *_, prompt in rows]
        found = mean_interval([person - judge for judge, person, _ in rows], prompts)
        spread = found.high - found.mean
        if spread == inf:
            chances.append(1.0)
        elif spread <= _NOTHING:
            chances.append(float(found.mean >= MARGIN))
        else:
            freedom = found.clusters - 1
            error = spread / float(student.ppf(0.975, freedom))
            chances.append(float(student.cdf((found.mean - MARGIN) / error, freedom)))
    advantage = sum(sum(judge for judge, *_ in rows) / len(rows) for rows in able.values()) / len(able)
    return AltTest(len(able), _discoveries(chances), advantage)


def _discoveries(chances: Sequence[float], rate: float = 0.05) -> int:
    """How many of these p-values stand at this false discovery rate (Benjamini and Yekutieli 2001)."""
    m = len(chances)
    harmonic = sum(1 / i for i in range(1, m + 1))
    below = [i for i, chance in enumerate(sorted(chances), start=1) if chance <= i * rate / (m * harmonic)]
    return max(below, default=0)
