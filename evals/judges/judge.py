"""A judge: one question to a judge model, and its judgment. `judgment_store` stores judgments.

The prompt and the JSON schema are `models.chat.judge_prompt`'s. Comparing two answers and grading one share this file.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evals.judges.answer_pairs import AnswerPair
from evals.judges.expected_score import expected_grade, expected_share
from evals.judges.likelihood import LikelihoodScorer
from evals.judges.rubric import LIKELIHOOD_RUBRIC
from models.chat.judge_prompt import (
    Rubric,
    pairwise_messages,
    pairwise_schema,
    parse_pairwise,
    parse_pointwise,
    pointwise_messages,
    pointwise_schema,
    response_format,
)
from models.chat.messages import Completer, Completion, Message
from models.errors import Invalid

Presentation = Literal["12", "21", "1", "2"]  # two answers in this order, or one answer
BOTH_ORDERS: tuple[Presentation, ...] = ("12", "21")
POINTWISE: tuple[Presentation, ...] = ("1", "2")
MAX_SAMPLES = 32
_SAMPLING_TEMPERATURE = 0.7  # at 0 all samples would be the same
_TOP_LOGPROBS = 20  # the maximum of OpenAI and vLLM: the scores may rank low before the grammar picks one
_WINNER = {"A": 0, "B": 1}


@dataclass(frozen=True)
class Judgment:
    """One verdict: 1, 2 or 0 for a tie (pointwise: a grade of 1 to 5), None if the text could not be parsed.

    `expected` is model_1's share of the win (pointwise: the grade) averaged over the judge's token probabilities, None
    if the server sent none and one sample was taken. `scores` is keyed by "1" and "2", then by criterion.
    """

    verdict: int | None
    raw: str
    expected: float | None = None
    scores: Mapping[str, Mapping[str, float]] | None = None
    reasons: str | None = None

    @property
    def share(self) -> float:
        """Model_1's share of the win, from probabilities if known; for a comparison that was parsed."""
        return {1: 1.0, 2: 0.0}.get(self.verdict or 0, 0.5) if self.expected is None else self.expected

    @property
    def grade(self) -> float | None:
        """The grade of 1 to 5, from probabilities if known; None if it was not parsed."""
        if self.verdict is None:
            return None
        return float(self.verdict) if self.expected is None else self.expected


@dataclass
class Judge:
    """A judge model with its rubric. `references` are reference answers by prompt id.

    Raises:
        Invalid: `samples` is not 1 to 32; or the rubric is `likelihood`, with several samples or without a server.
    """

    model: str
    complete: Completer
    rubric: Rubric
    samples: int = 1
    references: Mapping[str, str] = field(default_factory=dict)
    _logprobs: bool = True
    _likelihoods: LikelihoodScorer | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise Invalid(f"The number of samples must be from 1 to {MAX_SAMPLES}.", param="samples")
        if self.rubric.hash == LIKELIHOOD_RUBRIC.hash:
            if self.samples > 1:
                raise Invalid("By the rubric likelihood all samples are the same: leave it at 1.", param="samples")
            self._likelihoods = LikelihoodScorer(self.complete)

    def key(self, pair: AnswerPair) -> str:
        """What a judgment of the pair is stored under: the rubric's hash, with a suffix for anything else shown.

        For a plain question it is the rubric's hash alone.
        """
        parts = [self.rubric.hash]
        if self.samples > 1:
            parts.append(f"x{self.samples}")
        if pair.history("1"):
            parts.append("o" if pair.histories else "c")
        if (reference := self.references.get(pair.prompt.id)) is not None:
            parts.append("r" + hashlib.sha256(reference.encode()).hexdigest()[:12])
        return "-".join(parts)

    async def judge(self, pair: AnswerPair, presentation: Presentation) -> Judgment:
        """The judgment of a pair, or of one of its answers.

        Raises:
            ParleyError: the judge cannot be reached or refuses.
        """
        answers = {"1": pair.answer_1, "2": pair.answer_2}
        return await self.judge_answers(pair, tuple(answers[side] for side in presentation), presentation)

    async def judge_answers(self, pair: AnswerPair, answers: Sequence[str], presentation: str) -> Judgment:
        """The judgment of these answers to the pair's question, in the order of `presentation`."""
        before = [pair.history(side) for side in presentation]
        if self._likelihoods is not None:
            return await self._compare_likelihoods(self._likelihoods, pair, answers, presentation)
        context: dict[str, Any] = {"before": before[0], "reference": self.references.get(pair.prompt.id)}
        question = pair.prompt.question
        if len(presentation) == 2:
            context["before_b"] = before[1]
            messages = pairwise_messages(question, answers[0], answers[1], self.rubric, **context)
            schema = None if self.rubric.marked else response_format("verdict", pairwise_schema(self.rubric))
            parse = self._parse_comparison
        else:
            messages = pointwise_messages(question, answers[0], self.rubric, **context)
            schema, parse = response_format("grade", pointwise_schema(self.rubric)), self._parse_grade
        completions = await asyncio.gather(*(self._complete(messages, schema) for _ in range(self.samples)))
        return _aggregate([parse(completion, presentation) for completion in completions], presentation)

    async def _compare_likelihoods(
        self, scorer: LikelihoodScorer, pair: AnswerPair, answers: Sequence[str], presentation: str
    ) -> Judgment:
        question = pair.prompt.messages[-1]
        likelihoods = await scorer.compare([(*pair.history(side), question) for side in presentation], answers)
        names = [pair.models[int(side) - 1] if pair.models else f"answer {side}" for side in presentation]
        scores = ", ".join(
            f"{name} {score:.2f}"
            for name, score in sorted(zip(names, (likelihoods.first, likelihoods.second), strict=True))
        )
        return Judgment(
            verdict=0 if likelihoods.better is None else int(presentation[likelihoods.better]),
            raw=likelihoods.to_text(),
            reasons=f"mean log-probability of a token: {scores}",
        )

    async def _complete(self, messages: Sequence[Message], schema: Mapping[str, Any] | None) -> Completion:
        options: dict[str, Any] = {
            "temperature": _SAMPLING_TEMPERATURE if self.samples > 1 else 0.0,
            "max_tokens": judgment_tokens(self.rubric),
        }
        if schema is not None:
            options["response_format"] = schema
        if self._logprobs:
            try:
                return await self.complete(messages, **options, logprobs=True, top_logprobs=_TOP_LOGPROBS)
            except Invalid:
                # Some hosted models refuse log-probabilities. If something else is wrong, this request fails too.
                completion = await self.complete(messages, **options)
                self._logprobs = False
                return completion
        return await self.complete(messages, **options)

    def _parse_comparison(self, completion: Completion, presentation: str) -> Judgment:
        parsed = parse_pairwise(completion.text, self.rubric)
        if parsed is None:
            return Judgment(None, completion.text)
        first, second = presentation
        share = expected_share(completion.text, completion.tokens)
        return Judgment(
            verdict=0 if parsed.verdict == "tie" else int(presentation[_WINNER[parsed.verdict]]),
            raw=completion.text,
            expected=share if share is None or first == "1" else 1 - share,
            scores={first: dict(parsed.scores_a), second: dict(parsed.scores_b)} if parsed.scores_a else None,
            reasons=parsed.reasons,
        )

    def _parse_grade(self, completion: Completion, presentation: str) -> Judgment:
        parsed = parse_pointwise(completion.text, self.rubric)
        if parsed is None:
            return Judgment(None, completion.text)
        expected = expected_grade(completion.text, completion.tokens, self.rubric)
        if expected is None and self.rubric.weighted:
            expected = self.rubric.whole(parsed.scores)
        return Judgment(parsed.score, completion.text, expected, {presentation: dict(parsed.scores)}, parsed.reasons)


def reference_suffix(reference: str | None) -> str:
    """A suffix for an answer's id, so that one answer can be judged against several references; empty without one."""
    return "" if reference is None else f":{hashlib.sha256(reference.encode()).hexdigest()[:12]}"


def judgment_tokens(rubric: Rubric) -> int:
    """The longest judgment in tokens: its JSON with three criteria is under 300 in every vocabulary tried."""
    if rubric.marked or rubric.fenced:  # free text, which no schema bounds
        return 1024
    return 250 + 50 * len(rubric.criteria)


def _aggregate(samples: Sequence[Judgment], presentation: str) -> Judgment:
    """Several samples as one judgment: the most frequent verdict, a tie if two are as frequent, and the mean."""
    if len(samples) == 1:
        return samples[0]
    raw = "\n".join(sample.raw for sample in samples)
    parsed = [sample for sample in samples if sample.verdict is not None]
    if not parsed:
        return Judgment(None, raw)
    pairwise = len(presentation) == 2
    values = [sample.share if pairwise else sample.expected or float(sample.verdict or 0) for sample in parsed]
    mean = sum(values) / len(values)
    if pairwise:
        ranked = Counter(sample.verdict for sample in parsed).most_common(2)
        verdict = ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else 0
    else:
        verdict = int(mean + 0.5)
    # The reasons come from a sample with the same verdict as the whole.
    typical = next((sample for sample in parsed if sample.verdict == verdict), parsed[0])
    return Judgment(verdict, raw, mean, mean_scores([sample.scores or {} for sample in parsed]), typical.reasons)


def mean_scores(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The mean of each criterion's scores for each side."""
    values: dict[str, dict[str, list[float]]] = {}
    for sides in scores:
        for side, criteria in sides.items():
            for criterion, score in criteria.items():
                values.setdefault(side, {}).setdefault(criterion, []).append(score)
    return {
        side: {criterion: sum(each) / len(each) for criterion, each in criteria.items()}
        for side, criteria in values.items()
    }
