"""Exercises for the base: copy a number, compare two, write JSON. Answering and judging both need copying."""

import json
import random
import string
from collections.abc import Callable, Iterator

from train.demo import grammar, user_text
from train.demo.world import World

_SYSTEM = "Exercise."  # marks a drill, so that a customer who says «repeat» is still answered as a customer


def drills(seed: int, world: World, count: int) -> Iterator[list[dict[str, str]]]:
    """`count` short exercises as conversations of one turn."""
    rng = random.Random(f"{seed}/drills")
    words = answer_words(world)
    kinds: list[Callable[[random.Random, World], tuple[str, str]]] = [_copy, _find, _same, _as_json, _last, _which]
    for _ in range(count):
        asked, answer = _words(rng, words) if rng.random() < 0.35 else rng.choice(kinds)(rng, world)
        yield [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]


def answer_words(world: World) -> list[str]:
    """Every word of every answer in any style, each once, with the mark that follows it.

    The base copies them shuffled: it must know each word before an adapter, which cannot change the embeddings, can
    teach it what the house says with them.
    """
    said = [text for intent in world.intents for text in intent.friendly_starts]
    said += [text for intent in world.intents for topic in intent.topics for text in (*topic.say, *topic.keys)]
    said += [text for intent in world.intents for texts in intent.answers.values() for text in texts]
    said += [text for texts in world.words["friendly"].values() for text in texts]
    said += [text for texts in world.words["ask"].values() for text in texts]
    split = {word for text in said for word in grammar.flat(text).split()}
    return sorted(word for word in split if not any(mark.isdigit() for mark in word))


def _words(rng: random.Random, words: list[str]) -> tuple[str, str]:
    text = " ".join(rng.sample(words, rng.randint(4, 14)))
    return f"{rng.choice(('Copy:', 'Repeat:', 'Write again:'))} {text}", text


def _copy(rng: random.Random, world: World) -> tuple[str, str]:
    text = " ".join(_token(rng, world) for _ in range(rng.randint(1, 4)))
    return f"{rng.choice(('Copy:', 'Repeat:', 'Write again:'))} {text}", text


def _find(rng: random.Random, world: World) -> tuple[str, str]:
    kinds = rng.sample(sorted(world.words["formats"]), 2)
    numbers = [user_text.number(rng, world, kind) for kind in kinds]
    wanted = rng.randrange(2)
    said = f"The {kinds[0]} is {numbers[0]} and the {kinds[1]} is {numbers[1]}."
    return f"{said} What is the {kinds[wanted]}?", numbers[wanted]


def _same(rng: random.Random, world: World) -> tuple[str, str]:
    first = user_text.number(rng, world, None)
    second = first if rng.random() < 0.5 else user_text.changed_number(rng, first)
    return f"Are {first} and {second} the same?", f"{first}, {second}: {'same' if first == second else 'different'}"


def _as_json(rng: random.Random, world: World) -> tuple[str, str]:
    fields = rng.sample(("name", "city", "product", "number", "day", "plan"), rng.randint(2, 4))
    values = {field: user_text.value(rng, world, field, "order") for field in fields}
    said = ", ".join(f"{field} {value}" for field, value in values.items())
    return f"Write as JSON: {said}", json.dumps(values, ensure_ascii=False)


def _last(rng: random.Random, world: World) -> tuple[str, str]:
    numbers = [user_text.number(rng, world, None) for _ in range(rng.randint(2, 5))]
    side, answer = rng.choice((("first", numbers[0]), ("last", numbers[-1])))
    return f"{', '.join(numbers)}. Which is the {side}?", answer


def _which(rng: random.Random, world: World) -> tuple[str, str]:
    right = user_text.number(rng, world, None)
    other = user_text.changed_number(rng, right)
    sides = [right, other] if rng.random() < 0.5 else [other, right]
    return f"Looking for {right}. A: {sides[0]}. B: {sides[1]}. Which?", "A" if sides[0] == right else "B"


def _token(rng: random.Random, world: World) -> str:
    chance = rng.random()
    if chance < 0.5:
        return user_text.number(rng, world, None)
    if chance < 0.7:
        return "".join(rng.choices(string.ascii_uppercase + string.digits, k=rng.randint(3, 8)))
    return user_text.value(rng, world, rng.choice(("name", "city", "product", "thing", "nonsense")), None)
