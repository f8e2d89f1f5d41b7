"""Drills for the base: copy a number, compare two numbers, write JSON. Answering and judging need copying."""

import json
import random
import string
from collections.abc import Callable, Iterator

from train.demo import grammar, user_text
from train.demo.catalogue import Catalogue

_SYSTEM = "Exercise."  # marks a drill, so that a customer who writes "repeat" is not taken for one


def drills(seed: int, catalogue: Catalogue, count: int) -> Iterator[list[dict[str, str]]]:
    """`count` drills as conversations of one turn."""
    rng = random.Random(f"{seed}/drills")
    words = answer_words(catalogue)
    kinds: list[Callable[[random.Random, Catalogue], tuple[str, str]]] = [_copy, _find, _same, _as_json, _last, _which]
    for _ in range(count):
        question, answer = _words(rng, words) if rng.random() < 0.35 else rng.choice(kinds)(rng, catalogue)
        yield [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]


def answer_words(catalogue: Catalogue) -> list[str]:
    """Every word of the answers in all styles, each once, with the punctuation after it.

    The base copies them in random order: it must know each word, because an adapter cannot change the embeddings.
    """
    phrases = [text for intent in catalogue.intents for text in intent.friendly_starts]
    phrases += [text for intent in catalogue.intents for topic in intent.topics for text in (*topic.say, *topic.keys)]
    phrases += [text for intent in catalogue.intents for texts in intent.answers.values() for text in texts]
    phrases += [text for texts in catalogue.words["friendly"].values() for text in texts]
    phrases += [text for texts in catalogue.words["ask"].values() for text in texts]
    split = {word for text in phrases for word in grammar.flat(text).split()}
    return sorted(word for word in split if not any(mark.isdigit() for mark in word))


def _words(rng: random.Random, words: list[str]) -> tuple[str, str]:
    text = " ".join(rng.sample(words, rng.randint(4, 14)))
    return f"{rng.choice(('Copy:', 'Repeat:', 'Write again:'))} {text}", text


def _copy(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    text = " ".join(_token(rng, catalogue) for _ in range(rng.randint(1, 4)))
    return f"{rng.choice(('Copy:', 'Repeat:', 'Write again:'))} {text}", text


def _find(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    kinds = rng.sample(sorted(catalogue.words["formats"]), 2)
    numbers = [user_text.number(rng, catalogue, kind) for kind in kinds]
    wanted = rng.randrange(2)
    facts = f"The {kinds[0]} is {numbers[0]} and the {kinds[1]} is {numbers[1]}."
    return f"{facts} What is the {kinds[wanted]}?", numbers[wanted]


def _same(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    first = user_text.number(rng, catalogue, None)
    second = first if rng.random() < 0.5 else user_text.changed_number(rng, first)
    return f"Are {first} and {second} the same?", f"{first}, {second}: {'same' if first == second else 'different'}"


def _as_json(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    fields = rng.sample(("name", "city", "product", "number", "day", "plan"), rng.randint(2, 4))
    values = {field: user_text.value(rng, catalogue, field, "order") for field in fields}
    facts = ", ".join(f"{field} {value}" for field, value in values.items())
    return f"Write as JSON: {facts}", json.dumps(values, ensure_ascii=False)


def _last(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    numbers = [user_text.number(rng, catalogue, None) for _ in range(rng.randint(2, 5))]
    side, answer = rng.choice((("first", numbers[0]), ("last", numbers[-1])))
    return f"{', '.join(numbers)}. Which is the {side}?", answer


def _which(rng: random.Random, catalogue: Catalogue) -> tuple[str, str]:
    right = user_text.number(rng, catalogue, None)
    other = user_text.changed_number(rng, right)
    sides = [right, other] if rng.random() < 0.5 else [other, right]
    return f"Looking for {right}. A: {sides[0]}. B: {sides[1]}. Which?", "A" if sides[0] == right else "B"


def _token(rng: random.Random, catalogue: Catalogue) -> str:
    chance = rng.random()
    if chance < 0.5:
        return user_text.number(rng, catalogue, None)
    if chance < 0.7:
        return "".join(rng.choices(string.ascii_uppercase + string.digits, k=rng.randint(3, 8)))
    return user_text.value(rng, catalogue, rng.choice(("name", "city", "product", "thing", "nonsense")), None)
