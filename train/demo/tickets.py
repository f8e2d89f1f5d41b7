"""Tickets in JSON: what a message is about, the number in it, and whether it is urgent.

A request asks for JSON in words, or gives the ticket as a function. Under a schema the engine forces the form, so the
order of the fields may be any.
"""

import random
from dataclasses import dataclass
from typing import Any

from train.demo import grammar
from train.demo.catalogue import Catalogue, Intent, Split
from train.demo.dialogues import clean_question, question, system_prompt
from train.demo.functions import OTHER, Function, ToolRequest, Turn, load_tools, topic_of

# Of the tickets: nothing asks for JSON. Under a schema the engine forces it without a word in the prompt, and after the
# first token the model must know what to write. Plain conversations are five times as many, so that it answers in text.
_SILENT = 0.12
# Of the calls: where a request forces the call, the engine generates the arguments alone.
_FORCED = 0.35
_URGENT = ("urgent", "asap", "hurry", "be quick", "as soon as possible", "answer soon")


@dataclass(frozen=True)
class TicketRequests:
    """Makes requests of a split."""

    rng: random.Random
    catalogue: Catalogue
    split: Split

    def ticket(self) -> ToolRequest:
        """A request for JSON: with the usual fields, or with the fields that it names."""
        rng = self.rng
        text, ticket = self._message()
        if self.split == "train" and rng.random() < _SILENT:
            system = system_prompt(rng, self.catalogue, "neutral")
            before = (_turn("system", system),) if system else ()
            return ToolRequest("ticket", (*before, _turn("user", text)), fields=ticket)
        usual = rng.random() < 0.6
        names = list(ticket) if usual else rng.sample(list(ticket), rng.randint(2, 3))
        words = load_tools()["ticket"] if self.split == "train" else load_tools()["ticket"]["held_out"]
        request = rng.choice(words["ask"] if usual and rng.random() < 0.6 else words["ask_fields"])
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if rng.random() < 0.5 else ", ".join(names)
        request = request.replace("{fields}", listed)
        fields = {name: ticket[name] for name in names}
        if rng.random() < 0.7:
            return ToolRequest("ticket", (_turn("system", request), _turn("user", text)), fields=fields)
        return ToolRequest("ticket", (_turn("user", f"{text}\n{request}"),), fields=fields)

    def call(self) -> ToolRequest:
        """A request whose only function is the ticket."""
        text, ticket = self._message()
        names = tuple(self.rng.sample(list(ticket), len(ticket)) if self.rng.random() < 0.3 else ticket)
        name = self.rng.choice(load_tools()["ticket"]["names"])
        fields = {field: ticket[field] for field in names}
        called = {"name": name, "arguments": fields}
        function = Function(name, "What a message is about.", names)
        if self.split == "train" and self.rng.random() < _FORCED:
            return ToolRequest("ticket_call", (_turn("user", text),), (function,), fields=fields)
        return ToolRequest("ticket_call", (_turn("user", text),), (function,), call=called)

    def _intent(self) -> Intent:
        """What the message is about: the topics are equally frequent."""
        topic = self.rng.choice((*load_tools()["ticket"]["topics"], OTHER))
        intents = [*self.catalogue.business, *self.catalogue.chats]
        return self.rng.choice([intent for intent in intents if topic_of(intent.id) == topic])

    def _message(self) -> tuple[str, dict[str, Any]]:
        """A customer's message, and its ticket."""
        rng, words = self.rng, load_tools()["ticket"]
        while True:
            intent = self._intent()
            if self.split == "held_out":
                drawn = clean_question(rng, self.catalogue, intent)
            else:
                drawn = question(rng, self.catalogue, intent, bare=bool(intent.needs) and rng.random() < 0.15)
            if not (intent.is_chat and "number" in drawn.values) and "number" not in grammar.slots_of(drawn.text):
                break
        text = drawn.text
        if rng.random() < 0.5:
            phrase = rng.choice(words["urgent"] if self.split == "train" else words["held_out"]["urgent"])
            text = f"{text} {phrase}" if rng.random() < 0.7 else f"{phrase} {text}"
        urgent = any(mark in text.lower() for mark in _URGENT)
        return text, {"topic": topic_of(intent.id), "number": drawn.values.get("number"), "urgent": urgent}


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}
