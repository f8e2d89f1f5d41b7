"""Scorers by the names that a person types: `exact`, `regex:PATTERN`, `length:5-40`, `mine.py:polite`.

The catalogue below is what `parley eval scorers` lists. Your own: a function of (sample, answer's text) that returns
a number, True or False, or None, by path (`file.py:function`) or by an entry point of the group `parley.scorers`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

from evals.scorers import format_checks as checks
from evals.scorers import reference_similarity as similarity
from evals.scorers import text_match as plain
from evals.scorers.text_match import Sample, Scorer
from models.errors import Invalid, NotFound, ParleyError

GROUP = "parley.scorers"
Better = Literal["higher", "lower", "neither"]
_OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")


@dataclass(frozen=True)
class Answer:
    """What a model said to one sample, with what it took: seconds, and tokens where the server counted them."""

    text: str
    model: str = ""
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    id: str = ""


@dataclass(frozen=True)
class Score:
    """A score; `value` is None where there was nothing to score by, and `error` says so where a scorer failed.

    `parts` is what it is made of, by the names in the scorer's `parts`.
    """

    value: float | None
    error: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


Scored = Callable[[Sequence[Sample], Sequence[Answer]], list[Score]]


@dataclass(frozen=True)
class NamedScorer:
    """A scorer under its name, with its range and which end is the good one. Calling it scores many answers.

    `notes` are what a reader of its scores should know; they go into the evaluation's. `parts` names what its scores
    are made of, as a judge's criteria: shown beside them, with the same range, and compared with nobody's. `learnt`
    gives notes that only scoring can tell, asked for when it is done.
    """

    name: str
    scored: Scored
    better: Better = "higher"
    low: float = 0.0
    high: float = 1.0
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    learnt: Callable[[], Sequence[str]] = tuple

    @property
    def share(self) -> bool:
        """Whether its values lie between 0 and 1."""
        return (self.low, self.high) == (0.0, 1.0)

    def __call__(self, samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        return self.scored(samples, answers)


@dataclass(frozen=True)
class Kind:
    """One line of the catalogue: how it is typed, what it measures, and how it is made from its argument."""

    name: str
    typed: str
    help: str
    make: Callable[[str | None, "Tools"], Scored | NamedScorer]
    better: Better = "higher"
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Tools:
    """What scorers may need from outside: `embedder` gives a function that embeds texts with the model of that name,
    `judge` a scorer by a judge's name and a rubric's (None: the one that comes with Parley)."""

    embedder: Callable[[str], similarity.Embed] | None = None
    judge: Callable[[str, str | None], NamedScorer] | None = None


def kinds() -> tuple[Kind, ...]:
    """The catalogue, as the help lists it."""
    return (
        Kind("exact", "exact", "The answer is the expected one; case and white space aside.", _text(plain.exact)),
        Kind("partial", "partial", "The expected text stands in the answer as whole words.", _text(plain.partial)),
        Kind("includes", "includes", "The expected text stands anywhere in the answer.", _text(plain.includes)),
        Kind("regex", "regex:PATTERN", "The pattern is found in the answer.", _pattern),
        Kind("json", "json", "The whole answer is one JSON value.", _text(checks.valid_json)),
        Kind("schema", "schema[:FILE]", "JSON that fits the schema in the file, or in the sample's metadata.", _schema),
        Kind("topics", "topics", "The share of the sample's topics that are covered.", _text(plain.topic_coverage)),
        Kind("length", "length:5-40", "Between so many words.", _length),
        Kind("words", "words", "How many words.", _text(plain.word_count), "neither", 0.0, inf),
        Kind("repetition", "repetition[:3]", "The share of word n-grams said before (1 − distinct-n).", _repetition,
             "lower"),
        Kind("rouge-l", "rouge-l", "ROUGE-L: the longest common run of words, F-measure.", _text(similarity.rouge_l)),
        Kind("bleu", "bleu", "Sentence BLEU by sacrebleu.", _text(similarity.bleu)),
        Kind("chrf", "chrf", "chrF by sacrebleu: overlap of letters.", _text(similarity.chrf)),
        Kind("embedding", "embedding:MODEL", "Cosine with the expected answer, by a served embedding model.",
             _embedding, "higher", -1.0, 1.0),
        Kind("judge", "judge:MODEL[@RUBRIC]", "A served judge's grade by a rubric, 1 to 5; RUBRIC as `parley rubrics "
             "list` has it, or a Markdown file.", _judge, "higher", 1.0, 5.0),
        Kind("refusal", "refusal", "The answer begins by refusing (in English).", _text(checks.refusal), "neither"),
        Kind("latency", "latency", "Seconds for the whole answer, at the run's concurrency.", _latency, "lower", 0.0,
             inf),
        Kind("tokens", "tokens", "Tokens in the answer, as the server counts.", _tokens, "neither", 0.0, inf),
        Kind("cost", "cost:IN/OUT", "US dollars for an answer, from prices for a million tokens; for several models "
             "cost:one=0.15/0.60;two=2/8.", _cost, "lower", 0.0, inf),
    )  # fmt: skip


def split_names(typed: Sequence[str]) -> list[str]:
    """The names in `--scorers` values: a comma separates only where a scorer's name comes after it."""
    known = "|".join(re.escape(kind.name) for kind in kinds())
    own = "|".join(re.escape(name) for name in sorted(_entry_points()))
    names = "|".join(part for part in (known, own) if part)
    comma = re.compile(rf",\s*(?=(?:{names})(?:[:,]|$)|[^,:]+\.py:[A-Za-z_])")
    return list(dict.fromkeys(name for value in typed for part in comma.split(value) if (name := part.strip())))


def check_names(names: Sequence[str]) -> None:
    """Whether these are scorers that may be named from afar, as on the page: those that read and run no file here.

    Raises:
        Invalid, NotFound: as `named_scorer`; or a name leads to a file of this machine.
    """
    nobody = NamedScorer("", lambda samples, answers: [])
    tools = Tools(embedder=lambda model: lambda texts: [], judge=lambda model, rubric: nobody)
    if not names:
        raise Invalid("Name at least one scorer, such as exact or length:5-40.", param="scorers")
    for name in names:
        kind, _, rest = name.partition(":")
        rubric = rest.rpartition("@")[2] if kind == "judge" and "@" in rest else ""
        if _OWN.fullmatch(name) or (kind == "schema" and rest) or Path(rubric).suffix or "/" in rubric:
            raise Invalid(f"{name} needs a file of this machine: run it with `parley eval run`.", param="scorers")
        named_scorer(name, tools)


def named_scorer(name: str, tools: Tools | None = None) -> NamedScorer:
    """The scorer of that name.

    Raises:
        Invalid: nobody is called so (the line lists who is), the argument makes no sense, or a file is no scorer.
        NotFound: there is no such file or function.
    """
    if own := _OWN.fullmatch(name):
        return _mine(name, _from_file(Path(own["file"]), own["function"]))
    first, colon, rest = name.partition(":")
    for kind in kinds():
        if kind.name == first:
            made = kind.make(rest if colon else None, tools or Tools())
            named = isinstance(made, NamedScorer)
            return made if named else NamedScorer(name, made, kind.better, kind.low, kind.high)
    points = _entry_points()
    if name in points:
        try:
            return _mine(name, points[name].load())
        except Exception as error:
            raise Invalid(f"The scorer {name!r} cannot be loaded: {error}.", param="scorers") from error
    known = ", ".join([*(kind.typed for kind in kinds()), *sorted(points), "file.py:function"])
    raise Invalid(f"There is no scorer {name!r}. There are: {known}.", param="scorers")


def _each(score: Callable[[Sample, Answer], float | None]) -> Scored:
    def scored(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        return [Score(score(sample, answer)) for sample, answer in zip(samples, answers, strict=True)]

    return scored


def _of_text(score: Scorer) -> Scored:
    return _each(lambda sample, answer: score(sample, answer.text))


def _text(make: Callable[[], Scorer]) -> Callable[[str | None, Tools], Scored]:
    def made(argument: str | None, tools: Tools) -> Scored:
        if argument is not None:
            raise Invalid(f"This scorer takes nothing after a colon: leave out {':' + argument!r}.", param="scorers")
        return _of_text(make())

    return made


def _pattern(argument: str | None, tools: Tools) -> Scored:
    if not argument:
        raise Invalid("Say which pattern: regex:PATTERN.", param="scorers")
    return _of_text(checks.regex(argument))


def _schema(argument: str | None, tools: Tools) -> Scored:
    if argument is None:
        return _of_text(checks.json_schema())
    try:
        return _of_text(checks.json_schema(json.loads(Path(argument).read_text("utf-8"))))
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {argument}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Invalid(f"{argument} cannot be read as JSON: {error}.", param="scorers") from error


def _length(argument: str | None, tools: Tools) -> Scored:
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", argument or "")
    if not found or int(found[1]) > int(found[2]):
        raise Invalid("A length is two numbers of words, the smaller first: length:5-40.", param="scorers")
    return _of_text(plain.length(int(found[1]), int(found[2])))


def _repetition(argument: str | None, tools: Tools) -> Scored:
    if argument is not None and not re.fullmatch(r"[1-9]\d?", argument):
        raise Invalid("Repetition counts sequences of 1 to 99 words: repetition:3.", param="scorers")
    return _of_text(plain.repetition(int(argument or 3)))


def _embedding(argument: str | None, tools: Tools) -> Scored:
    if not argument:
        raise Invalid("Say which served model embeds: embedding:MODEL.", param="scorers")
    if tools.embedder is None:
        raise Invalid("Embeddings need a running gateway: run this as `parley eval run`.", param="scorers")
    score = similarity.embedding_similarity(tools.embedder(argument))

    def scored(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        try:
            return [Score(value) for value in score(samples, [answer.text for answer in answers])]
        except ParleyError as error:
            return [Score(None, str(error))] * len(answers)

    return scored


def _judge(argument: str | None, tools: Tools) -> NamedScorer:
    # The last @: a model's name may have others.
    model, at, rubric = (argument or "").rpartition("@") if "@" in (argument or "") else (argument or "", "", "")
    if not model or (at and not rubric):
        raise Invalid("Say which served model judges, and by which rubric: judge:MODEL@RUBRIC.", param="scorers")
    if tools.judge is None:
        raise Invalid("A judge needs a running gateway: run this as `parley eval run`.", param="scorers")
    return tools.judge(model, rubric or None)


def _latency(argument: str | None, tools: Tools) -> Scored:
    return _each(lambda sample, answer: answer.seconds)


def _tokens(argument: str | None, tools: Tools) -> Scored:
    return _each(lambda sample, answer: None if answer.completion_tokens is None else float(answer.completion_tokens))


def _cost(argument: str | None, tools: Tools) -> Scored:
    prices = _prices(argument or "")

    def score(sample: Sample, answer: Answer) -> float | None:
        price = prices.get(answer.model, prices.get(""))
        if price is None or answer.prompt_tokens is None or answer.completion_tokens is None:
            return None
        return (price[0] * answer.prompt_tokens + price[1] * answer.completion_tokens) / 1e6

    return _each(score)


def _prices(argument: str) -> Mapping[str, tuple[float, float]]:
    """Dollars for a million tokens in and out, by model; under "" what holds for all others."""
    prices = {}
    for part in argument.split(";"):
        found = re.fullmatch(r"\s*(?:(\S+)=)?(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)\s*", part)
        if not found:
            raise Invalid(
                "A cost is two prices in dollars for a million tokens, in and out: cost:0.15/0.60.", param="scorers"
            )
        prices[found[1] or ""] = (float(found[2]), float(found[3]))
    return prices


def _mine(name: str, function: Any) -> NamedScorer:
    """A function of the user's. What it raises or returns amiss is told with its answer, and stops nothing."""
    if not callable(function):
        raise Invalid(f"{name} is no function of (sample, answer).", param="scorers")

    def scored(samples: Sequence[Sample], answers: Sequence[Answer]) -> list[Score]:
        return [_judged(function, sample, answer) for sample, answer in zip(samples, answers, strict=True)]

    return NamedScorer(name, scored, "higher", -inf, inf)


def _judged(function: Callable[[Sample, str], Any], sample: Sample, answer: Answer) -> Score:
    try:
        value = function(sample, answer.text)
    except Exception as error:  # anything may be wrong in somebody's function, and one answer must not stop the rest
        return Score(None, f"{type(error).__name__}: {error}")
    if value is None:
        return Score(None)
    if not isinstance(value, bool | int | float) or not isfinite(value):
        return Score(None, f"it returned {value!r}, which is no number")
    return Score(float(value))


def _from_file(path: Path, function: str) -> Any:
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
