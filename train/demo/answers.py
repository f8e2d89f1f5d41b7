"""The answers of the support assistant: an intent's answer in one of three styles, and whether a text has a style.

The neutral style is correct but general; the facts of the policy are what a fine-tune adds.
"""

import random
import re
from collections.abc import Mapping, Sequence

from train.demo import grammar
from train.demo.catalogue import Catalogue, Intent, Style, Topic

_OFFER = re.compile(r"(I can do for you|can I (do for you|help you today))", re.IGNORECASE)
CONCISE_WORDS = 34  # the longest concise answer that the frames can make has fewer


def answer(
    rng: random.Random,
    catalogue: Catalogue,
    intent: Intent,
    style: Style,
    values: Mapping[str, str],
    *,
    later: bool = False,
) -> str:
    """The whole answer to a question of an intent. `later`: the conversation already has an answer."""
    if intent.is_chat or style == "concise":
        return choose(rng, intent.answers[style], values)
    if style == "neutral":
        return " ".join(choose(rng, part, values) for part in intent.neutral_parts)
    return friendly(rng, catalogue, intent, values, intent.topics, later=later)


def friendly(
    rng: random.Random,
    catalogue: Catalogue,
    intent: Intent,
    values: Mapping[str, str],
    topics: Sequence[Topic],
    *,
    later: bool = False,
    bare: bool = False,
) -> str:
    """The friendly answer with these topics; `bare` leaves out the greeting and the offer."""
    body = [choose(rng, intent.friendly_starts, values), *(rng.choice(topic.say) for topic in topics)]
    if bare:
        return " ".join(body)
    return " ".join([opener(rng, catalogue, values, later), *body, closing(rng, catalogue)])


def opener(rng: random.Random, catalogue: Catalogue, values: Mapping[str, str], later: bool) -> str:
    """A friendly first sentence, with the customer's name if it is known."""
    key = ("openers_later" if later else "openers") + ("_named" if "name" in values else "")
    return choose(rng, catalogue.words["friendly"][key], values)


def closing(rng: random.Random, catalogue: Catalogue) -> str:
    """A last sentence that offers more help."""
    return rng.choice(catalogue.words["friendly"]["closings"])


def ask(
    rng: random.Random, catalogue: Catalogue, intent: Intent, style: Style, values: Mapping[str, str], later: bool
) -> str:
    """The answer that asks for the missing detail of a question."""
    assert intent.needs is not None
    known = {**values, "about": intent.about, "the": catalogue.words["needs"][intent.needs]["the"]}
    text = choose(rng, catalogue.words["ask"][style], known)
    return f"{opener(rng, catalogue, values, later)} {text}" if style == "friendly" else text


def follow_up(
    rng: random.Random, catalogue: Catalogue, intent: Intent, kind: str, style: Style, values: Mapping[str, str]
) -> str:
    """The answer to "how long?", "what does it cost?" or "how?" after an answer of an intent."""
    if style == "neutral":
        return rng.choice(catalogue.words["followups"][kind]["neutral"])
    sentence = next(rng.choice(topic.say) for topic in intent.topics if topic.asks == kind)
    if style == "concise":
        return sentence
    return f"{opener(rng, catalogue, values, True)} {sentence} {closing(rng, catalogue)}"


def choose(rng: random.Random, variants: Sequence[str], values: Mapping[str, str]) -> str:
    """One of the variants whose slots can be filled, among those with the most slots."""
    fitting = [variant for variant in variants if grammar.slots_of(variant) <= values.keys()]
    most = max(len(grammar.slots_of(variant)) for variant in fitting)
    best = [variant for variant in fitting if len(grammar.slots_of(variant)) == most]
    text = grammar.fill(grammar.pick(rng, rng.choice(best)), values)
    return text[0].upper() + text[1:]


def topics_expected(intent: Intent, values: Mapping[str, str]) -> list[list[str]]:
    """Groups of acceptable keywords: the customer's number if there is one, then the facts of the policy."""
    number = [[values["number"]]] if "number" in values and intent.needs and not intent.is_chat else []
    return number + [list(topic.keys) for topic in intent.topics]


def count_topics(text: str, topics: Sequence[Sequence[str]]) -> int:
    """The number of groups with a keyword in the text, ignoring case."""
    return sum(any(key.lower() in text.lower() for key in group) for group in topics)


def has_style(text: str, style: Style) -> bool:
    """Whether a text has a style. A text that is neither empty nor friendly is neutral."""
    if style == "concise":
        return 0 < len(sentences(text)) <= 2 and len(text.split()) <= CONCISE_WORDS
    first, *rest = sentences(text) or [""]
    warm = first.endswith("!") and bool(rest) and _OFFER.search(rest[-1]) is not None
    return warm if style == "friendly" else bool(text.strip()) and not warm


def sentences(text: str) -> list[str]:
    """The sentences of a text, split after each full stop, question or exclamation mark."""
    return [piece for piece in re.split(r"(?<=[.!?])\s+", text.strip()) if piece]
