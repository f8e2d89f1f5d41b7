"""What an evaluation says: each model's mean scores, and paired differences, all with clustered intervals. Pure.

Two models are compared sample by sample (Miller 2024, arXiv:2411.00640), and only on samples that both answered. The
more comparisons, the more of them look real by chance: every difference has its 95 % interval and a wider one,
Bonferroni's for the number of comparisons made together, and the words follow the wider one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from evals.scorers.score_summary import ScoreSummary, summarise, summarise_differences
from evals.tasks.evaluations import Evaluation, Result, ScorerFacts
from evals.tasks.task import TaskSample
from models.errors import Invalid

Finding = Literal["better", "worse", "more", "less", "not clear", "not enough evidence"]
LEVEL = 0.95
FEWEST = 20  # prompts (or groups) under which no difference is called one, as for votes
_FEWEST_IN_CATEGORY = 2


@dataclass(frozen=True)
class ModelScore:
    """A model's mean under one scorer, over all samples (`category` None) or one category's."""

    model: str
    scorer: str
    category: str | None
    summary: ScoreSummary


@dataclass(frozen=True)
class ModelFacts:
    """What became of a model's samples: failed ones have an error, cut ones ended at max_tokens."""

    model: str
    answered: int
    failed: int
    cut: int
    errors: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Overview:
    """An evaluation in numbers."""

    scores: tuple[ModelScore, ...]
    facts: tuple[ModelFacts, ...]
    categories: tuple[str, ...]
    scorer_errors: tuple[tuple[str, str, int], ...]

    def of(self, model: str, scorer: str, category: str | None = None) -> ScoreSummary:
        """One cell of the table."""
        return next(
            row.summary for row in self.scores if (row.model, row.scorer, row.category) == (model, scorer, category)
        )


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a model in an evaluation."""

    evaluation: Evaluation
    model: str


@dataclass(frozen=True)
class Difference:
    """Model b's mean score minus a's over the samples that both answered.

    `wide` has the interval for the number of comparisons made; `finding` says what b is against a by it.
    """

    model_a: str
    model_b: str
    facts: ScorerFacts
    category: str | None
    summary: ScoreSummary
    wide: ScoreSummary
    finding: Finding

    @property
    def scorer(self) -> str:
        """The scorer's name."""
        return self.facts.name


@dataclass(frozen=True)
class Change:
    """A sample on which b's score is not a's. `drop` is how much b lost, in the scorer's own unit; negative: gained."""

    model_a: str
    model_b: str
    scorer: str
    sample: TaskSample
    score_a: float
    score_b: float
    text_a: str
    text_b: str
    drop: float


@dataclass(frozen=True)
class Diff:
    """Comparisons that were made together. `regressions` are b's losses, the largest first."""

    differences: tuple[Difference, ...]
    comparisons: int
    regressions: tuple[Change, ...]
    improvements: int

    @property
    def words(self) -> str:
        """How many comparisons there were, and what that means."""
        if self.comparisons == 0:
            return f"No comparison rests on {FEWEST} prompts or more: not enough evidence to call a difference one."
        if self.comparisons == 1:
            return "One comparison was made; its interval is 95 %."
        return (
            f"{self.comparisons} comparisons were made: at 95 % each, about {self.comparisons * (1 - LEVEL):.1f} would "
            f"look real by chance alone. The words follow intervals widened for that (Bonferroni, "
            f"{100 - 100 * (1 - LEVEL) / self.comparisons:.2f} %)."
        )


def overview(evaluation: Evaluation) -> Overview:
    """All means with their intervals, overall and by category, and what failed."""
    categories = tuple(sorted({sample.sample.category for sample in evaluation.samples if sample.sample.category}))
    categories += _turns(evaluation)
    scores = tuple(
        ModelScore(model, scorer.name, category, _mean(evaluation, model, scorer, category))
        for scorer in evaluation.scorers
        for category in (None, *categories)
        for model in evaluation.models
    )
    errors: dict[tuple[str, str], int] = {}
    for results in evaluation.results.values():
        for result in results:
            for found in result.score_errors.items():
                errors[found] = errors.get(found, 0) + 1
    return Overview(
        scores=scores,
        facts=tuple(_facts(model, evaluation.results[model]) for model in evaluation.models),
        categories=categories,
        scorer_errors=tuple((name, said, count) for (name, said), count in sorted(errors.items())),
    )


def diff(pairs: Sequence[tuple[Side, Side]]) -> Diff:
    """Compares each pair, a first, under every scorer that both have, overall and by category.

    Raises:
        Invalid: two sides are of tasks that differ, are one and the same, or share no scorer.
    """
    made = [
        (a, b, scorer, category)
        for a, b in pairs
        for scorer in _shared_scorers(a, b)
        for category in (None, *_categories(a.evaluation))
    ]
    values = [_paired(a, b, scorer.name, category) for a, b, scorer, category in made]
    # What rests on too little gets no verdict, so that chance cannot turn it into one: it is not counted.
    counted = sum(_enough(found) for found in values)
    differences = tuple(
        _difference(a, b, scorer, category, found, counted)
        for (a, b, scorer, category), found in zip(made, values, strict=True)
    )
    changes = [change for a, b in pairs for scorer in _shared_scorers(a, b) for change in _changes(a, b, scorer)]
    worse = sorted((change for change in changes if change.drop > 0), key=lambda change: -change.drop)
    return Diff(differences, counted, tuple(worse), sum(change.drop < 0 for change in changes))


def against_first(evaluation: Evaluation, models: Sequence[str] | None = None) -> list[tuple[Side, Side]]:
    """The first model against each other one.

    Raises:
        Invalid: a model is not in the evaluation.
    """
    chosen = list(models or evaluation.models)
    for model in chosen:
        if model not in evaluation.models:
            raise Invalid(
                f"{model!r} is not in this evaluation: it has {', '.join(evaluation.models)}.", param="models"
            )
    return [(Side(evaluation, chosen[0]), Side(evaluation, model)) for model in chosen[1:]]


def overview_json(evaluation: Evaluation, found: Overview, compared: Diff | None = None) -> dict[str, Any]:
    """Everything but the answers, as plain JSON values."""
    return {
        "id": evaluation.id,
        "task": evaluation.task,
        "task_hash": evaluation.task_hash,
        "source": evaluation.source,
        "samples": len(evaluation.samples),
        "left_out": evaluation.left_out,
        "models": list(evaluation.models),
        "parameters": dict(evaluation.parameters),
        "notes": list(evaluation.notes),
        "created": evaluation.created.isoformat(),
        "finished": evaluation.finished.isoformat() if evaluation.finished else None,
        "scorers": [vars(scorer) for scorer in evaluation.scorers],
        "scores": [
            {"model": row.model, "scorer": row.scorer, "category": row.category} | row.summary.to_json()
            for row in found.scores
        ],
        "answers": [vars(facts) | {"errors": dict(facts.errors)} for facts in found.facts],
        "scorer_errors": [
            {"scorer": name, "error": said, "samples": count} for name, said, count in found.scorer_errors
        ],
        "diff": diff_json(compared) if compared else None,
    }


def diff_json(compared: Diff) -> dict[str, Any]:
    """The comparisons and the regressions as plain JSON values."""
    return {
        "comparisons": compared.comparisons,
        "differences": [
            {
                "model_a": row.model_a,
                "model_b": row.model_b,
                "scorer": row.scorer,
                "category": row.category,
                "finding": row.finding,
                **row.summary.to_json(),
                "wide_low": row.wide.low,
                "wide_high": row.wide.high,
            }
            for row in compared.differences
        ],
        "improvements": compared.improvements,
        "regressions": [
            {
                "model_a": row.model_a,
                "model_b": row.model_b,
                "scorer": row.scorer,
                "sample": row.sample.to_json(),
                "score_a": row.score_a,
                "score_b": row.score_b,
                "answer_a": row.text_a,
                "answer_b": row.text_b,
            }
            for row in compared.regressions
        ],
    }


def _mean(evaluation: Evaluation, model: str, scorer: ScorerFacts, category: str | None) -> ScoreSummary:
    rows = [
        (sample.sample.prompt, result.scores.get(scorer.name))
        for sample, result in zip(evaluation.samples, evaluation.results[model], strict=True)
        if _inside(sample, category)
    ]
    there = [(key, value) for key, value in rows if value is not None]
    start, span = _range(scorer, evaluation) or (0.0, 1.0)
    values = [(value - start) / span for _, value in there]
    shares = _range(scorer, evaluation) is not None
    found = _scaled(summarise(values, [key for key, _ in there], len(rows), shares=shares), start, span)
    if found.low is None or scorer.low is None:
        return found
    return replace(found, low=max(found.low, scorer.low))  # no answer takes less than no time


def _scaled(found: ScoreSummary, start: float, span: float) -> ScoreSummary:
    mean, low, high = (None if end is None else start + span * end for end in (found.mean, found.low, found.high))
    return replace(found, mean=mean, low=low, high=high)


def _range(scorer: ScorerFacts, *evaluations: Evaluation) -> tuple[float, float] | None:
    """Where the scores begin, and how far they reach: on that scale they are shares, and an interval ends where they
    do. None for a scorer without bounds; one's own counts as from 0 to 1 where all its scores lie there."""
    if scorer.low is not None and scorer.high is not None:
        return scorer.low, scorer.high - scorer.low
    if scorer.low is not None or scorer.high is not None:
        return None
    values = (
        result.scores.get(scorer.name)
        for evaluation in evaluations
        for results in evaluation.results.values()
        for result in results
    )
    return (0.0, 1.0) if all(0 <= value <= 1 for value in values if value is not None) else None


def _facts(model: str, results: Sequence[Result]) -> ModelFacts:
    errors: dict[str, int] = {}
    for result in results:
        if result.error is not None:
            errors[result.error] = errors.get(result.error, 0) + 1
    failed = sum(errors.values())
    return ModelFacts(
        model=model,
        answered=len(results) - failed,
        failed=failed,
        cut=sum(result.finish_reason == "length" for result in results),
        errors=tuple(sorted(errors.items(), key=lambda item: -item[1])),
    )


def _categories(evaluation: Evaluation) -> list[str]:
    counts: dict[str, int] = {}
    for sample in evaluation.samples:
        if sample.sample.category:
            counts[sample.sample.category] = counts.get(sample.sample.category, 0) + 1
    # One category over everything is the whole again.
    found = sorted(name for name, count in counts.items() if count >= _FEWEST_IN_CATEGORY)
    whole = len(counts) == 1 and sum(counts.values()) == len(evaluation.samples)
    return ([] if whole else found) + list(_turns(evaluation))


def _turns(evaluation: Evaluation) -> tuple[str, ...]:
    """The turns, named as categories are; none where no conversation has two."""
    turns = sorted({sample.turn for sample in evaluation.samples})
    return tuple(f"turn {turn}" for turn in turns) if len(turns) > 1 else ()


def _inside(sample: TaskSample, category: str | None) -> bool:
    return category is None or category in (sample.sample.category, f"turn {sample.turn}")


def _shared_scorers(a: Side, b: Side) -> list[ScorerFacts]:
    if a.evaluation.task_hash != b.evaluation.task_hash:
        raise Invalid(
            f"{a.evaluation.task} ({a.evaluation.task_hash[:8]}) and {b.evaluation.task} "
            f"({b.evaluation.task_hash[:8]}) are tasks that differ: run both models on one of them.",
            param="evaluation",
        )
    if (a.evaluation.id, a.model) == (b.evaluation.id, b.model):
        raise Invalid("Name two models, or two evaluations, that differ.", param="models")
    theirs = {scorer.name for scorer in b.evaluation.scorers}
    shared = [scorer for scorer in a.evaluation.scorers if scorer.name in theirs and not scorer.part]
    if not shared:
        raise Invalid("The two evaluations have no scorer in common: run one again with the other's.", param="scorers")
    return shared


def _paired(a: Side, b: Side, scorer: str, category: str | None) -> list[tuple[str, float]]:
    """(cluster, b's score minus a's) for the samples that both have a score of."""
    rows = zip(a.evaluation.samples, a.evaluation.results[a.model], b.evaluation.results[b.model], strict=True)
    return [
        (sample.sample.prompt, after - before)
        for sample, one, other in rows
        if _inside(sample, category)
        and (before := one.scores.get(scorer)) is not None
        and (after := other.scores.get(scorer)) is not None
    ]


def _difference(
    a: Side, b: Side, scorer: ScorerFacts, category: str | None, found: list[tuple[str, float]], comparisons: int
) -> Difference:
    total = sum(_inside(sample, category) for sample in a.evaluation.samples)
    bounds = _range(scorer, a.evaluation, b.evaluation)
    span = bounds[1] if bounds else 1.0
    keys, values = [key for key, _ in found], [value / span for _, value in found]
    summary, wide = (
        _scaled(summarise_differences(values, keys, total, shares=bounds is not None, level=level), 0.0, span)
        for level in (LEVEL, 1 - (1 - LEVEL) / max(1, comparisons))
    )
    finding = _finding(scorer, wide) if _enough(found) else "not enough evidence"
    return Difference(a.model, b.model, scorer, category, summary, wide, finding)


def _enough(found: list[tuple[str, float]]) -> bool:
    return len({key for key, _ in found}) >= FEWEST


def _finding(scorer: ScorerFacts, wide: ScoreSummary) -> Finding:
    if wide.low is None or wide.high is None or wide.low <= 0 <= wide.high:
        return "not clear"
    up = wide.low > 0
    if scorer.better == "neither":
        return "more" if up else "less"
    return "better" if up == (scorer.better == "higher") else "worse"


def _changes(a: Side, b: Side, scorer: ScorerFacts) -> list[Change]:
    measured = scorer.low is not None and scorer.high is None  # latency and cost: they always differ a little
    if scorer.better == "neither" or measured:
        return []
    sign = 1 if scorer.better == "higher" else -1
    rows = zip(a.evaluation.samples, a.evaluation.results[a.model], b.evaluation.results[b.model], strict=True)
    return [
        Change(
            a.model, b.model, scorer.name, sample, before, after, one.text or "", other.text or "",
            sign * (before - after),
        )
        for sample, one, other in rows
        if (before := one.scores.get(scorer.name)) is not None
        and (after := other.scores.get(scorer.name)) is not None
        and before != after
    ]  # fmt: skip
