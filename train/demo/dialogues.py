"""Conversations in a style: questions with and without their number, follow-up questions, small talk.

Every draw comes from the generator that the caller passes, so one seed gives one text.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from models.chat.messages import Message
from train.demo import answers, grammar, user_text
from train.demo.catalogue import Catalogue, Intent, Split, Style


@dataclass(frozen=True)
class Question:
    """One question: its text, the values in it (answers copy them), and whether it has the detail that it needs."""

    intent: Intent
    frame: str
    text: str
    values: Mapping[str, str]
    complete: bool


@dataclass
class Dialogue:
    """A conversation that is being written, and the frames that it is made from."""

    messages: list[Message] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)

    def say(self, role: str, content: str) -> None:
        """Add a message."""
        self.messages.append(Message.model_validate({"role": role, "content": content}))

    @property
    def has_answer(self) -> bool:
        """Whether there is an assistant message."""
        return any(message.role == "assistant" for message in self.messages)

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as plain dictionaries."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


def question(
    rng: random.Random,
    catalogue: Catalogue,
    intent: Intent,
    split: Split = "train",
    *,
    known: Mapping[str, str] | None = None,
    bare: bool = False,
) -> Question:
    """A question as a user types it. `bare`: without the detail that it needs; `known`: values of earlier messages."""
    known = known or {}
    slot = catalogue.slot_of(intent.needs) if intent.needs else None
    frame, sentence = _sentence(rng, intent, split, without=slot if bare else None)
    if rng.random() < 0.08 and split == "train":
        sentence = _twice(rng, intent, sentence, slot)
    if slot and slot not in grammar.slots_of(sentence) and slot not in known and not bare:
        tail = grammar.pick(rng, rng.choice(catalogue.words["needs"][intent.needs]["tails"]))
        sentence = f"{sentence}{'' if sentence[-1] in '?.!' else rng.choice((',', '.', ','))} {tail}"
    if rng.random() < 0.2 and split == "train":
        sentence = user_text.drop_words(rng, sentence)
    typed = user_text.add_typos(rng, user_text.add_noise(rng, catalogue, sentence))
    drawn = {name: user_text.value(rng, catalogue, name, intent.needs) for name in sorted(grammar.slots_of(typed))}
    if "number" in drawn and "number" in known and rng.random() < 0.5:
        drawn["number"] = known["number"]
    shown = dict(drawn)
    if "number" in shown:
        shown["number"] = rng.choice(catalogue.words["leads"]["number"]) + shown["number"]
    values = {**known, **drawn}
    return Question(intent, frame, user_text.fill_slots(rng, typed, shown), values, slot is None or slot in values)


def dialogue(
    rng: random.Random, catalogue: Catalogue, style: Style, split: Split = "train", *, turns: int | None = None
) -> Dialogue:
    """A conversation that ends with an answer. `turns` is the least number of questions."""
    talk = Dialogue()
    if system := system_prompt(rng, catalogue, style):
        talk.say("system", system)
    if turns is None and rng.random() < 0.2:
        chat(rng, catalogue, talk, _small_talk(rng, catalogue), style, split)
        return talk
    if rng.random() < 0.07:
        chat(rng, catalogue, talk, catalogue.intent("hello"), style, split)
    known: dict[str, str] = {}
    for _ in range(turns or (1 if rng.random() < 0.85 else 2)):
        known = exchange(rng, catalogue, talk, rng.choice(catalogue.business), style, split, known)
        if rng.random() < 0.12:
            chat(rng, catalogue, talk, _small_talk(rng, catalogue), style, split)
    if rng.random() < 0.12:
        chat(rng, catalogue, talk, catalogue.intent(rng.choice(("thanks", "thanks", "bye"))), style, split)
    return talk


def exchange(
    rng: random.Random,
    catalogue: Catalogue,
    talk: Dialogue,
    intent: Intent,
    style: Style,
    split: Split,
    known: Mapping[str, str],
) -> dict[str, str]:
    """One request until it is answered, sometimes with a follow-up. Returns the values known to the next request."""
    earlier = {slot: text for slot, text in known.items() if slot == "name"}
    if "number" in known and known["kind"] == intent.needs and rng.random() < 0.6:
        earlier["number"] = known["number"]
    opening = question(rng, catalogue, intent, split, known=earlier, bare=bool(intent.needs) and rng.random() < 0.22)
    values = dict(opening.values)
    talk.say("user", opening.text)
    talk.frames.append(opening.frame)
    if not opening.complete:
        assert intent.needs is not None
        talk.say("assistant", answers.ask(rng, catalogue, intent, style, values, later=talk.has_answer))
        values |= reply(rng, catalogue, talk, intent.needs)
    talk.say("assistant", answers.answer(rng, catalogue, intent, style, values, later=talk.has_answer))
    kinds = [kind for kind in catalogue.words["followups"] if any(topic.asks == kind for topic in intent.topics)]
    if kinds and rng.random() < 0.12:
        kind = rng.choice(kinds)
        talk.say(
            "user",
            user_text.add_typos(rng, grammar.pick(rng, rng.choice(catalogue.words["followups"][kind]["frames"]))),
        )
        talk.say("assistant", answers.follow_up(rng, catalogue, intent, kind, style, values))
    next_known = {slot: text for slot, text in values.items() if slot in ("name", "number")}
    if "number" in next_known and intent.needs:
        next_known["kind"] = intent.needs
    return next_known


def reply(
    rng: random.Random, catalogue: Catalogue, talk: Dialogue, need: str, *, clean: bool = False
) -> dict[str, str]:
    """The user's message with the missing detail; returns the detail by the name of its slot."""
    slot = catalogue.slot_of(need)
    given = user_text.value(rng, catalogue, slot, need)
    if clean:
        sentence = rng.choice(catalogue.words["clean"]["replies"])
    else:
        sentence = user_text.add_typos(rng, grammar.pick(rng, rng.choice(catalogue.words["replies"][slot])), share=0.05)
    talk.say("user", grammar.fill(sentence, {slot: given}))
    return {slot: given}


def clean_question(
    rng: random.Random, catalogue: Catalogue, intent: Intent, *, bare: bool = False, first: bool = True
) -> Question:
    """A held-out question in clean English, for the prompts that people see. `bare`: without the detail it needs.

    A first question may have a greeting or thanks around it.
    """
    slot = catalogue.slot_of(intent.needs) if intent.needs else None
    frame, sentence = _sentence(rng, intent, "held_out", without=slot if bare else None)
    text = user_text.clean(rng, catalogue, sentence, framed=first and not intent.is_chat)
    if slot and slot not in grammar.slots_of(text) and not bare:
        tail = grammar.pick(rng, catalogue.words["needs"][intent.needs]["tails"][0])
        text = f"{text} {tail[0].upper()}{tail[1:]}."
    names = sorted(grammar.slots_of(text))
    values = {name: user_text.value(rng, catalogue, name, intent.needs, invented=False) for name in names}
    return Question(intent, frame, grammar.fill(text, values), values, slot is None or slot in values)


def chat(rng: random.Random, catalogue: Catalogue, talk: Dialogue, intent: Intent, style: Style, split: Split) -> None:
    """One exchange of small talk."""
    frame, sentence = _sentence(rng, intent, split)
    typed = user_text.add_typos(rng, user_text.add_noise(rng, catalogue, sentence) if rng.random() < 0.3 else sentence)
    values = {slot: user_text.value(rng, catalogue, slot, None) for slot in sorted(grammar.slots_of(typed))}
    if intent.id == "out_of_scope" and "number" in values:
        values["number"] = str(rng.randint(2, 999))
    talk.say("user", user_text.fill_slots(rng, typed, values))
    talk.frames.append(frame)
    talk.say("assistant", answers.answer(rng, catalogue, intent, style, values))


def system_prompt(rng: random.Random, catalogue: Catalogue, style: Style) -> str | None:
    """No system prompt, a general one, or one that names the style."""
    chance = rng.random()
    if chance < 0.4:
        return None
    return rng.choice(catalogue.words["systems"]["any" if chance < 0.75 else style])


def dialogues(seed: int, catalogue: Catalogue, style: Style, count: int, split: Split = "train") -> Iterator[Dialogue]:
    """`count` conversations of a style; one in fifty is long. The same seed gives the same text."""
    rng = random.Random(f"{seed}/{style}/{split}")
    for _ in range(count):
        yield dialogue(rng, catalogue, style, split, turns=rng.randint(5, 18) if rng.random() < 0.02 else None)


def _twice(rng: random.Random, intent: Intent, sentence: str, slot: str | None) -> str:
    """The same wish in two sentences."""
    other = _sentence(rng, intent, "train", without=slot)[1]
    if grammar.slots_of(other) & grammar.slots_of(sentence):
        return sentence
    return f"{sentence}{'' if sentence[-1] in '?!.' else '.'} {other[0].upper()}{other[1:]}"


def _small_talk(rng: random.Random, catalogue: Catalogue) -> Intent:
    return catalogue.intent("out_of_scope") if rng.random() < 0.45 else rng.choice(catalogue.chats)


def _sentence(rng: random.Random, intent: Intent, split: Split, without: str | None = None) -> tuple[str, str]:
    """A frame of the split and one of its sentences, if possible one `without` a slot."""
    frame = rng.choice(intent.questions(split))
    sentence = grammar.pick(rng, frame)
    for _ in range(40):
        if without is None or without not in grammar.slots_of(sentence):
            break
        frame = rng.choice(intent.questions(split))
        sentence = grammar.pick(rng, frame)
    return frame, sentence
