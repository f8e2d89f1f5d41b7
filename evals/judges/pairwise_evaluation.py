"""A judge over two models of an evaluation: both orders, each side in its own conversation, by category and turn.

The answers are those that `parley eval run` stored; nothing is asked again but the judge. A sample without an answer,
a question that is too long for the judge, a verdict that cannot be read: each is a null, counted with its reason.
"""

import asyncio
from collections.abc import Callable, Sequence

from evals.judges.answer_pairs import AnsweredPair
from evals.judges.canaries import CALLS
from evals.judges.judge import Instrument, beside
from evals.judges.pairwise import Answered, judged
from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.rubric import keep_rubric
from evals.request_pool import CONCURRENCY, Report, Steps
from evals.tables import AnswerJudgmentRow
from evals.tasks.evaluations import Evaluation
from evals.tasks.task import asked_of
from evals.votes.prompts import Prompt
from models.database import Database
from models.errors import Invalid
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.messages import Completer


async def judge_evaluation(
    database: Database,
    evaluation: Evaluation,
    completer_for: Callable[[str], Completer],
    judge: str,
    models: tuple[str, str],
    rubric: Rubric = DEFAULT_RUBRIC,
    report: Report | None = None,
    *,
    notes: Sequence[str] = (),
    concurrency: int = CONCURRENCY,
    samples: int = 1,
) -> JudgeReport:
    """Has a judge compare two models' answers of an evaluation, in both orders; the second against the first.

    The judge sees the expected answer where a sample has one, and each side's own earlier turns. Verdicts that are
    stored are used again.

    Args:
        judge, models: ids, not aliases.
        samples: how often each question is asked; more than once at a temperature of 0.7.

    Raises:
        Invalid: the two models are one, or not in the evaluation, or no sample was answered by both.
    """
    if models[0] == models[1]:
        raise Invalid("A judge compares two models: name two that differ.", param="models")
    for model in models:
        if model not in evaluation.models:
            raise Invalid(f"{model!r} is not in the evaluation: it has {', '.join(evaluation.models)}.", param="models")
    answered, nulls = _pairs(evaluation, models)
    if not answered:
        raise Invalid(
            f"No sample of {evaluation.task} was answered by both {models[0]} and {models[1]}. "
            f"The first failed so: {nulls[0].null}",
            param="models",
        )
    references = {
        sample.id: sample.sample.expected for sample in evaluation.samples if sample.sample.expected is not None
    }
    instrument = Instrument(judge, completer_for(judge), rubric, samples, references)
    changed = await asyncio.to_thread(keep_rubric, database, rubric)
    return await judged(
        database,
        instrument,
        models,
        Answered([pair for pair, _ in answered], nulls, {pair.id: turn for pair, turn in answered}),
        Steps(2 * len(answered) + CALLS, report, concurrency),
        table=AnswerJudgmentRow,
        notes=[*notes, *([changed] if changed else []), *_about(evaluation)],
    )


def _about(evaluation: Evaluation) -> list[str]:
    parameters = ", ".join(f"{name} {value}" for name, value in evaluation.parameters.items())
    return [f"Answers of evaluation {evaluation.id} on {evaluation.task} ({evaluation.task_hash[:8]}; {parameters})."]


def _pairs(evaluation: Evaluation, models: tuple[str, str]) -> tuple[list[tuple[AnsweredPair, int]], list[JudgedPair]]:
    """The samples that both models answered, each with its turn, and a null for each other one."""
    first, second = sorted(models)
    results = {model: evaluation.results[model] for model in models}
    texts = {model: [result.text for result in results[model]] for model in models}
    answered, nulls = [], []
    for place, sample in enumerate(evaluation.samples):
        one, two = results[first][place], results[second][place]
        if one.text is None or two.text is None:
            nulls.append(_null(evaluation, models, place))
            continue
        before = [asked_of(evaluation.samples, texts[model], place)[:-1] for model in (first, second)]
        shared = before[0] == before[1]
        prompt = Prompt(
            id=sample.id,
            messages=(*before[0], sample.messages[-1]) if shared else (sample.messages[-1],),
            category=sample.sample.category,
            topics=(),
            held_out=False,
            source=evaluation.task,
        )
        pair = AnsweredPair(
            id=f"{one.answer_id}:{two.answer_id}{beside(sample.sample.expected)}",
            prompt=prompt,
            answer_1=one.text,
            answer_2=two.text,
            own=None if shared else (before[0], before[1]),
            cluster=sample.sample.prompt,
        )
        answered.append((pair, sample.turn))
    return answered, nulls


def _null(evaluation: Evaluation, models: tuple[str, str], place: int) -> JudgedPair:
    """A sample that a model has no answer to."""
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
