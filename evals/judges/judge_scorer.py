"""A judge as a scorer: each answer graded alone, 1 to 5, by a rubric. Its verdicts are kept, and never asked for twice.

It sees the question, the model's own conversation before it, and the expected answer where the sample has one. A grade
that could not be had or read is null with its reason, never a number. Before it is believed it must give worthless
answers less than real ones; a note says whether it did. How one question is put is `evals.judges.judge`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from evals.judges.answer_pairs import AnsweredPair
from evals.judges.canaries import QUESTIONS, TRAPS, Trap, grade_of, graded_results, graded_traps
from evals.judges.judge import Instrument, Said, Shown, beside, verdicts
from evals.judges.rubric import keep_rubric
from evals.request_pool import CONCURRENCY, Report, Steps
from evals.scorers.catalog import Answer, NamedScorer, Score
from evals.scorers.text_match import Sample
from evals.tables import AnswerJudgmentRow
from evals.votes.prompts import Prompt
from models.database import Database
from models.judge_format import Rubric
from models.messages import Completer

LOWEST, HIGHEST = 1.0, 5.0
_BAITS = QUESTIONS * len(TRAPS)
_ALONE: tuple[Shown, ...] = ("1",)
_Verdicts = dict[tuple[str, Shown], Said]
Through = Callable[[Callable[[Callable[[str], Completer]], Awaitable[_Verdicts]]], _Verdicts]
"""Runs a function with a completer for each model, such as `reaching.through_gateway` with its settings."""


def judge_scorer(
    database: Database,
    judge: str,
    rubric: Rubric,
    through: Through,
    *,
    notes: Sequence[str] = (),
    report: Report | None = None,
) -> NamedScorer:
    """A scorer of 1 to 5, named after the judge, the rubric and its hash.

    The grade is the expected one where log-probabilities come back; the criteria's weighted mean where the rubric has
    weights; else the judge's whole number.

    Args:
        judge: an id, not an alias.
        report: called with the progress of the judging, 0 to 1, and a line.
    """
    tested: list[str] = []
    name = f"judge:{judge}@{rubric.name}#{rubric.hash[:6]}"

    def scored(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        shown = [_shown(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
        pairs = {pair.id: pair for pair in shown}
        references = {
            pair.id: sample.expected for pair, sample in zip(shown, samples, strict=True) if sample.expected is not None
        }
        failed: dict[tuple[str, Shown], str] = {}

        async def ask(completer_for: Callable[[str], Completer]) -> _Verdicts:
            await asyncio.to_thread(keep_rubric, database, rubric)
            instrument = Instrument(judge, completer_for(judge), rubric, references=references)
            steps = Steps(len(pairs) + _BAITS * (not tested), report, CONCURRENCY)
            said = await verdicts(
                database, instrument, list(pairs.values()), _ALONE, steps, "judging", AnswerJudgmentRow, failed
            )
            if not tested:
                tested.append(await _tested(judge, instrument, list(pairs.values()), said, steps))
            return said

        found = through(ask)
        return [_score(found.get((pair.id, "1")), failed.get((pair.id, "1"))) for pair in shown]

    said = f"{name}: rubric {rubric.name}, version {rubric.version} ({rubric.hash}); `parley rubrics show` prints it."
    return NamedScorer(name, scored, "higher", LOWEST, HIGHEST, (said, *notes), rubric.criteria, lambda: tested)


async def _tested(
    judge: str, instrument: Instrument, pairs: Sequence[AnsweredPair], said: _Verdicts, steps: Steps
) -> str:
    """Whether the judge sees through canaries, in words."""
    baits = graded_traps(pairs)

    async def ask(trap: Trap) -> Said:
        return await instrument.about(trap.pair, (trap.shown[1],), "1")

    grades = await steps.each(baits, ask, "testing the judge")
    found = graded_results(baits, [said.get((trap.pair.id, "1")) for trap in baits], grades)
    if not found:
        return f"{judge} could not be tested with worthless answers: what it graded got the lowest grade, or none."
    wrong = [canary.words for canary in found if not canary.passed]
    if wrong:
        return f"Do not rely on {judge}'s grades: {'; '.join(wrong)}."
    return f"{judge} gave worthless answers ({', '.join(canary.kind for canary in found)}) less than real ones."


def _shown(sample: Sample, answer: Answer) -> AnsweredPair:
    """The answer as the instrument takes it."""
    key = answer.id + beside(sample.expected)
    prompt = Prompt(key, sample.messages, sample.category, (), held_out=False, source="task")
    return AnsweredPair(key, prompt, answer.text, "")


def _score(said: Said | None, error: str | None) -> Score:
    if said is None:
        return Score(None, f"the judge could not be asked: {error}")
    if said.verdict is None:
        return Score(None, "the judge's word could not be read")
    return Score(grade_of(said), parts=dict((said.scores or {}).get("1", {})))
