"""Questions for functions and JSON: in clean English, and for training also as typed in a hurry."""

import random
from collections.abc import Mapping

from train.demo import functions, grammar, user_text
from train.demo.catalogue import Catalogue, Intent, Split
from train.demo.dialogues import Question, clean_question, question
from train.demo.functions import Function, load_tools

_NOISE = frozenset({"name", "count"})  # slots that greetings have too
_TWO_WORDS = 0.15  # of the questions about a city
_CLEAN = 0.6  # of the questions for training
_NO_INTENT = Intent("", "", "somebody", None, (), (), (), (), (), {})


def ask(rng: random.Random, catalogue: Catalogue, intent: Intent, split: Split, *, bare: bool = False) -> Question:
    """A question of an intent. `bare`: without the detail that it needs."""
    if split == "held_out" or rng.random() < _CLEAN:
        return clean_question(rng, catalogue, intent, split, bare=bare)
    return question(rng, catalogue, intent, split, bare=bare)


def ask_for(rng: random.Random, catalogue: Catalogue, function: Function, split: Split) -> Question:
    """A question that the function answers; its values are those of the function's arguments."""
    if function.id.startswith("made/"):
        return _ask_made(rng, catalogue, function, split)
    if function.id == "person":
        return introduce(rng, catalogue, split)
    intent = catalogue.intent(rng.choice(function.intents))
    kinds = load_tools()["arguments"]
    slots = {kinds[kind]["slot"] for kind in (*function.needs, *function.optional)}
    while True:
        asked = _elsewhere(rng, ask(rng, catalogue, intent, split), split)
        if all(_always(slot, asked.frame) for slot in slots & _NOISE):
            return _with_values(asked, {slot: asked.values[slot] for slot in sorted(slots & asked.values.keys())})


def introduce(rng: random.Random, catalogue: Catalogue, split: Split) -> Question:
    """A message that tells a name and an age."""
    words = load_tools()["introduction"]
    frame = rng.choice(words["frames"] if split == "train" else words["held_out"])
    values = {slot: user_text.value(rng, catalogue, slot, None) for slot in ("name", "count")}
    text = grammar.fill(grammar.pick(rng, frame), values)
    return Question(_NO_INTENT, frame, text[0].upper() + text[1:] if rng.random() < 0.5 else text, values, True)


def _ask_made(rng: random.Random, catalogue: Catalogue, function: Function, split: Split) -> Question:
    kind = function.id.split("/")[3]
    slot = {"person": "name", "none": ""}.get(kind, kind)
    values = {slot: user_text.value(rng, catalogue, slot, "order")} if slot else {}
    text = functions.make_question(rng, function, values, split)
    return Question(_NO_INTENT, "", text[0].upper() + text[1:] if rng.random() < 0.5 else text, values, True)


def _elsewhere(rng: random.Random, asked: Question, split: Split) -> Question:
    """The question, sometimes about a place of two words instead of its city."""
    city = asked.values.get("city", "")
    if city not in asked.text or not city or rng.random() > _TWO_WORDS:
        return asked
    place = rng.choice(load_tools()["places"][split])
    moved = Question(asked.intent, asked.frame, asked.text.replace(city, place), asked.values, asked.complete)
    return _with_values(moved, {**asked.values, "city": place})


def _with_values(asked: Question, values: Mapping[str, str]) -> Question:
    return Question(asked.intent, asked.frame, asked.text, values, asked.complete)


def _always(slot: str, frame: str) -> bool:
    """Whether every sentence of a frame has the slot, so that its value is not that of a greeting."""
    return all(slot in grammar.slots_of(sentence) for sentence in grammar.sentences(frame))
