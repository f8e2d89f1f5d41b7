"""A judge as a scorer: it grades each answer alone, 1 to 5, by a rubric. Grades are stored and reused.

The judge sees the question, the model's own conversation before it, and the reference answer if the sample has one.
A grade that could not be obtained or parsed is null with its reason. The notes say whether the judge graded worthless
answers below real ones.
"""

import asyncio
from collections.abc import Mapping, Sequence

from evals.judges.answer_pairs import AnswerPair
from evals.judges.canaries import POINTWISE_CALLS, CanaryTrial, pointwise_results, pointwise_trials
from evals.judges.judge import Judge, Judgment, Presentation, reference_suffix
from evals.judges.judgment_store import JudgmentStore
from evals.judges.rubric import check_gradable, store_rubric
from evals.request_pool import ReportProgress, RequestPool
from evals.scorers.catalog import Answer, NamedScorer, Score
from evals.scorers.sample import Sample
from evals.tables import AnswerJudgmentRow
from evals.votes.prompts import Prompt
from models.chat.judge_prompt import Rubric
from models.chat.messages import Completer
from models.database import Database

LOWEST, HIGHEST = 1.0, 5.0
_FIRST: tuple[Presentation, ...] = ("1",)


def judge_scorer(
    database: Database,
    judge: tuple[str, Completer],
    rubric: Rubric,
    *,
    notes: Sequence[str] = (),
    report: ReportProgress | None = None,
) -> NamedScorer:
    """A scorer of 1 to 5, named after the judge, the rubric and the rubric's hash.

    The grade is averaged over the judge's token probabilities if the server sends them, the criteria's weighted
    mean if the rubric has weights, and otherwise the judge's whole number.

    Args:
        judge: its id, not an alias, and its completer.
        report: called with the progress of the judging, 0 to 1, and a line.

    Raises:
        Invalid: the rubric is `likelihood`, which gives no grades.
    """
    check_gradable(rubric)
    model, complete = judge
    name = f"judge:{model}@{rubric.name}#{rubric.hash[:6]}"
    canary_notes: list[str] = []

    async def score(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        shown = [_as_pair(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
        pairs = list({pair.id: pair for pair in shown}.values())
        references = {
            pair.id: sample.expected for pair, sample in zip(shown, samples, strict=True) if sample.expected is not None
        }
        await asyncio.to_thread(store_rubric, database, rubric)
        store = JudgmentStore(database, Judge(model, complete, rubric, references=references), AnswerJudgmentRow)
        pool = RequestPool(len(pairs) + (0 if canary_notes else POINTWISE_CALLS), report)
        judgments = await store.collect(pairs, _FIRST, pool, "judging")
        if not canary_notes:
            canary_notes.append(await _try_canaries(store.judge, pairs, judgments.by_key, pool))
        return [_score(judgments.by_key.get((pair.id, "1")), judgments.errors.get((pair.id, "1"))) for pair in shown]

    rubric_note = (
        f"{name}: rubric {rubric.name}, version {rubric.version} ({rubric.hash}); `parley rubrics show` prints it."
    )
    return NamedScorer(
        name, score, "higher", LOWEST, HIGHEST, (rubric_note, *notes), rubric.criteria, lambda: canary_notes
    )


async def _try_canaries(
    judge: Judge,
    pairs: Sequence[AnswerPair],
    judgments: Mapping[tuple[str, Presentation], Judgment],
    pool: RequestPool,
) -> str:
    """One sentence on whether the judge grades worthless answers below real ones."""
    trials = pointwise_trials(pairs)

    async def grade(trial: CanaryTrial) -> Judgment:
        return await judge.judge_answers(trial.pair, (trial.answers[1],), "1")

    baits = await pool.map(trials, grade, "testing the judge")
    canaries = pointwise_results(trials, [judgments.get((trial.pair.id, "1")) for trial in trials], baits)
    if not canaries:
        return (
            f"{judge.model} could not be tested with worthless answers: the real answers had the lowest grade, or none."
        )
    failed = [canary.outcome for canary in canaries if not canary.passed]
    if failed:
        return f"Do not rely on {judge.model}'s grades: {'; '.join(failed)}."
    return f"{judge.model} graded worthless answers ({', '.join(canary.kind for canary in canaries)}) below real ones."


def _as_pair(sample: Sample, answer: Answer) -> AnswerPair:
    key = answer.id + reference_suffix(sample.expected)
    prompt = Prompt(key, sample.messages, sample.category, (), held_out=False, source="task")
    return AnswerPair(key, prompt, answer.text, "", models=(answer.model,))


def _score(judgment: Judgment | None, error: str | None) -> Score:
    if judgment is None:
        return Score(None, f"the judge did not answer: {error}")
    if judgment.verdict is None:
        return Score(None, "the judge's answer could not be parsed")
    return Score(judgment.grade, parts=dict((judgment.scores or {}).get("1", {})))
