"""Prompting, few-shot, retrieval or fine-tuning: advice from the data and a few answers, each point with its reason.

Every rule stands in one table, `RULES`; `advise` adds up what they say. The rules follow OpenAI's «Optimizing LLM
accuracy» (what the model must know is context, how it must act is behaviour; developers.openai.com), Ovadia et al.,
«Fine-Tuning or Retrieval?» (arXiv:2312.05934: retrieval beats tuning for facts), LIMA (arXiv:2305.11206: about a
thousand good examples teach a style) and Gekhman et al., «Does Fine-Tuning LLMs on New Knowledge Encourage
Hallucinations?» (arXiv:2405.05904). It is advice, not a measurement: compare two candidates blind before you decide.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from models.errors import Invalid
from train.data.checks import Data, check
from train.data.conversations import Conversation, Example
from train.data.readers import Columns
from train.data.reports import CheckedData

Choice = Literal["prompting", "few-shot", "retrieval", "fine-tuning"]
CHOICES: tuple[Choice, ...] = ("prompting", "few-shot", "retrieval", "fine-tuning")
_SAMPLE = 100
_TOGETHER = 3  # points from which a second way is advised beside the first

# Words that carry a fact of this one row: numbers, codes, dates, addresses, and names inside a sentence.
_FACT = re.compile(r"https?://\S+|\S+@\S+\.\S+|\b[\w-]*\d[\w:./-]*\b|(?<=[a-z,;] )[A-Z][\w'’-]+")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Facts:
    """What the data shows. Shares are from 0 to 1.

    `prompt_words` and `answer_words` are medians. `distinct_prompts` is the share of different prompts, `variety` the
    share of different word pairs in a sample of 100 answers. `one_format` is the share of answers in the most frequent
    format (`format`), `one_system` of conversations with the most frequent system prompt. `with_own_facts` is the share
    of answers with a number, code, address or name that their prompt does not have and hardly another answer has: what
    a model would have to know by heart. `repeated_opening` is the share of answers that begin with one of the ten most
    frequent openings of three words.
    """

    examples: int
    prompt_words: int
    answer_words: int
    system_words: int
    distinct_prompts: float
    variety: float
    format: str
    one_format: float
    one_system: float
    with_own_facts: float
    repeated_opening: float


@dataclass(frozen=True)
class Answers:
    """What the data cannot show; None where nobody said.

    `knowledge_changes`: how often what is true changes ("never", "monthly", "weekly", "daily"). `tried`: the furthest
    that was tried ("nothing", "prompt", "few-shot", "retrieval"). `documents`: there are texts that hold the facts.
    `latency_ms`: the longest that a user may wait for the first word. `requests_per_day`. `at_home`: data must not
    leave your own machines. `citations`: answers must name their source.
    """

    knowledge_changes: Literal["never", "monthly", "weekly", "daily"] | None = None
    tried: Literal["nothing", "prompt", "few-shot", "retrieval"] | None = None
    documents: bool | None = None
    latency_ms: int | None = None
    requests_per_day: int | None = None
    at_home: bool | None = None
    citations: bool | None = None


@dataclass(frozen=True)
class Rule:
    """If `when` holds, each way in `points` gets its points, with a reason; `change` says what would turn it."""

    name: str
    when: Callable[[Facts, Answers], bool]
    points: dict[Choice, int]
    reason: str
    change: str


RULES: tuple[Rule, ...] = (
    Rule(
        "nothing tried",
        lambda facts, said: said.tried in (None, "nothing"),
        {"prompting": 3, "fine-tuning": -1},
        "no prompt has been tried yet: it is the cheapest try, and the measure for everything else",
        "a written prompt, judged on 20 or more real requests",
    ),
    Rule(
        "a prompt was not enough",
        lambda facts, said: said.tried == "prompt",
        {"few-shot": 3, "prompting": -1},
        "a prompt alone was not good enough, and examples in it are the next cheapest try",
        "a try with 3 to 8 examples in the prompt",
    ),
    Rule(
        "examples were not enough",
        lambda facts, said: said.tried in ("few-shot", "retrieval"),
        {"fine-tuning": 3, "prompting": -2, "few-shot": -1},
        "prompt and examples have been tried: what remains is behaviour, which training teaches",
        "a prompt that is good enough after all",
    ),
    Rule(
        "knowledge moves fast",
        lambda facts, said: said.knowledge_changes in ("weekly", "daily"),
        {"retrieval": 4, "fine-tuning": -2},
        "what is true changes faster than a model can be trained again",
        "facts that stay true for months",
    ),
    Rule(
        "knowledge stays",
        lambda facts, said: said.knowledge_changes == "never",
        {"fine-tuning": 1, "retrieval": -1},
        "what is true does not change, so what is learnt stays right",
        "facts that begin to change",
    ),
    Rule(
        "documents hold the facts",
        lambda facts, said: bool(said.documents),
        {"retrieval": 2},
        "there are documents to find the facts in",
        "no such documents, or nobody who keeps them right",
    ),
    Rule(
        "no documents",
        lambda facts, said: said.documents is False,
        {"retrieval": -3},
        "there is nothing to retrieve from",
        "documents that hold what answers need",
    ),
    Rule(
        "sources must be named",
        lambda facts, said: bool(said.citations),
        {"retrieval": 3, "fine-tuning": -1},
        "a trained model cannot say where it has a fact from",
        "answers that need no source",
    ),
    Rule(
        "answers are full of facts",
        lambda facts, said: facts.with_own_facts >= 0.4,
        {"retrieval": 3, "fine-tuning": -1},
        "{with_own_facts:.0%} of the answers hold facts of their own (numbers, codes, names that the prompt does not "
        "give): training on these teaches to invent such facts",
        "answers whose facts stand in the prompt",
    ),
    Rule(
        "answers are style",
        lambda facts, said: facts.with_own_facts < 0.15 and facts.examples >= 50,
        {"fine-tuning": 2},
        "only {with_own_facts:.0%} of the answers hold facts of their own: they show how to answer, not what is true",
        "answers that depend on facts",
    ),
    Rule(
        "one format",
        lambda facts, said: facts.one_format >= 0.95 and facts.format != "prose" and facts.examples >= 50,
        {"fine-tuning": 2, "few-shot": 1},
        "{one_format:.0%} of the answers are {format}: one strict format is what training teaches best",
        "a format that a schema enforces at the server (response_format)",
    ),
    Rule(
        "mixed formats",
        lambda facts, said: facts.one_format < 0.8,
        {"fine-tuning": -1},
        "only {one_format:.0%} of the answers have one format ({format}): a model would learn the mixture",
        "answers brought into one format",
    ),
    Rule(
        "one voice",
        lambda facts, said: facts.repeated_opening >= 0.3 and facts.examples >= 50,
        {"fine-tuning": 1},
        "{repeated_opening:.0%} of the answers open in one of ten ways: a voice that can be learnt",
        "answers of many writers",
    ),
    Rule(
        "too few",
        lambda facts, said: facts.examples < 50,
        {"fine-tuning": -4, "few-shot": 2},
        "{examples:,} examples are few to train on (a style shows from 50 on), and enough to choose some for a prompt",
        "50 examples or more, 500 for something hard; `parley data synthesise` makes more from good seeds",
    ),
    Rule(
        "enough",
        lambda facts, said: facts.examples >= 500,
        {"fine-tuning": 2},
        "{examples:,} examples are enough to teach a behaviour",
        "examples that turn out to be wrong: a thousand good ones beat many poor ones",
    ),
    Rule(
        "the same questions",
        lambda facts, said: facts.distinct_prompts < 0.5,
        {"fine-tuning": -2, "few-shot": 1},
        "only {distinct_prompts:.0%} of the prompts differ: a few examples say it all",
        "more kinds of request",
    ),
    Rule(
        "the same answers",
        lambda facts, said: facts.variety < 0.2,
        {"fine-tuning": -1, "few-shot": 1},
        "the answers repeat themselves ({variety:.0%} of their word pairs are new): a few examples say much of it",
        "answers of more kinds",
    ),
    Rule(
        "a long system prompt",
        lambda facts, said: facts.system_words >= 300 and facts.one_system >= 0.5,
        {"fine-tuning": 2},
        "each request carries a system prompt of {system_words:,} words, which a trained model no longer needs",
        "a server that caches the prompt's prefix, as vLLM does",
    ),
    Rule(
        "must be fast",
        lambda facts, said: said.latency_ms is not None and said.latency_ms < 1_000,
        {"fine-tuning": 2, "retrieval": -1, "few-shot": -1},
        "{latency_ms:,} ms leave no room for long prompts and look-ups; a small tuned model is quick",
        "a second or more to wait",
    ),
    Rule(
        "asked very often",
        lambda facts, said: (said.requests_per_day or 0) >= 10_000,
        {"fine-tuning": 2, "few-shot": -1},
        "at {requests_per_day:,} requests a day short prompts on a small model pay for the training",
        "far fewer requests",
    ),
    Rule(
        "asked seldom",
        lambda facts, said: said.requests_per_day is not None and said.requests_per_day < 100,
        {"prompting": 1, "few-shot": 1, "fine-tuning": -1},
        "at {requests_per_day:,} requests a day long prompts on a large model cost little",
        "far more requests",
    ),
    Rule(
        "data stays at home",
        lambda facts, said: bool(said.at_home),
        {"fine-tuning": 1},
        "data must stay on your machines, where models are smaller and gain more from training",
        "leave to use a large hosted model",
    ),
)


@dataclass(frozen=True)
class Reason:
    """One rule that held: what it says, for and against which way, and what would change it."""

    rule: str
    points: dict[Choice, int]
    reason: str
    change: str


@dataclass(frozen=True)
class Advice:
    """What to do first, what beside it, and why; `scores` for every way, and what was not said."""

    choice: Choice
    beside: tuple[Choice, ...]
    scores: dict[str, int]
    reasons: tuple[Reason, ...]
    unanswered: tuple[str, ...]
    facts: Facts
    close: bool

    def reasons_for(self, choice: Choice) -> tuple[Reason, ...]:
        """The reasons that speak for or against one way, the weightiest first."""
        about = [reason for reason in self.reasons if reason.points.get(choice)]
        return tuple(sorted(about, key=lambda reason: -abs(reason.points[choice])))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def advise(facts: Facts, answers: Answers | None = None) -> Advice:
    """What the rules say of a data set and a few answers. Pure: the same facts and answers, the same advice."""
    said = answers or Answers()
    values = asdict(facts) | asdict(said)
    held = tuple(
        Reason(rule.name, dict(rule.points), rule.reason.format(**values), rule.change)
        for rule in RULES
        if rule.when(facts, said)
    )
    scores: dict[str, int] = {choice: sum(reason.points.get(choice, 0) for reason in held) for choice in CHOICES}
    ranked = sorted(CHOICES, key=lambda choice: (-scores[choice], CHOICES.index(choice)))
    # Retrieval and training answer different needs, so both may be right; prompts are part of every way anyway.
    pairs = {"retrieval": ("fine-tuning", "few-shot"), "fine-tuning": ("retrieval",), "few-shot": ("retrieval",)}
    beside = tuple(
        choice
        for choice in ranked[1:]
        if scores[choice] >= _TOGETHER and choice in pairs.get(ranked[0], ("retrieval",))
    )
    return Advice(
        choice=ranked[0],
        beside=beside,
        scores=scores,
        reasons=held,
        unanswered=tuple(name for name, value in asdict(said).items() if value is None),
        facts=facts,
        close=scores[ranked[0]] - scores[ranked[1]] <= 1,
    )


def find_facts(data: Data | CheckedData, columns: Columns | None = None) -> Facts:
    """Looks at a data set.

    Raises:
        Invalid: no example without errors. NotFound: no such file.
    """
    checked = data if isinstance(data, CheckedData) else check(data, columns)
    # Of preference pairs the preferred side: it is what should be said.
    examples = checked.examples or tuple(
        Example(pair.line, Conversation((*pair.prompt, *pair.chosen), pair.tools)) for pair in checked.preferences
    )
    if not examples:
        raise Invalid("There is no example without errors: `parley data check` says what to mend.", param="data")
    talks = [example.conversation for example in examples]
    answers = [_answers(example) for example in examples]
    prompts = [_prompt(talk) for talk in talks]
    systems = Counter(_system(talk) for talk in talks)
    system, with_system = systems.most_common(1)[0]
    formats = Counter(_format(text) for text in answers)
    format_, with_format = formats.most_common(1)[0]
    openings = Counter(" ".join(text.split()[:3]).casefold() for text in answers)
    # Of a sample of one size, because the share of new pairs falls with every text that is added.
    sample = answers[:: max(1, len(answers) // _SAMPLE)][:_SAMPLE]
    pairs = Counter(pair for text in sample for pair in _pairs(text))
    return Facts(
        examples=len(talks),
        prompt_words=_median([len(text.split()) for text in prompts]),
        answer_words=_median([len(text.split()) for text in answers]),
        system_words=len(system.split()),
        distinct_prompts=len({" ".join(text.casefold().split()) for text in prompts}) / len(prompts),
        variety=len(pairs) / max(1, sum(pairs.values())),
        format=format_,
        one_format=with_format / len(answers),
        one_system=with_system / len(talks),
        with_own_facts=_share_with_own_facts(prompts, systems, answers),
        repeated_opening=sum(number for _, number in openings.most_common(10)) / len(answers),
    )


def _answers(example: Example) -> str:
    messages = example.conversation.messages
    return "\n".join(messages[place].content for place in example.learnt)


def _prompt(talk: Conversation) -> str:
    return "\n".join(message.content for message in talk.messages if message.role not in ("assistant", "system"))


def _system(talk: Conversation) -> str:
    return next((message.content for message in talk.messages if message.role == "system"), "")


def _format(text: str) -> str:
    """What an answer looks like at first sight."""
    stripped = text.strip()
    if stripped.startswith(("{", "[")) and stripped.endswith(("}", "]")):
        return "JSON"
    if stripped.startswith("<") and stripped.endswith(">"):
        return "XML"
    if "```" in stripped:
        return "code"
    if re.search(r"^(\s*([-*•]|\d+[.)])\s|#{1,4} )", stripped, re.MULTILINE):
        return "lists"
    return "label" if len(stripped.split()) <= 3 else "prose"


def _share_with_own_facts(prompts: Sequence[str], systems: Counter[str], answers: Sequence[str]) -> float:
    """Answers with a fact that is not in their prompt or system prompt, and that at most 2 % of the answers share."""
    found = [set(_FACT.findall(text)) for text in answers]
    spread_over = Counter(fact for facts in found for fact in facts)
    often = max(2, len(answers) // 50)
    system = " ".join(systems)
    own = [
        any(fact not in prompt and fact not in system and spread_over[fact] <= often for fact in facts)
        for prompt, facts in zip(prompts, found, strict=True)
    ]
    return sum(own) / len(own)


def _pairs(text: str) -> list[tuple[str, str]]:
    words = [word.casefold() for word in _WORD.findall(text)]
    return list(pairwise(words))


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]
