"""Requests for JSON: with no keys, with a list of keys, with a schema. The answer is one JSON object."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.demo import answers, functions
from train.demo.catalogue import Catalogue, Intent, Split
from train.demo.dialogues import Question
from train.demo.functions import load_tools
from train.demo.tool_questions import ask, introduce

_KINDS = {"bare": 3, "keyed": 5, "schema": 3, "words": 2}
_SLOTS = ("number", "city", "product", "name", "day", "plan", "class")
_URGENT = ("urgent", "asap", "be quick", "hurry")
_WRITTEN = ("topic", "urgent", "answer", "summary")


@dataclass(frozen=True)
class AskedJson:
    """A request for JSON and its right answer. `copied`: the keys whose values are in the message."""

    kind: str
    messages: tuple[dict[str, str], ...]
    fields: Mapping[str, Any]
    copied: tuple[str, ...]

    def conversation(self) -> list[dict[str, str]]:
        """The messages with the answer."""
        return [*self.messages, {"role": "assistant", "content": functions.compact(self.fields)}]


@dataclass(frozen=True)
class _Field:
    slot: str
    name: str
    value: Any
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class JsonTalks:
    """Makes requests for JSON."""

    rng: random.Random
    catalogue: Catalogue
    split: Split

    def asked(self, kind: str | None = None) -> AskedJson:
        """One request of a kind, or of any."""
        rng = self.rng
        kind = kind or rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        introduced = kind != "bare" and rng.random() < 0.1
        intent = rng.choice(self.catalogue.intents if rng.random() < 0.2 else self.catalogue.business)
        asked = (
            introduce(rng, self.catalogue, self.split) if introduced else ask(rng, self.catalogue, intent, self.split)
        )
        text = asked.text
        if rng.random() < 0.25 and not introduced:
            text = f"{text} {rng.choice(load_tools()['json']['urgent'])}"
        if kind == "bare":
            found = self._default(asked)
        elif introduced:
            found = [self._field(slot, asked, text, labelled=False) for slot in rng.sample(("name", "count"), 2)]
        else:
            found = self._fields(asked, text, labelled=kind == "schema")
        words = load_tools()["json"]
        wording = "keyed" if kind == "words" else kind
        sentence = rng.choice(words[wording] if self.split == "train" else words["held_out"][wording])
        if "{keys}" in sentence:
            sentence = sentence.replace("{keys}", _listed([one.name for one in found]))
        if "{schema}" in sentence:
            sentence = sentence.replace("{schema}", json.dumps(self._schema(found)))
        messages = ({"role": "system", "content": sentence}, {"role": "user", "content": text})
        if kind == "words" or (kind == "bare" and rng.random() < 0.3):
            messages = ({"role": "user", "content": f"{text}\n{sentence}"},)
        copied = tuple(one.name for one in found if one.slot in (*_SLOTS, "count") and one.value)
        return AskedJson(kind, messages, {one.name: one.value for one in found}, copied)

    def _default(self, asked: Question) -> list[_Field]:
        """What a request without keys gets: topic, the number if there is one, answer."""
        values = {"topic": asked.intent.about, "answer": self._answer(asked)}
        if "number" in asked.values:
            values = {"topic": values["topic"], "number": asked.values["number"], "answer": values["answer"]}
        return [_Field(slot, slot, value, {"type": "string"}) for slot, value in values.items()]

    def _fields(self, asked: Question, text: str, *, labelled: bool) -> list[_Field]:
        rng = self.rng
        there = [slot for slot in _SLOTS if slot in asked.values]
        absent = [slot for slot in ("number", "city", "name") if slot not in asked.values and rng.random() < 0.06]
        chosen = [*rng.sample(there, min(len(there), rng.randint(1, 3))), *absent]
        chosen += rng.sample(_WRITTEN, rng.randint(0 if chosen else 1, 2))
        rng.shuffle(chosen)
        found: list[_Field] = []
        for slot in chosen:
            one = self._field(slot, asked, text, labelled=labelled)
            if one.name not in {other.name for other in found}:
                found.append(one)
        return found

    def _field(self, slot: str, asked: Question, message: str, *, labelled: bool) -> _Field:
        rng, words = self.rng, load_tools()["fields"][slot]
        name = rng.choice(words["names"])
        about = {"description": rng.choice(words["text"])} if rng.random() < 0.3 else {}
        if slot == "topic" and labelled:
            labels = self._labels(asked.intent)
            return _Field(slot, name, labels[0], {"enum": rng.sample(labels, len(labels)), "type": "string", **about})
        if slot == "urgent":
            urgent = any(mark in message.lower() for mark in _URGENT)
            return _Field(slot, name, urgent, {"type": "boolean", **about})
        if slot == "answer":
            return _Field(slot, name, self._answer(asked), {"type": "string", **about})
        if slot in ("topic", "summary"):
            return _Field(slot, name, asked.intent.about, {"type": "string", **about})
        value = asked.values.get(slot, "")
        if slot == "count":
            return _Field(slot, name, int(value), {"type": "integer", **about})
        return _Field(slot, name, value, {"type": "string", **about})

    def _labels(self, intent: Intent) -> list[str]:
        """Labels of a topic, the right one first."""
        groups = load_tools()["label"]
        right = next((group["names"] for group in groups if intent.id in group["intents"]), ["other"])
        others = [group["names"] for group in groups if group["names"] is not right]
        wrong = [self.rng.choice(names) for names in self.rng.sample(others, self.rng.randint(1, 3))]
        return [self.rng.choice(right), *wrong]

    def _answer(self, asked: Question) -> str:
        if asked.complete:
            return answers.answer(self.rng, self.catalogue, asked.intent, "neutral", asked.values)
        return answers.ask(self.rng, self.catalogue, asked.intent, "neutral", asked.values, False)

    def _schema(self, found: list[_Field]) -> dict[str, Any]:
        """A JSON Schema as zod or pydantic writes it."""
        properties: dict[str, Any] = {}
        pydantic = self.rng.random() < 0.5
        for one in found:
            title = {"title": one.name.replace("_", " ").title()} if pydantic else {}
            properties[one.name] = {**title, **one.schema}
        names = [one.name for one in found]
        if pydantic:
            return {"properties": properties, "required": names, "title": "Ticket", "type": "object"}
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
