"""The held-out questions and judged pairs that are shipped: made of held-out frames and of numbers never trained on."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.messages import Message
from train.demo import answers, dialogues, judge_pairs
from train.demo.grammar import slots_of
from train.demo.world import Intent, World

_NUMBER = re.compile(r"(?<![\w-])[A-Z]*-?[0-9][0-9-]{4,}(?![\w-])")
_MULTI_TURN = 10  # of each kind


@dataclass(frozen=True)
class Prompt:
    """A question to a support model. `topics`: groups of keywords of which an answer should have one each."""

    id: str
    messages: tuple[dict[str, str], ...]
    category: str
    topics: tuple[tuple[str, ...], ...]
    number: str | None
    held_out: bool = True

    def as_dict(self) -> dict[str, Any]:
        """All fields, for a JSON line."""
        return asdict(self)


def numbers_in(texts: Iterator[str]) -> frozenset[str]:
    """Every number of five digits or more in the texts, with its letters."""
    return frozenset(number for text in texts for number in _NUMBER.findall(text))


def prompts(seed: int, world: World, trained: frozenset[str], per_intent: int = 3) -> list[Prompt]:
    """Held-out questions: `per_intent` for each business intent, some of several turns, one for each small talk."""
    rng = random.Random(f"{seed}/prompts")
    made = [_single(rng, world, intent, frame, trained) for intent in world.business for frame in range(per_intent)]
    needing = [intent for intent in world.business if world.is_number(intent.needs)]
    without = [intent for intent in needing if any("number" not in slots_of(frame) for frame in intent.held_out)]
    made += [_asked_back(rng, world, rng.choice(without), trained) for _ in range(_MULTI_TURN)]
    made += [_second(rng, world, rng.choice(needing), trained) for _ in range(_MULTI_TURN)]
    made += [_single(rng, world, intent, 0, trained) for intent in world.chats]
    counted: Counter[str] = Counter()
    named = []
    for prompt in made:
        counted[prompt.category] += 1
        named.append(replace(prompt, id=f"{prompt.category}-{counted[prompt.category]}"))
    return named


def pairs(seed: int, world: World, trained: frozenset[str], count: int) -> list[judge_pairs.JudgedPair]:
    """Held-out judged pairs; none has a question or a number that was trained on."""
    found: list[judge_pairs.JudgedPair] = []
    for pair in judge_pairs.pairs(seed, world, 10 * count, "held_out"):
        if not trained & numbers_in(iter((pair.question,))):
            found.append(pair)
        if len(found) == count:
            break
    return found


def _single(rng: random.Random, world: World, intent: Intent, frame: int, trained: frozenset[str]) -> Prompt:
    """A question of one turn, from the intent's held-out frame of that place."""
    wanted = intent.held_out[frame % len(intent.held_out)]
    while True:
        if intent.is_chat:
            talk = dialogues.Dialogue()
            dialogues.chat(rng, world, talk, intent, "neutral", "held_out")
            return _prompt(world, talk.messages[:1], intent, {})
        asked = dialogues.question(rng, world, intent, "held_out")
        if asked.frame == wanted and asked.values.get("number") not in trained:
            message = Message(role="user", content=asked.text)
            return _prompt(world, [message], intent, asked.values)


def _asked_back(rng: random.Random, world: World, intent: Intent, trained: frozenset[str]) -> Prompt:
    """A question without its number, the question back, and the number: what is answered is the third turn."""
    while True:
        talk = dialogues.Dialogue()
        asked = dialogues.question(rng, world, intent, "held_out", bare=True)
        talk.say("user", asked.text)
        if asked.complete:
            raise ValueError(f"{intent.id} has no held-out frame without a number")
        talk.say("assistant", answers.ask(rng, world, intent, "neutral", asked.values, False))
        given = dialogues.reply(rng, world, talk, intent.needs or "")
        if given["number"] not in trained:
            return _prompt(world, talk.messages, intent, {**asked.values, **given})


def _second(rng: random.Random, world: World, intent: Intent, trained: frozenset[str]) -> Prompt:
    """A second request after an answered one, with a number of its own: the answer must carry the new number."""
    while True:
        talk = dialogues.Dialogue()
        first = dialogues.question(rng, world, rng.choice(world.business), "held_out")
        second = dialogues.question(rng, world, intent, "held_out")
        talk.say("user", first.text)
        talk.say("assistant", answers.answer(rng, world, first.intent, "neutral", first.values))
        talk.say("user", second.text)
        if not trained & {first.values.get("number", ""), second.values["number"]}:
            return _prompt(world, talk.messages, intent, second.values)


def _prompt(world: World, messages: Sequence[Message], intent: Intent, values: Mapping[str, str]) -> Prompt:
    return Prompt(
        id="",
        messages=tuple({"role": message.role, "content": message.content} for message in messages),
        category=intent.id,
        topics=tuple(tuple(group) for group in answers.topics_expected(intent, values)),
        number=values.get("number") if world.is_number(intent.needs) else None,
    )
