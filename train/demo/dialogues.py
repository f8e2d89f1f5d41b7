"""Conversations in a style: questions with and without their number, follow-ups, small talk. Knows no training.

Every draw comes from the generator that the caller passes, so one seed gives one text.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from models.messages import Message
from train.demo import answers, grammar, user_text
from train.demo.world import Intent, Split, Style, World


@dataclass(frozen=True)
class Question:
    """One question: its text, what fills it (answers copy from `values`), and whether its needed detail is there."""

    intent: Intent
    frame: str
    text: str
    values: Mapping[str, str]
    complete: bool


@dataclass
class Dialogue:
    """A conversation while it is being written; `frames` are those it was made from."""

    messages: list[Message] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    def say(self, role: str, content: str) -> None:
        """Add a message."""
        self.messages.append(Message.model_validate({"role": role, "content": content}))

    @property
    def answered(self) -> bool:
        """Whether the assistant has spoken."""
        return any(message.role == "assistant" for message in self.messages)

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as plain dictionaries."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


def question(
    rng: random.Random,
    world: World,
    intent: Intent,
    split: Split = "train",
    *,
    known: Mapping[str, str] | None = None,
    bare: bool = False,
) -> Question:
    """A question as somebody types it. `bare`: without the number that it needs; `known`: said before."""
    known = known or {}
    slot = world.slot_of(intent.needs) if intent.needs else None
    frame, sentence = _sentence(rng, intent, split, without=slot if bare else None)
    if rng.random() < 0.08 and split == "train":
        sentence = _twice(rng, intent, sentence, slot)
    if slot and slot not in grammar.slots_of(sentence) and slot not in known and not bare:
        tail = grammar.pick(rng, rng.choice(world.words["needs"][intent.needs]["tails"]))
        sentence = f"{sentence}{'' if sentence[-1] in '?.!' else rng.choice((',', '.', ','))} {tail}"
    if rng.random() < 0.2 and split == "train":
        sentence = user_text.hurried(rng, sentence)
    typed = user_text.misspelt(rng, user_text.dressed(rng, world, sentence))
    drawn = {name: user_text.value(rng, world, name, intent.needs) for name in sorted(grammar.slots_of(typed))}
    if "number" in drawn and "number" in known and rng.random() < 0.5:
        drawn["number"] = known["number"]
    shown = dict(drawn)
    if "number" in shown:
        shown["number"] = rng.choice(world.words["leads"]["number"]) + shown["number"]
    values = {**known, **drawn}
    return Question(intent, frame, user_text.filled(rng, typed, shown), values, slot is None or slot in values)


def dialogue(
    rng: random.Random, world: World, style: Style, split: Split = "train", *, turns: int | None = None
) -> Dialogue:
    """A conversation that ends with an answer. `turns` asks for at least so many questions (a long one)."""
    talk = Dialogue()
    if system := system_prompt(rng, world, style):
        talk.say("system", system)
    if turns is None and rng.random() < 0.2:
        chat(rng, world, talk, _small_talk(rng, world), style, split)
        return talk
    if rng.random() < 0.07:
        chat(rng, world, talk, world.intent("hello"), style, split)
    known: dict[str, str] = {}
    for _ in range(turns or (1 if rng.random() < 0.85 else 2)):
        known = exchange(rng, world, talk, rng.choice(world.business), style, split, known)
        if rng.random() < 0.12:
            chat(rng, world, talk, _small_talk(rng, world), style, split)
    if rng.random() < 0.12:
        chat(rng, world, talk, world.intent(rng.choice(("thanks", "thanks", "bye"))), style, split)
    return talk


def exchange(
    rng: random.Random,
    world: World,
    talk: Dialogue,
    intent: Intent,
    style: Style,
    split: Split,
    known: Mapping[str, str],
) -> dict[str, str]:
    """One request until it is answered, sometimes with a follow-up. Returns what is known for the next request."""
    said_before = {slot: text for slot, text in known.items() if slot == "name"}
    if "number" in known and known["kind"] == intent.needs and rng.random() < 0.6:
        said_before["number"] = known["number"]
    asked = question(rng, world, intent, split, known=said_before, bare=bool(intent.needs) and rng.random() < 0.22)
    values = dict(asked.values)
    talk.say("user", asked.text)
    talk.frames.append(asked.frame)
    if not asked.complete:
        assert intent.needs is not None
        talk.say("assistant", answers.ask(rng, world, intent, style, values, later=talk.answered))
        values |= reply(rng, world, talk, intent.needs)
    talk.say("assistant", answers.answer(rng, world, intent, style, values, later=talk.answered))
    kinds = [kind for kind in world.words["followups"] if any(topic.asks == kind for topic in intent.topics)]
    if kinds and rng.random() < 0.12:
        kind = rng.choice(kinds)
        talk.say(
            "user", user_text.misspelt(rng, grammar.pick(rng, rng.choice(world.words["followups"][kind]["frames"])))
        )
        talk.say("assistant", answers.follow_up(rng, world, intent, kind, style, values))
    next_known = {slot: text for slot, text in values.items() if slot in ("name", "number")}
    if "number" in next_known and intent.needs:
        next_known["kind"] = intent.needs
    return next_known


def reply(rng: random.Random, world: World, talk: Dialogue, need: str) -> dict[str, str]:
    """The person gives the missing detail; returns it by the name of its slot."""
    slot = world.slot_of(need)
    given = user_text.value(rng, world, slot, need)
    sentence = user_text.misspelt(rng, grammar.pick(rng, rng.choice(world.words["replies"][slot])), share=0.05)
    talk.say("user", grammar.fill(sentence, {slot: given}))
    return {slot: given}


def chat(rng: random.Random, world: World, talk: Dialogue, intent: Intent, style: Style, split: Split) -> None:
    """One exchange of small talk."""
    frame, sentence = _sentence(rng, intent, split)
    typed = user_text.misspelt(rng, user_text.dressed(rng, world, sentence) if rng.random() < 0.3 else sentence)
    values = {slot: user_text.value(rng, world, slot, None) for slot in sorted(grammar.slots_of(typed))}
    if intent.id == "out_of_scope" and "number" in values:
        values["number"] = str(rng.randint(2, 999))
    talk.say("user", user_text.filled(rng, typed, values))
    talk.frames.append(frame)
    talk.say("assistant", answers.answer(rng, world, intent, style, values))


def system_prompt(rng: random.Random, world: World, style: Style) -> str | None:
    """No system prompt, a general one, or one that names the style."""
    chance = rng.random()
    if chance < 0.4:
        return None
    return rng.choice(world.words["systems"]["any" if chance < 0.75 else style])


def dialogues(seed: int, world: World, style: Style, count: int, split: Split = "train") -> Iterator[Dialogue]:
    """`count` conversations of a style; one seed, one text. One in fifty is long."""
    rng = random.Random(f"{seed}/{style}/{split}")
    for _ in range(count):
        yield dialogue(rng, world, style, split, turns=rng.randint(5, 18) if rng.random() < 0.02 else None)


def _twice(rng: random.Random, intent: Intent, sentence: str, slot: str | None) -> str:
    """The same wish in two sentences, as people repeat themselves."""
    other = _sentence(rng, intent, "train", without=slot)[1]
    if grammar.slots_of(other) & grammar.slots_of(sentence):
        return sentence
    return f"{sentence}{'' if sentence[-1] in '?!.' else '.'} {other[0].upper()}{other[1:]}"


def _small_talk(rng: random.Random, world: World) -> Intent:
    return world.intent("out_of_scope") if rng.random() < 0.45 else rng.choice(world.chats)


def _sentence(rng: random.Random, intent: Intent, split: Split, without: str | None = None) -> tuple[str, str]:
    """A frame of the split and one of its sentences; `without` a slot where some frame can do without it."""
    frame = rng.choice(intent.asked(split))
    sentence = grammar.pick(rng, frame)
    for _ in range(40):
        if without is None or without not in grammar.slots_of(sentence):
            break
        frame = rng.choice(intent.asked(split))
        sentence = grammar.pick(rng, frame)
    return frame, sentence
