"""Statistics of an evaluation: mean scores and paired differences, with clustered intervals. Values in, values out.

Two models are compared sample by sample (Miller 2024, arXiv:2411.00640), on samples that both answered. Many
comparisons produce chance findings, so every difference has a 95 % interval and a wider one, corrected for the number
of comparisons (Bonferroni); the finding follows the wider one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evals.scorers.score_summary import ScoreSummary, summarise, summarise_differences
from evals.tasks.evaluations import Evaluation, Result, ScorerInfo
from evals.tasks.task import TaskSample
from models.errors import Invalid

Finding = Literal["better", "worse", "more", "less", "not clear", "not enough evidence"]
LEVEL = 0.95
MIN_PROMPTS = 20  # prompts (or groups) below which no difference is reported, as for votes
_MIN_SAMPLES_IN_CATEGORY = 2


@dataclass(frozen=True)
class ModelScore:
    """A model's mean under one scorer, over all samples (`category` None) or one category's."""

    model: str
    scorer: str
    category: str | None
    summary: ScoreSummary


@dataclass(frozen=True)
class ModelCounts:
    """The outcomes of a model's samples: failed ones have an error, cut ones ended at max_tokens."""

    model: str
    answered: int
    failed: int
    cut: int
    errors: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Overview:
    """An evaluation's means, counts and errors."""

    scores: tuple[ModelScore, ...]
    facts: tuple[ModelCounts, ...]
    categories: tuple[str, ...]
    scorer_errors: tuple[tuple[str, str, int], ...]

    def of(self, model: str, scorer: str, category: str | None = None) -> ScoreSummary:
        """One model's mean under one scorer, overall or in a category."""
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

    `wide` has the interval for the number of comparisons made; `finding` compares b with a by it.
    """

    model_a: str
    model_b: str
    facts: ScorerInfo
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
    """A sample whose scores differ. `drop` is how much worse b is, in the scorer's unit; negative if b is better."""

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
    """Comparisons made together. `regressions` are samples on which b is worse, the largest drop first."""

    differences: tuple[Difference, ...]
    comparisons: int
    regressions: tuple[Change, ...]
    improvements: int

    @property
    def summary(self) -> str:
        """The number of comparisons, and what that means for the findings."""
        if self.comparisons == 0:
            return f"No comparison has {MIN_PROMPTS} prompts or more, so there is not enough evidence for a difference."
        if self.comparisons == 1:
            return "One comparison was made, with a 95 % interval."
        return (
            f"{self.comparisons} comparisons were made; about {self.comparisons * (1 - LEVEL):.1f} of them would look "
            "real by chance alone. The findings use intervals that are widened for that."
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
            for key in result.score_errors.items():
                errors[key] = errors.get(key, 0) + 1
    return Overview(
        scores=scores,
        facts=tuple(_counts(model, evaluation.results[model]) for model in evaluation.models),
        categories=categories,
        scorer_errors=tuple((name, error, count) for (name, error), count in sorted(errors.items())),
    )


def diff(pairs: Sequence[tuple[Side, Side]]) -> Diff:
    """Compares each pair (b with a) under every scorer that both have, overall and by category.

    Raises:
        Invalid: two sides have different tasks, are the same, or share no scorer.
    """
    comparisons = [
        (a, b, scorer, category)
        for a, b in pairs
        for scorer in _shared_scorers(a, b)
        for category in (None, *_categories(a.evaluation))
    ]
    values = [_paired(a, b, scorer.name, category) for a, b, scorer, category in comparisons]
    # A comparison on too few prompts gets no finding, so it does not count for the correction.
    counted = sum(_enough(paired) for paired in values)
    differences = tuple(
        _difference((a, b), scorer, category, paired, counted)
        for (a, b, scorer, category), paired in zip(comparisons, values, strict=True)
    )
    changes = [change for a, b in pairs for scorer in _shared_scorers(a, b) for change in _changes(a, b, scorer)]
    worse = sorted((change for change in changes if change.drop > 0), key=lambda change: -change.drop)
    return Diff(differences, counted, tuple(worse), sum(change.drop < 0 for change in changes))


def against_first(evaluation: Evaluation, models: Sequence[str] | None = None) -> list[tuple[Side, Side]]:
    """The first model paired with each other one.

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


def _mean(evaluation: Evaluation, model: str, scorer: ScorerInfo, category: str | None) -> ScoreSummary:
    rows = [
        (sample.sample.prompt, result.scores.get(scorer.name))
        for sample, result in zip(evaluation.samples, evaluation.results[model], strict=True)
        if _inside(sample, category)
    ]
    scored = [(key, value) for key, value in rows if value is not None]
    start, span = _range(scorer, evaluation) or (0.0, 1.0)
    values = [(value - start) / span for _, value in scored]
    shares = _range(scorer, evaluation) is not None
    summary = _scaled(summarise(values, [key for key, _ in scored], len(rows), shares=shares), start, span)
    if summary.low is None or scorer.low is None:
        return summary
    return replace(summary, low=max(summary.low, scorer.low))  # such as a time, which is never negative


def _scaled(summary: ScoreSummary, start: float, span: float) -> ScoreSummary:
    mean, low, high = (None if end is None else start + span * end for end in (summary.mean, summary.low, summary.high))
    return replace(summary, mean=mean, low=low, high=high)


def _range(scorer: ScorerInfo, *evaluations: Evaluation) -> tuple[float, float] | None:
    """The lowest score and the width of the range, which scale scores to shares and bound their intervals.

    None for a scorer without bounds; a user's own scorer counts as 0 to 1 if all its scores lie there.
    """
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


def _counts(model: str, results: Sequence[Result]) -> ModelCounts:
    errors: dict[str, int] = {}
    for result in results:
        if result.error is not None:
            errors[result.error] = errors.get(result.error, 0) + 1
    failed = sum(errors.values())
    return ModelCounts(
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
    # A single category over all samples would repeat the whole.
    names = sorted(name for name, count in counts.items() if count >= _MIN_SAMPLES_IN_CATEGORY)
    whole = len(counts) == 1 and sum(counts.values()) == len(evaluation.samples)
    return ([] if whole else names) + list(_turns(evaluation))


def _turns(evaluation: Evaluation) -> tuple[str, ...]:
    """The turns as category names; none if no conversation has two."""
    turns = sorted({sample.turn for sample in evaluation.samples})
    return tuple(f"turn {turn}" for turn in turns) if len(turns) > 1 else ()


def _inside(sample: TaskSample, category: str | None) -> bool:
    return category is None or category in (sample.sample.category, f"turn {sample.turn}")


def _shared_scorers(a: Side, b: Side) -> list[ScorerInfo]:
    if a.evaluation.task_hash != b.evaluation.task_hash:
        raise Invalid(
            f"{a.evaluation.task} ({a.evaluation.task_hash[:8]}) and {b.evaluation.task} "
            f"({b.evaluation.task_hash[:8]}) are different tasks: run both models on one of them.",
            param="evaluation",
        )
    if (a.evaluation.id, a.model) == (b.evaluation.id, b.model):
        raise Invalid("Name two different models, or two different evaluations.", param="models")
    names = {scorer.name for scorer in b.evaluation.scorers}
    shared = [scorer for scorer in a.evaluation.scorers if scorer.name in names and not scorer.part]
    if not shared:
        raise Invalid(
            "The two evaluations have no scorer in common: run one again with a scorer of the other.", param="scorers"
        )
    return shared


def _paired(a: Side, b: Side, scorer: str, category: str | None) -> list[tuple[str, float]]:
    """(cluster, b's score minus a's) for the samples that both have a score of."""
    rows = zip(a.evaluation.samples, a.evaluation.results[a.model], b.evaluation.results[b.model], strict=True)
    return [
        (sample.sample.prompt, after - before)
        for sample, result_a, result_b in rows
        if _inside(sample, category)
        and (before := result_a.scores.get(scorer)) is not None
        and (after := result_b.scores.get(scorer)) is not None
    ]


def _difference(
    sides: tuple[Side, Side],
    scorer: ScorerInfo,
    category: str | None,
    paired: list[tuple[str, float]],
    comparisons: int,
) -> Difference:
    a, b = sides
    total = sum(_inside(sample, category) for sample in a.evaluation.samples)
    bounds = _range(scorer, a.evaluation, b.evaluation)
    span = bounds[1] if bounds else 1.0
    keys, values = [key for key, _ in paired], [value / span for _, value in paired]
    summary, wide = (
        _scaled(summarise_differences(values, keys, total, shares=bounds is not None, level=level), 0.0, span)
        for level in (LEVEL, 1 - (1 - LEVEL) / max(1, comparisons))
    )
    finding = _finding(scorer, wide) if _enough(paired) else "not enough evidence"
    return Difference(a.model, b.model, scorer, category, summary, wide, finding)


def _enough(paired: list[tuple[str, float]]) -> bool:
    return len({key for key, _ in paired}) >= MIN_PROMPTS


def _finding(scorer: ScorerInfo, wide: ScoreSummary) -> Finding:
    if wide.low is None or wide.high is None or wide.low <= 0 <= wide.high:
        return "not clear"
    up = wide.low > 0
    if scorer.better == "neither":
        return "more" if up else "less"
    return "better" if up == (scorer.better == "higher") else "worse"


def _changes(a: Side, b: Side, scorer: ScorerInfo) -> list[Change]:
    measured = scorer.low is not None and scorer.high is None  # latency and cost always differ a little
    if scorer.better == "neither" or measured:
        return []
    sign = 1 if scorer.better == "higher" else -1
    rows = zip(a.evaluation.samples, a.evaluation.results[a.model], b.evaluation.results[b.model], strict=True)
    return [
        Change(
            a.model, b.model, scorer.name, sample, before, after, result_a.text or "", result_b.text or "",
            sign * (before - after),
        )
        for sample, result_a, result_b in rows
        if (before := result_a.scores.get(scorer.name)) is not None
        and (after := result_b.scores.get(scorer.name)) is not None
        and before != after
    ]  # fmt: skip
