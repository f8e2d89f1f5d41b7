"""A served model as a judge of one answer at a time: 1 to 5, constrained JSON, resumable.

For comparing two models `evals.judges.pairwise` is the better instrument; grades are for watching one model, and for
more than two. What does not parse is counted, never a default grade.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evals.judges.answer_pairs import AnsweredPair, answered_pairs, pick_prompts
from evals.judges.judge import ALONE, Instrument, Said, Shown, mean_scores, verdicts
from evals.judges.rubric import keep_rubric
from evals.request_pool import CONCURRENCY, Report, Steps
from models.database import Database
from models.errors import Invalid
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.messages import Completer


@dataclass(frozen=True)
class Grades:
    """One model's grades: the mean of 1 to 5 with its interval by prompt; None where nothing was graded.

    A grade is the expected one where probabilities came back, and the weighted mean of the criteria where the rubric
    has weights. `weighed` counts those that are not simply the judge's whole number. `notes` are about the judge.
    """

    model: str
    mean: float | None
    low: float
    high: float
    graded: int
    unparsed: int
    scores: Mapping[str, float]
    weighed: int = 0
    notes: tuple[str, ...] = ()


async def grade_models(
    database: Database,
    completer_for: Callable[[str], Completer],
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    rubric: Rubric = DEFAULT_RUBRIC,
    report: Report | None = None,
    *,
    notes: Sequence[str] = (),
    concurrency: int = CONCURRENCY,
    samples: int = 1,
    references: Mapping[str, str] | None = None,
) -> tuple[Grades, Grades]:
    """Has a judge grade two models' answers one by one; the arguments are those of `judging.judge_models`.

    Raises:
        Invalid: the two models are one.
        NotFound: there are no such prompts.
        Unavailable: not one answer, or not one grade, could be had.
    """
    if models[0] == models[1]:
        raise Invalid("Name two models that differ.", param="models")
    instrument = Instrument(judge, completer_for(judge), rubric, samples, references or {})
    chosen = pick_prompts(database, prompts)
    await asyncio.to_thread(keep_rubric, database, rubric)
    steps = Steps(len(chosen) * 3, report, concurrency)
    pairs = await answered_pairs(database, completer_for, models, chosen, steps)
    steps.skip((len(chosen) - len(pairs)) * 2)
    said = await verdicts(database, instrument, pairs, ALONE, steps, "grading")
    names = sorted(models)
    graded = (_grades(model, ALONE[names.index(model)], pairs, said) for model in models)
    one, two = (replace(grades, notes=tuple(notes)) for grades in graded)
    return one, two


def _grades(model: str, shown: Shown, pairs: Sequence[AnsweredPair], said: Mapping[tuple[str, Shown], Said]) -> Grades:
    from evals.intervals import mean_interval

    found = [(pair, one) for pair in pairs if (one := said.get((pair.id, shown)))]
    graded = [(pair, one) for pair, one in found if one.verdict is not None]
    values = [float(one.verdict or 0) if one.expected is None else one.expected for _, one in graded]
    estimate = mean_interval(values, [pair.prompt.id for pair, _ in graded])
    return Grades(
        model=model,
        mean=estimate.mean if graded else None,
        # A grade lies between 1 and 5, and so does what can be said of its mean.
        low=max(1.0, estimate.low) if graded else 1.0,
        high=min(5.0, estimate.high) if graded else 5.0,
        graded=len(graded),
        unparsed=len(found) - len(graded),
        scores=mean_scores([one.scores for _, one in graded if one.scores]).get(shown, {}),
        weighed=sum(one.expected is not None for _, one in graded),
    )
