"""The shipped held-out prompts and judged pairs, made from held-out frames and numbers that are not trained on."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.chat.messages import Message
from train.demo import answers, dialogues, judge_pairs
from train.demo.catalogue import Catalogue, Intent
from train.demo.grammar import slots_of

_NUMBER = re.compile(r"(?<![\w-])[A-Z]*-?[0-9][0-9-]{4,}(?![\w-])")
_MULTI_TURN = 10  # of each kind


@dataclass(frozen=True)
class Prompt:
    """A prompt for a support model. `topics`: groups of keywords; an answer should have one of each group."""

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
    """Every number of five or more digits in the texts, with its letters."""
    return frozenset(number for text in texts for number in _NUMBER.findall(text))


def prompts(
    seed: int, catalogue: Catalogue, trained: frozenset[str], per_intent: int = 3, *, clean: bool = False
) -> list[Prompt]:
    """Held-out prompts: `per_intent` for each business intent, some with several turns, one for each small talk.

    They are noisy like the training text, to measure robustness; with `clean` in clean English, for people to read.
    """
    maker = _Maker(random.Random(f"{seed}/prompts"), catalogue, trained, clean)
    rng = maker.rng
    made = [maker.single(intent, frame) for intent in catalogue.business for frame in range(per_intent)]
    needing = [intent for intent in catalogue.business if catalogue.is_number(intent.needs)]
    without = [intent for intent in needing if any("number" not in slots_of(frame) for frame in intent.held_out)]
    made += [maker.with_missing_number(rng.choice(without)) for _ in range(_MULTI_TURN)]
    made += [maker.second_request(rng.choice(needing)) for _ in range(_MULTI_TURN)]
    made += [maker.single(intent, 0) for intent in catalogue.chats]
    counted: Counter[str] = Counter()
    named = []
    for prompt in made:
        counted[prompt.category] += 1
        named.append(replace(prompt, id=f"{prompt.category}-{counted[prompt.category]}"))
    return named


def pairs(seed: int, catalogue: Catalogue, trained: frozenset[str], count: int) -> list[judge_pairs.JudgedPair]:
    """Held-out judged pairs; none has a question or a number of the training text."""
    kept: list[judge_pairs.JudgedPair] = []
    for pair in judge_pairs.pairs(seed, catalogue, 10 * count, "held_out"):
        if not trained & numbers_in(iter((pair.question,))):
            kept.append(pair)
        if len(kept) == count:
            break
    return kept


@dataclass(frozen=True)
class _Maker:
    """Makes single prompts, without numbers of the training text."""

    rng: random.Random
    catalogue: Catalogue
    trained: frozenset[str]
    clean: bool

    def single(self, intent: Intent, frame: int) -> Prompt:
        """A question of one turn, from the held-out frame at this position."""
        wanted = intent.held_out[frame % len(intent.held_out)]
        while True:
            if intent.is_chat and not self.clean:
                talk = dialogues.Dialogue()
                dialogues.chat(self.rng, self.catalogue, talk, intent, "neutral", "held_out")
                return _prompt(self.catalogue, talk.messages[:1], intent, {})
            question = self._question(intent)
            if question.frame == wanted and question.values.get("number") not in self.trained:
                values = {} if intent.is_chat else question.values
                return _prompt(self.catalogue, [Message(role="user", content=question.text)], intent, values)

    def with_missing_number(self, intent: Intent) -> Prompt:
        """A question without its number, the assistant's question for it, and the number: three turns."""
        while True:
            talk = dialogues.Dialogue()
            question = self._question(intent, bare=True)
            talk.say("user", question.text)
            if question.complete:
                raise ValueError(f"{intent.id} has no held-out frame without a number")
            talk.say("assistant", answers.ask(self.rng, self.catalogue, intent, "neutral", question.values, False))
            given = dialogues.reply(self.rng, self.catalogue, talk, intent.needs or "", clean=self.clean)
            if given["number"] not in self.trained:
                return _prompt(self.catalogue, talk.messages, intent, {**question.values, **given})

    def second_request(self, intent: Intent) -> Prompt:
        """A second request after an answered one, with another number: the answer must have the new number."""
        while True:
            talk = dialogues.Dialogue()
            first = self._question(self.rng.choice(self.catalogue.business))
            second = self._question(intent, first=False)
            talk.say("user", first.text)
            talk.say("assistant", answers.answer(self.rng, self.catalogue, first.intent, "neutral", first.values))
            talk.say("user", second.text)
            if not self.trained & {first.values.get("number", ""), second.values["number"]}:
                return _prompt(self.catalogue, talk.messages, intent, second.values)

    def _question(self, intent: Intent, *, bare: bool = False, first: bool = True) -> dialogues.Question:
        if self.clean:
            return dialogues.clean_question(self.rng, self.catalogue, intent, bare=bare, first=first)
        return dialogues.question(self.rng, self.catalogue, intent, "held_out", bare=bare)


def _prompt(catalogue: Catalogue, messages: Sequence[Message], intent: Intent, values: Mapping[str, str]) -> Prompt:
    return Prompt(
        id="",
        messages=tuple({"role": message.role, "content": message.content} for message in messages),
        category=intent.id,
        topics=tuple(tuple(group) for group in answers.topics_expected(intent, values)),
        number=values.get("number") if catalogue.is_number(intent.needs) else None,
    )
