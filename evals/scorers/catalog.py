"""Scorers by name: `exact`, `regex:PATTERN`, `length:5-40`, `mine.py:polite`. `parley eval scorers` lists them.

A scorer of your own is a function of (sample, answer's text) that returns a number, True, False or None. Name it by
path (`file.py:function`), or install it as an entry point of the group `parley.scorers`.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, cast

from evals.scorers import format_checks as checks
from evals.scorers import reference_similarity as similarity
from evals.scorers import text_match as text
from evals.scorers.sample import Sample, Scorer
from models.errors import Invalid, NotFound, ParleyError

GROUP = "parley.scorers"
Better = Literal["higher", "lower", "neither"]
_OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")


@dataclass(frozen=True)
class Answer:
    """A model's answer to one sample; tokens if the server counted them."""

    text: str
    model: str = ""
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    id: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Score:
    """A score; `value` is None if the sample has no reference for it, or if the scorer failed with `error`.

    `parts` are the values it is made of, by the names in the scorer's `parts`.
    """

    value: float | None
    error: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


ScoreFunction = Callable[[Sequence[Sample], Sequence[Answer]], list[Score]]
AsyncScoreFunction = Callable[[Sequence[Sample], Sequence[Answer]], Awaitable[list[Score]]]


@dataclass(frozen=True)
class NamedScorer:
    """A scorer with its name, its range and its better direction. It scores many answers at once.

    `score` is a plain function, run in a thread, or a coroutine function, awaited on the evaluation's event loop.
    `notes` go into the evaluation's notes. `parts` names the values that its scores are made of, such as a judge's
    criteria; they are shown beside the scores, with the same range. `late_notes` are read once scoring is done.
    """

    name: str
    score: ScoreFunction | AsyncScoreFunction
    better: Better = "higher"
    low: float = 0.0
    high: float = 1.0
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    late_notes: Callable[[], Sequence[str]] = tuple

    async def __call__(self, samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        if iscoroutinefunction(self.score):
            return await self.score(samples, answers)
        return await asyncio.to_thread(cast(ScoreFunction, self.score), samples, answers)


@dataclass(frozen=True)
class Entry:
    """One entry of the catalogue: how the scorer is typed, what it measures, and its factory from an argument."""

    name: str
    typed: str
    help: str
    make: Callable[[str | None, "ScorerContext"], ScoreFunction | NamedScorer]
    better: Better = "higher"
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class ScorerContext:
    """What scorers need from a running gateway.

    `embedder` gives a function that embeds texts with a model; `judge` makes a scorer from a judge's name and a
    rubric's (None: the default rubric).
    """

    embedder: Callable[[str], similarity.Embed] | None = None
    judge: Callable[[str, str | None], NamedScorer] | None = None


def catalog() -> tuple[Entry, ...]:
    """The built-in scorers, in the order of the help."""
    return (
        Entry("exact", "exact", "The answer equals the expected text; ignores case and space.", _text(text.exact)),
        Entry("partial", "partial", "The answer contains the expected text as whole words.", _text(text.partial)),
        Entry("includes", "includes", "The answer contains the expected text.", _text(text.includes)),
        Entry("regex", "regex:PATTERN", "The answer contains a match of the pattern.", _pattern),
        Entry("json", "json", "The whole answer is one JSON value.", _text(checks.valid_json)),
        Entry("schema", "schema[:FILE]", "JSON that fits a schema in the file or in the sample's metadata.", _schema),
        Entry("topics", "topics", "The share of the sample's topics that are covered.", _text(text.topic_coverage)),
        Entry("length", "length:5-40", "The number of words is in this range.", _length),
        Entry("words", "words", "The number of words.", _text(text.word_count), "neither", 0.0, inf),
        Entry("repetition", "repetition[:3]", "The share of repeated word n-grams (1 − distinct-n).", _repetition,
              "lower"),
        Entry("rouge-l", "rouge-l", "ROUGE-L: longest common subsequence of words, F-measure.",
              _text(similarity.rouge_l)),
        Entry("bleu", "bleu", "Sentence BLEU by sacrebleu.", _text(similarity.bleu)),
        Entry("chrf", "chrf", "chrF by sacrebleu: overlap of character n-grams.", _text(similarity.chrf)),
        Entry("embedding", "embedding:MODEL", "Cosine similarity with the expected answer, by a served model.",
              _embedding, "higher", -1.0, 1.0),
        Entry("judge", "judge:MODEL[@RUBRIC]", "A served judge's grade from 1 to 5; RUBRIC is a name from "
              "`parley rubrics list` or a Markdown file.", _judge, "higher", 1.0, 5.0),
        Entry("refusal", "refusal", "The answer starts with a refusal (in English).", _text(checks.refusal), "neither"),
        Entry("latency", "latency", "Seconds for the whole answer, at the run's concurrency.", _latency, "lower", 0.0,
              inf),
        Entry("tokens", "tokens", "Tokens in the answer, as the server counts them.", _tokens, "neither", 0.0, inf),
        Entry("cost", "cost:IN/OUT", "US dollars for an answer, from prices per million tokens; for several models "
              "cost:a=0.15/0.60;b=2/8.", _cost, "lower", 0.0, inf),
    )  # fmt: skip


def split_names(typed: Sequence[str]) -> list[str]:
    """The names in `--scorers` values: a comma separates two scorers only if a scorer's name follows it."""
    builtin = "|".join(re.escape(entry.name) for entry in catalog())
    own = "|".join(re.escape(name) for name in sorted(_entry_points()))
    names = "|".join(part for part in (builtin, own) if part)
    comma = re.compile(rf",\s*(?=(?:{names})(?:[:,]|$)|[^,:]+\.py:[A-Za-z_])")
    return list(dict.fromkeys(name for value in typed for part in comma.split(value) if (name := part.strip())))


def check_names(names: Sequence[str]) -> None:
    """Checks names that come from the page: scorers that read or run a file of this machine are refused.

    Raises:
        Invalid, NotFound: as `named_scorer`; or a scorer needs a file of this machine.
    """
    placeholder = NamedScorer("", lambda samples, answers: [])
    context = ScorerContext(embedder=lambda model: lambda texts: [], judge=lambda model, rubric: placeholder)
    if not names:
        raise Invalid("Name at least one scorer, such as exact or length:5-40.", param="scorers")
    for name in names:
        kind, _, argument = name.partition(":")
        rubric = argument.rpartition("@")[2] if kind == "judge" and "@" in argument else ""
        if _OWN.fullmatch(name) or (kind == "schema" and argument) or Path(rubric).suffix or "/" in rubric:
            raise Invalid(f"{name} needs a file on this machine: use `parley eval run`.", param="scorers")
        named_scorer(name, context)


def named_scorer(name: str, context: ScorerContext | None = None) -> NamedScorer:
    """The scorer of that name.

    Raises:
        Invalid: there is no such scorer (the message lists them), its argument is wrong, or a file is not a scorer.
        NotFound: there is no such file or function.
    """
    if own := _OWN.fullmatch(name):
        return _custom(name, _load_function(Path(own["file"]), own["function"]))
    first, colon, argument = name.partition(":")
    for entry in catalog():
        if entry.name == first:
            scorer = entry.make(argument if colon else None, context or ScorerContext())
            if isinstance(scorer, NamedScorer):
                return scorer
            return NamedScorer(name, scorer, entry.better, entry.low, entry.high)
    points = _entry_points()
    if name in points:
        try:
            return _custom(name, points[name].load())
        except Exception as error:
            raise Invalid(f"The scorer {name!r} cannot be loaded: {error}.", param="scorers") from error
    known = ", ".join([*(entry.typed for entry in catalog()), *sorted(points), "file.py:function"])
    raise Invalid(f"There is no scorer {name!r}. Use one of: {known}.", param="scorers")


def _each(score: Callable[[Sample, Answer], float | None]) -> ScoreFunction:
    def score_all(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        return [Score(score(sample, answer)) for sample, answer in zip(samples, answers, strict=True)]

    return score_all


def _of_text(score: Scorer) -> ScoreFunction:
    return _each(lambda sample, answer: score(sample, answer.text))


def _text(make: Callable[[], Scorer]) -> Callable[[str | None, ScorerContext], ScoreFunction]:
    def made(argument: str | None, context: ScorerContext) -> ScoreFunction:
        if argument is not None:
            raise Invalid(f"This scorer takes no argument: remove {':' + argument!r}.", param="scorers")
        return _of_text(make())

    return made


def _pattern(argument: str | None, context: ScorerContext) -> ScoreFunction:
    if not argument:
        raise Invalid("Add the pattern: regex:PATTERN.", param="scorers")
    return _of_text(checks.regex(argument))


def _schema(argument: str | None, context: ScorerContext) -> ScoreFunction:
    if argument is None:
        return _of_text(checks.json_schema())
    try:
        return _of_text(checks.json_schema(json.loads(Path(argument).read_text("utf-8"))))
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {argument}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Invalid(f"{argument} cannot be read as JSON: {error}.", param="scorers") from error


def _length(argument: str | None, context: ScorerContext) -> ScoreFunction:
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", argument or "")
    if not match or int(match[1]) > int(match[2]):
        raise Invalid("A length is a range of words, from low to high: length:5-40.", param="scorers")
    return _of_text(text.length(int(match[1]), int(match[2])))


def _repetition(argument: str | None, context: ScorerContext) -> ScoreFunction:
    if argument is not None and not re.fullmatch(r"[1-9]\d?", argument):
        raise Invalid("Repetition takes a sequence length of 1 to 99 words: repetition:3.", param="scorers")
    return _of_text(text.repetition(int(argument or 3)))


def _embedding(argument: str | None, context: ScorerContext) -> ScoreFunction:
    if not argument:
        raise Invalid("Name the served embedding model: embedding:MODEL.", param="scorers")
    if context.embedder is None:
        raise Invalid("Embeddings need a running gateway: use `parley eval run`.", param="scorers")
    score = similarity.embedding_similarity(context.embedder(argument))

    def score_all(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        try:
            return [Score(value) for value in score(samples, [answer.text for answer in answers])]
        except ParleyError as error:
            return [Score(None, str(error))] * len(answers)

    return score_all


def _judge(argument: str | None, context: ScorerContext) -> NamedScorer:
    # The last @, since a model's name may contain others.
    model, at, rubric = (argument or "").rpartition("@") if "@" in (argument or "") else (argument or "", "", "")
    if not model or (at and not rubric):
        raise Invalid("Name the served judge, and a rubric if wanted: judge:MODEL@RUBRIC.", param="scorers")
    if context.judge is None:
        raise Invalid("A judge needs a running gateway: use `parley eval run`.", param="scorers")
    return context.judge(model, rubric or None)


def _latency(argument: str | None, context: ScorerContext) -> ScoreFunction:
    return _each(lambda sample, answer: answer.seconds)


def _tokens(argument: str | None, context: ScorerContext) -> ScoreFunction:
    return _each(lambda sample, answer: None if answer.completion_tokens is None else float(answer.completion_tokens))


def _cost(argument: str | None, context: ScorerContext) -> ScoreFunction:
    prices = _prices(argument or "")

    def score(sample: Sample, answer: Answer) -> float | None:
        price = prices.get(answer.model, prices.get(""))
        if price is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            return None
        return (price[0] * answer.prompt_tokens + price[1] * answer.completion_tokens) / 1e6

    return _each(score)


def _prices(argument: str) -> Mapping[str, tuple[float, float]]:
    """Dollars per million tokens in and out, by model; "" stands for all others."""
    prices = {}
    for part in argument.split(";"):
        match = re.fullmatch(r"\s*(?:(\S+)=)?(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)\s*", part)
        if not match:
            raise Invalid(
                "A cost is two prices in dollars per million tokens, in and out: cost:0.15/0.60.", param="scorers"
            )
        prices[match[1] or ""] = (float(match[2]), float(match[3]))
    return prices


def _custom(name: str, function: Any) -> NamedScorer:
    """A user's own function. Its errors are recorded with the answer and stop nothing."""
    if not callable(function):
        raise Invalid(f"{name} is not a function of (sample, answer).", param="scorers")

    def score(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        return [_call(function, sample, answer) for sample, answer in zip(samples, answers, strict=True)]

    return NamedScorer(name, score, "higher", -inf, inf)


def _call(function: Callable[[Sample, str], Any], sample: Sample, answer: Answer) -> Score:
    try:
        value = function(sample, answer.text)
    except Exception as error:  # a user's function may raise anything, and one answer must not stop the rest
        return Score(None, f"{type(error).__name__}: {error}")
    if value is None:
        return Score(None)
    if not isinstance(value, bool | int | float) or not isfinite(value):
        return Score(None, f"it returned {value!r}, which is not a number")
    return Score(float(value))


def _load_function(path: Path, function: str) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    if not path.is_file():
        raise NotFound(f"There is no file {path}.", param="scorers")
    spec = spec_from_file_location(f"parley_scorer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} cannot be loaded as Python.", param="scorers")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Invalid(f"{path} cannot be loaded: {type(error).__name__}: {error}.", param="scorers") from error
    if not hasattr(module, function):
        raise NotFound(f"{path} has no function {function!r}.", param="scorers")
    return getattr(module, function)


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}
