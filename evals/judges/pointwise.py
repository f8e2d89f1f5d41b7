"""A judge grades single answers from 1 to 5: constrained JSON, resumable.

To compare two models use `evals.judges.pairwise`, which is more sensitive; grades suit one model over time, or more
than two models. A judgment that cannot be parsed is counted and never becomes a default grade.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evals.judges.answer_pairs import AnswerPair, collect_answer_pairs, select_prompts
from evals.judges.judge import POINTWISE, Judge, Judgment, Presentation, mean_scores
from evals.judges.judgment_store import JudgmentStore
from evals.judges.request import JudgeRequest
from evals.judges.rubric import check_gradable, store_rubric
from evals.request_pool import ReportProgress, RequestPool
from models.chat.messages import Completer
from models.database import Database


@dataclass(frozen=True)
class Grades:
    """One model's grades: the mean of 1 to 5 with its interval by prompt; None if nothing was graded.

    A grade is averaged over the judge's token probabilities if the server sends them, and is the weighted mean of
    the criteria if the rubric has weights; `weighed` counts those grades. `notes` are about the judge.
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
    request: JudgeRequest,
    report: ReportProgress | None = None,
) -> tuple[Grades, Grades]:
    """Has a judge grade two models' answers one by one.

    Raises:
        Invalid: the number of samples is not 1 to 32, or the rubric is `likelihood`, which gives no grades.
        NotFound: there are no such prompts.
        Unavailable: no answer, or no grade, could be obtained.
    """
    check_gradable(request.rubric)
    judge = Judge(request.judge, completer_for(request.judge), request.rubric, request.samples, request.references)
    chosen = select_prompts(database, request.prompts)
    await asyncio.to_thread(store_rubric, database, request.rubric)
    pool = RequestPool(len(chosen) * 3, report, request.concurrency)
    pairs = await collect_answer_pairs(database, completer_for, request.models, chosen, pool)
    pool.skip((len(chosen) - len(pairs)) * 2)
    judgments = (await JudgmentStore(database, judge).collect(pairs, POINTWISE, pool, "grading")).by_key
    if not judgments and pool.failures:
        raise pool.failures[-1]
    sides = dict(zip(sorted(request.models), POINTWISE, strict=True))
    first, second = (
        replace(_grades(model, sides[model], pairs, judgments), notes=tuple(request.notes)) for model in request.models
    )
    return first, second


def _grades(
    model: str, side: Presentation, pairs: Sequence[AnswerPair], judgments: Mapping[tuple[str, Presentation], Judgment]
) -> Grades:
    from evals.intervals import mean_interval

    judged = [(pair, judgment) for pair in pairs if (judgment := judgments.get((pair.id, side)))]
    graded = [(pair, judgment) for pair, judgment in judged if judgment.verdict is not None]
    estimate = mean_interval([judgment.grade or 0.0 for _, judgment in graded], [pair.prompt.id for pair, _ in graded])
    return Grades(
        model=model,
        mean=estimate.mean if graded else None,
        # Grades lie between 1 and 5, so the interval of their mean does too.
        low=max(1.0, estimate.low) if graded else 1.0,
        high=min(5.0, estimate.high) if graded else 5.0,
        graded=len(graded),
        unparsed=len(judged) - len(graded),
        scores=mean_scores([judgment.scores for _, judgment in graded if judgment.scores]).get(side, {}),
        weighed=sum(judgment.expected is not None for _, judgment in graded),
    )
