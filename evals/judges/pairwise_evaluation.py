"""A judge compares two models' stored answers of an evaluation: both orders, each side with its own conversation.

Only the judge is asked. A sample without both answers, a question that is too long for the judge, and a judgment that
cannot be parsed are rows without a verdict, counted with their reason.
"""

import asyncio
from collections.abc import Callable

from evals.judges.answer_pairs import AnswerPair
from evals.judges.canaries import PAIRWISE_CALLS
from evals.judges.judge import Judge, reference_suffix
from evals.judges.judgment_store import JudgmentStore
from evals.judges.pairwise import Comparison, compare
from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.request import JudgeRequest
from evals.judges.rubric import store_rubric
from evals.request_pool import ReportProgress, RequestPool
from evals.tables import AnswerJudgmentRow
from evals.tasks.evaluations import Evaluation
from evals.tasks.task import request_messages
from evals.votes.prompts import Prompt
from models.chat.messages import Completer
from models.database import Database
from models.errors import Invalid


async def judge_evaluation(
    database: Database,
    completer_for: Callable[[str], Completer],
    request: JudgeRequest,
    report: ReportProgress | None = None,
    *,
    evaluation: Evaluation,
) -> JudgeReport:
    """Has a judge compare two models' answers of an evaluation in both orders; the second against the first.

    The judge sees the reference answer if a sample has one, and each side's own earlier turns. Stored judgments
    are reused.

    Args:
        request: its `prompts` and `references` are not used; the evaluation has its own.

    Raises:
        Invalid: a model is not in the evaluation, or no sample was answered by both.
    """
    models = request.models
    for model in models:
        if model not in evaluation.models:
            raise Invalid(f"{model!r} is not in the evaluation: it has {', '.join(evaluation.models)}.", param="models")
    answered, unanswered = _pairs(evaluation, models)
    if not answered:
        raise Invalid(
            f"No sample of {evaluation.task} was answered by both {models[0]} and {models[1]}. "
            f"First failure: {unanswered[0].null}",
            param="models",
        )
    references = {
        sample.id: sample.sample.expected for sample in evaluation.samples if sample.sample.expected is not None
    }
    judge = Judge(request.judge, completer_for(request.judge), request.rubric, request.samples, references)
    warning = await asyncio.to_thread(store_rubric, database, request.rubric)
    comparison = Comparison(
        models,
        [pair for pair, _ in answered],
        unanswered,
        {pair.id: turn for pair, turn in answered},
        [*request.notes, *([warning] if warning else []), _source_note(evaluation)],
        request.campaign,
    )
    pool = RequestPool(2 * len(answered) + PAIRWISE_CALLS, report, request.concurrency)
    return await compare(JudgmentStore(database, judge, AnswerJudgmentRow), comparison, pool)


def _source_note(evaluation: Evaluation) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in evaluation.parameters.items())
    return f"Answers of evaluation {evaluation.id} on {evaluation.task} ({parameters})."


def _pairs(evaluation: Evaluation, models: tuple[str, str]) -> tuple[list[tuple[AnswerPair, int]], list[JudgedPair]]:
    """The samples that both models answered, each with its turn; and a row without a verdict for each other one."""
    first, second = sorted(models)
    results = {model: evaluation.results[model] for model in models}
    texts = {model: [result.text for result in results[model]] for model in models}
    answered, unanswered = [], []
    for place, sample in enumerate(evaluation.samples):
        result_1, result_2 = results[first][place], results[second][place]
        if result_1.text is None or result_2.text is None:
            unanswered.append(_unanswered(evaluation, models, place))
            continue
        history_1, history_2 = (
            request_messages(evaluation.samples, texts[model], place)[:-1] for model in (first, second)
        )
        shared = history_1 == history_2
        prompt = Prompt(
            id=sample.id,
            messages=(*history_1, sample.messages[-1]) if shared else (sample.messages[-1],),
            category=sample.sample.category,
            topics=(),
            held_out=False,
            source=evaluation.task,
        )
        pair = AnswerPair(
            id=f"{result_1.answer_id}:{result_2.answer_id}{reference_suffix(sample.sample.expected)}",
            prompt=prompt,
            answer_1=result_1.text,
            answer_2=result_2.text,
            histories=None if shared else (history_1, history_2),
            cluster=sample.sample.prompt,
            models=(first, second),
        )
        answered.append((pair, sample.turn))
    return answered, unanswered


def _unanswered(evaluation: Evaluation, models: tuple[str, str], place: int) -> JudgedPair:
    sample = evaluation.samples[place]
    sides = [evaluation.results[model][place] for model in models]
    failed = [f"{model}: {side.error}" for model, side in zip(models, sides, strict=True) if side.text is None]
    return JudgedPair(
        pair_id="",
        prompt_id=sample.sample.prompt,
        question=sample.question,
        category=sample.sample.category,
        answer_a=sides[0].text or "",
        answer_b=sides[1].text or "",
        a_first=None,
        b_first=None,
        outcome=None,
        consistent=None,
        scores_a={},
        scores_b={},
        reasons="",
        people=None,
        turn=sample.turn,
        null=f"no answer from {'; '.join(failed)}",
    )
