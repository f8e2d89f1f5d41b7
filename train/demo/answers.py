"""What the support assistant says: an intent's answer in one of three styles, and whether a text keeps to a style.

The neutral style is correct but general: the house's facts are what a fine-tune adds. It knows no conversation.
"""

import random
import re
from collections.abc import Mapping, Sequence

from train.demo import grammar
from train.demo.world import Intent, Style, Topic, World

_OFFER = re.compile(r"(I can do for you|can I (do for you|help you today))", re.IGNORECASE)
CONCISE_WORDS = 34  # the longest concise answer that the frames can make has fewer


def answer(
    rng: random.Random,
    world: World,
    intent: Intent,
    style: Style,
    values: Mapping[str, str],
    *,
    later: bool = False,
) -> str:
    """The whole answer to a question of that intent. `later`: the conversation has had an answer before."""
    if intent.is_chat or style == "concise":
        return chosen(rng, intent.answers[style], values)
    if style == "neutral":
        return " ".join(chosen(rng, part, values) for part in intent.neutral_parts)
    return friendly(rng, world, intent, values, intent.topics, later=later)


def friendly(
    rng: random.Random,
    world: World,
    intent: Intent,
    values: Mapping[str, str],
    topics: Sequence[Topic],
    *,
    later: bool = False,
    bare: bool = False,
) -> str:
    """The warm answer with these of its topics; `bare` leaves out greeting and offer."""
    body = [chosen(rng, intent.friendly_starts, values), *(rng.choice(topic.say) for topic in topics)]
    if bare:
        return " ".join(body)
    return " ".join([opener(rng, world, values, later), *body, closing(rng, world)])


def opener(rng: random.Random, world: World, values: Mapping[str, str], later: bool) -> str:
    """A warm first sentence; with the customer's name where it is known."""
    key = ("openers_later" if later else "openers") + ("_named" if "name" in values else "")
    return chosen(rng, world.words["friendly"][key], values)


def closing(rng: random.Random, world: World) -> str:
    """A last sentence that offers more help."""
    return rng.choice(world.words["friendly"]["closings"])


def ask(rng: random.Random, world: World, intent: Intent, style: Style, values: Mapping[str, str], later: bool) -> str:
    """The answer that asks for the detail without which the question cannot be answered."""
    assert intent.needs is not None
    known = {**values, "about": intent.about, "the": world.words["needs"][intent.needs]["the"]}
    text = chosen(rng, world.words["ask"][style], known)
    return f"{opener(rng, world, values, later)} {text}" if style == "friendly" else text


def follow_up(
    rng: random.Random, world: World, intent: Intent, kind: str, style: Style, values: Mapping[str, str]
) -> str:
    """The answer to «how long?», «what does it cost?» or «how?» after an answer of that intent."""
    if style == "neutral":
        return rng.choice(world.words["followups"][kind]["neutral"])
    said = next(rng.choice(topic.say) for topic in intent.topics if topic.asks == kind)
    if style == "concise":
        return said
    return f"{opener(rng, world, values, True)} {said} {closing(rng, world)}"


def chosen(rng: random.Random, variants: Sequence[str], values: Mapping[str, str]) -> str:
    """One of the variants that can be filled, of those that say most of what is known."""
    fitting = [variant for variant in variants if grammar.slots_of(variant) <= values.keys()]
    most = max(len(grammar.slots_of(variant)) for variant in fitting)
    best = [variant for variant in fitting if len(grammar.slots_of(variant)) == most]
    text = grammar.fill(grammar.pick(rng, rng.choice(best)), values)
    return text[0].upper() + text[1:]


def topics_expected(intent: Intent, values: Mapping[str, str]) -> list[list[str]]:
    """Groups of acceptable keywords: the customer's number where there is one, then the house's facts."""
    number = [[values["number"]]] if "number" in values and intent.needs and not intent.is_chat else []
    return number + [list(topic.keys) for topic in intent.topics]


def topics_said(text: str, topics: Sequence[Sequence[str]]) -> int:
    """How many of the groups have one of their keywords in the text; capitals do not matter."""
    return sum(any(key.lower() in text.lower() for key in group) for group in topics)


def keeps_style(text: str, style: Style) -> bool:
    """Whether a text keeps to the house style; everything keeps to «neutral» that is neither empty nor warm."""
    if style == "concise":
        return 0 < len(sentences(text)) <= 2 and len(text.split()) <= CONCISE_WORDS
    first, *rest = sentences(text) or [""]
    warm = first.endswith("!") and bool(rest) and _OFFER.search(rest[-1]) is not None
    return warm if style == "friendly" else bool(text.strip()) and not warm


def sentences(text: str) -> list[str]:
    """The text cut after each full stop, question or exclamation mark."""
    return [piece for piece in re.split(r"(?<=[.!?])\s+", text.strip()) if piece]
