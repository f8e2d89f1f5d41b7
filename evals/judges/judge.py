"""A judge with its rubric as a measuring instrument: one question in, one verdict out, kept under what was asked.

Comparing two answers and grading one are asked, read and kept in the same way here; what the verdicts come to is
`judging`'s and `grading`'s. A verdict that could not be read is kept as null, and asked for again by the next run.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from sqlalchemy import select

from evals.judges.answer_pairs import AnsweredPair
from evals.judges.expected_score import expected_grade, expected_share
from evals.request_pool import Steps
from evals.tables import AnswerJudgmentRow, JudgmentRow, insert_once
from models.database import Database, new_ulid
from models.errors import Invalid, ParleyError
from models.judge_format import (
    Rubric,
    pairwise_messages,
    pairwise_schema,
    parse_pairwise,
    parse_pointwise,
    pointwise_messages,
    pointwise_schema,
    response_format,
)
from models.messages import Completer, Completion, Message

Shown = Literal["12", "21", "1", "2"]  # two answers in this order, or one answer
BOTH_ORDERS: tuple[Shown, ...] = ("12", "21")
ALONE: tuple[Shown, ...] = ("1", "2")
MOST_SAMPLES = 32
_SAMPLING = 0.7  # the temperature where several samples are wanted: at 0 all would be one
_LIKELIEST = 20  # the most that OpenAI and vLLM give: five scores may stand far down before a grammar picks one
_WINNER = {"A": 0, "B": 1}


@dataclass(frozen=True)
class Said:
    """One verdict: 1, 2 or 0 for a tie (a grade of 1 to 5, where one answer is graded), None where it is unread.

    `expected` is model_1's share of the win (the grade) over all that the judge might have said, None where the
    server sent no log-probabilities and one sample was taken. `scores` by "1" and "2", then by criterion.
    """

    verdict: int | None
    raw: str
    expected: float | None = None
    scores: Mapping[str, Mapping[str, float]] | None = None
    reasons: str | None = None

    @property
    def share(self) -> float:
        """Model_1's share of the win, expected or as said; of a comparison that was read."""
        return {1: 1.0, 2: 0.0}.get(self.verdict or 0, 0.5) if self.expected is None else self.expected


@dataclass
class Instrument:
    """A judge that is asked by a rubric, `samples` times a question; `references` are right answers by prompt id.

    Raises:
        Invalid: `samples` is not 1 to 32.
    """

    judge: str
    complete: Completer
    rubric: Rubric
    samples: int = 1
    references: Mapping[str, str] = field(default_factory=dict)
    _logprobs: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise Invalid(f"A judge is asked 1 to {MOST_SAMPLES} times about each question.", param="samples")

    def key(self, pair: AnsweredPair) -> str:
        """What a verdict on the pair is kept under: the rubric's hash, and what else there was to see.

        The plain question's key is the rubric's hash alone.
        """
        parts = [self.rubric.hash]
        if self.samples > 1:
            parts.append(f"x{self.samples}")
        if pair.before("1"):
            parts.append("o" if pair.own else "c")
        if (reference := self.references.get(pair.prompt.id)) is not None:
            parts.append("r" + hashlib.sha256(reference.encode()).hexdigest()[:12])
        return "-".join(parts)

    async def ask(self, pair: AnsweredPair, shown: Shown) -> Said:
        """The judge's verdict on a pair, or on one of its answers.

        Raises:
            ParleyError: the judge could not be asked.
        """
        answers = {"1": pair.answer_1, "2": pair.answer_2}
        return await self.about(pair, tuple(answers[side] for side in shown), shown)

    async def about(self, pair: AnsweredPair, answers: Sequence[str], shown: str) -> Said:
        """The verdict on these answers to the pair's question, called as `shown` says."""
        before = [pair.before(side) for side in shown]
        given: dict[str, Any] = {"before": before[0], "reference": self.references.get(pair.prompt.id)}
        question = pair.prompt.question
        if len(shown) == 2:
            given["before_b"] = before[1]
            messages = pairwise_messages(question, answers[0], answers[1], self.rubric, **given)
            form = response_format("verdict", pairwise_schema(self.rubric))
        else:
            messages = pointwise_messages(question, answers[0], self.rubric, **given)
            form = response_format("grade", pointwise_schema(self.rubric))
        read = self._compared if len(shown) == 2 else self._graded
        asked = [self._completion(messages, form) for _ in range(self.samples)]
        return _together([read(completion, shown) for completion in await asyncio.gather(*asked)], shown)

    async def _completion(self, messages: Sequence[Message], form: Mapping[str, Any]) -> Completion:
        options: dict[str, Any] = {
            "temperature": _SAMPLING if self.samples > 1 else 0.0,
            "max_tokens": judgment_tokens(self.rubric),
            "response_format": form,
        }
        if self._logprobs:
            try:
                return await self.complete(messages, **options, logprobs=True, top_logprobs=_LIKELIEST)
            except Invalid:
                # Some hosted models refuse log-probabilities. What else may be wrong with the question shows below.
                found = await self.complete(messages, **options)
                self._logprobs = False
                return found
        return await self.complete(messages, **options)

    def _compared(self, completion: Completion, shown: str) -> Said:
        parsed = parse_pairwise(completion.text, self.rubric)
        if parsed is None:
            return Said(None, completion.text)
        first, second = shown
        share = expected_share(completion.text, completion.tokens)
        return Said(
            verdict=0 if parsed.verdict == "tie" else int(shown[_WINNER[parsed.verdict]]),
            raw=completion.text,
            expected=share if share is None or first == "1" else 1 - share,
            scores={first: dict(parsed.scores_a), second: dict(parsed.scores_b)},
            reasons=parsed.reasons,
        )

    def _graded(self, completion: Completion, shown: str) -> Said:
        parsed = parse_pointwise(completion.text, self.rubric)
        if parsed is None:
            return Said(None, completion.text)
        expected = expected_grade(completion.text, completion.tokens, self.rubric)
        if expected is None and self.rubric.weighted:
            expected = self.rubric.whole(parsed.scores)
        return Said(parsed.score, completion.text, expected, {shown: dict(parsed.scores)}, parsed.reasons)


def beside(expected: str | None) -> str:
    """What tells an answer's id apart where the same answer stands beside several expected ones; empty without one."""
    return "" if expected is None else f":{hashlib.sha256(expected.encode()).hexdigest()[:12]}"


def judgment_tokens(rubric: Rubric) -> int:
    """The longest verdict, in tokens: its JSON with three criteria is under 300 in every vocabulary tried."""
    return 250 + 50 * len(rubric.criteria)


Kept = type[JudgmentRow] | type[AnswerJudgmentRow]
"""Where verdicts are kept: those on stored pairs, or those on the answers of evaluations."""


async def verdicts(
    database: Database,
    instrument: Instrument,
    pairs: Sequence[AnsweredPair],
    shown: Sequence[Shown],
    steps: Steps,
    doing: str,
    table: Kept = JudgmentRow,
    failed: dict[tuple[str, Shown], str] | None = None,
) -> dict[tuple[str, Shown], Said]:
    """The verdicts on all pairs, each shown in all these ways: those kept, and the rest asked for and kept.

    Counts a step for each. What could not be asked is missing from the result; what could not be read is there with
    a verdict of None, and was asked for again where it was kept so.

    Args:
        failed: where given, it gets each error by what could not be asked, and nothing is raised.

    Raises:
        ParleyError: there is not one; the last error.
    """
    said = await asyncio.to_thread(kept_verdicts, database, instrument, pairs, shown, table)
    missing = [(pair, way) for pair in pairs for way in shown if (pair.id, way) not in said]
    steps.skip(len(pairs) * len(shown) - len(missing))

    async def ask(question: tuple[AnsweredPair, Shown]) -> None:
        pair, way = question
        try:
            found = await instrument.ask(pair, way)
        except ParleyError as error:
            if failed is not None:
                failed[pair.id, way] = error.message
            raise
        await asyncio.to_thread(_keep, database, instrument, pair, way, found, table)
        said[pair.id, way] = found

    await steps.each(missing, ask, doing)
    if not said and steps.failures and failed is None:
        raise steps.failures[-1]
    return said


def kept_verdicts(
    database: Database,
    instrument: Instrument,
    pairs: Sequence[AnsweredPair],
    shown: Sequence[Shown],
    table: Kept = JudgmentRow,
) -> dict[tuple[str, Shown], Said]:
    """The verdicts that were read in earlier runs."""
    keys = {pair.id: instrument.key(pair) for pair in pairs}
    query = select(table).where(
        table.judge == instrument.judge,
        table.rubric_hash.in_(set(keys.values())),
        table.shown.in_(shown),
        table.verdict.is_not(None),
    )
    with database.read() as session:
        return {
            (row.pair_id, cast(Shown, row.shown)): Said(row.verdict, row.raw, row.expected, row.scores, row.reasons)
            for row in session.scalars(query)
            if keys.get(row.pair_id) == row.rubric_hash
        }


def _keep(
    database: Database, instrument: Instrument, pair: AnsweredPair, shown: Shown, said: Said, table: Kept
) -> None:
    """Stores a verdict; one that is there and was read stays as it is."""
    where = {"pair_id": pair.id, "judge": instrument.judge, "rubric_hash": instrument.key(pair), "shown": shown}
    row = table(id=new_ulid(), **where, **_columns(said))
    with database.write() as session:
        if insert_once(session, row):
            return
        known = session.scalars(select(table).filter_by(**where)).one()
        if known.verdict is None:
            for name, value in _columns(said).items():
                setattr(known, name, value)


def _columns(said: Said) -> dict[str, Any]:
    return {
        "verdict": said.verdict,
        "expected": said.expected,
        "scores": said.scores and {side: dict(scores) for side, scores in said.scores.items()},
        "reasons": said.reasons,
        "raw": said.raw,
    }


def _together(samples: Sequence[Said], shown: str) -> Said:
    """Several samples as one verdict: the most frequent one, a tie where two are as frequent, and the mean."""
    if len(samples) == 1:
        return samples[0]
    raw = "\n".join(one.raw for one in samples)
    read = [one for one in samples if one.verdict is not None]
    if not read:
        return Said(None, raw)
    values = [one.share if len(shown) == 2 else one.expected or float(one.verdict or 0) for one in read]
    mean = sum(values) / len(values)
    if len(shown) == 2:
        often = Counter(one.verdict for one in read).most_common(2)
        verdict = often[0][0] if len(often) == 1 or often[0][1] > often[1][1] else 0
    else:
        verdict = int(mean + 0.5)
    # What is told as the reason is of a sample that says what the whole says.
    told = next((one for one in read if one.verdict == verdict), read[0])
    return Said(verdict, raw, mean, mean_scores([one.scores or {} for one in read]), told.reasons)


def mean_scores(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of each criterion's scores for each side."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in scores:
        for side, criteria in one.items():
            for criterion, score in criteria.items():
                found.setdefault(side, {}).setdefault(criterion, []).append(score)
    return {
        side: {criterion: sum(values) / len(values) for criterion, values in criteria.items()}
        for side, criteria in found.items()
    }
