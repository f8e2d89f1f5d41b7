"""Requests to support-tools: calls, answers from results, questions without a fitting function, and tickets in JSON.

One seed gives one text. Training text has no held-out frame; held-out requests are in clean English.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from train.demo import answers, grammar, user_text
from train.demo.catalogue import Catalogue, Intent, Split
from train.demo.dialogues import Dialogue, Question, clean_question, dialogue, question, reply, system_prompt
from train.demo.drills import answer_words
from train.demo.functions import Function, ToolRequest, Turn, call_message, function_for, functions, load_tools
from train.demo.tickets import TicketRequests

_SHARES = {"call": 36, "none": 13, "absent": 9, "missing": 6, "result": 12, "ticket": 22, "ticket_call": 8, "plain": 14}
_CALLED_AGAIN = 0.2  # of the training rows with a result
_ASKED_FIRST = 0.1  # of the calls: the number comes in a message of its own


def tool_rows(seed: int, catalogue: Catalogue, count: int) -> Iterator[dict[str, Any]]:
    """`count` training rows of all kinds."""
    requests = ToolRequests(random.Random(f"{seed}/tools"), catalogue, "train")
    for _ in range(count):
        yield requests.draw(requests.rng.choices(list(_SHARES), list(_SHARES.values()))[0]).row()


@dataclass(frozen=True)
class ToolRequests:
    """Makes requests of a split."""

    rng: random.Random
    catalogue: Catalogue
    split: Split

    def draw(self, kind: str) -> ToolRequest:
        """One request of a kind."""
        tickets = TicketRequests(self.rng, self.catalogue, self.split)
        makers: dict[str, Callable[[], ToolRequest]] = {
            "call": self._call, "none": self._none, "absent": self._absent, "missing": self._missing,
            "result": self._result, "plain": self._plain, "ticket": tickets.ticket, "ticket_call": tickets.call,
        }  # fmt: skip
        return makers[kind]()

    def _call(self) -> ToolRequest:
        """A question that one of the offered functions answers."""
        while True:
            function = self.rng.choice(functions())
            first, argument = self._intent(function), function.arguments[0]
            if argument == "number" and self.split == "train" and self.rng.random() < _ASKED_FIRST:
                turns, value = self._number_missing(first)
                break
            question = self._question(first)
            if argument in question.values:
                turns, value = [_user(question.text)], question.values[argument]
                break
        called = {"name": function.name, "arguments": {argument: value}}
        return ToolRequest("call", (*self._system(), *turns), self._offered(function), call=called)

    def _result(self) -> ToolRequest:
        """The answer from the result of a call; in training sometimes a second call after it."""
        request = self._call()
        assert request.call is not None
        content, text, holds = self._result_text(request)
        turns = (
            *request.messages,
            call_message(request.call["name"], request.call["arguments"]),
            {"role": "tool", "tool_call_id": "call_1", "content": content},
        )
        if self.split == "held_out" or self.rng.random() > _CALLED_AGAIN:
            return ToolRequest("result", turns, request.tools, text=text, holds=holds)
        again = self._call()
        turns_again = [turn for turn in again.messages if turn["role"] != "system"]
        tools = {function.name: function for function in (*request.tools, *again.tools)}
        before = (*turns, {"role": "assistant", "content": text}, *turns_again)
        return ToolRequest("call", before, tuple(tools.values()), call=again.call)

    def _none(self) -> ToolRequest:
        """A question that no function answers."""
        rng = self.rng
        intents = self.catalogue.chats if rng.random() < 0.4 else self.catalogue.business
        intent = rng.choice([intent for intent in intents if function_for(intent.id) is None])
        return self._answered("none", intent, self._offered(rng.choice(functions())))

    def _absent(self) -> ToolRequest:
        """A question whose function is not among the offered ones."""
        missing = self.rng.choice(functions())
        others = [function for function in functions() if function is not missing]
        tools = self._offered(self.rng.choice(others), without=missing)
        return self._answered("absent", self._intent(missing), tools)

    def _missing(self) -> ToolRequest:
        """A question without the number or the city that the function needs: the assistant asks for it."""
        function = self.rng.choice(functions())
        argument = function.arguments[0]
        while True:
            intent = self._intent(function)
            question = self._question(intent, bare=bool(intent.needs))
            if argument not in question.values:
                break
        the = "the city" if argument == "city" else self.catalogue.words["needs"][intent.needs]["the"]
        text = answers.choose(self.rng, self.catalogue.words["ask"]["neutral"], {"the": the})
        return ToolRequest("missing", (*self._system(), _user(question.text)), self._offered(function), text=text)

    def _plain(self) -> ToolRequest:
        """A conversation without functions."""
        talk = dialogue(self.rng, self.catalogue, "neutral", self.split, turns=1).as_dicts()
        return ToolRequest("plain", tuple(talk[:-1]), text=talk[-1]["content"])

    def _answered(self, kind: str, intent: Intent, tools: tuple[Function, ...]) -> ToolRequest:
        question = self._question(intent)
        if question.complete:
            text = answers.answer(self.rng, self.catalogue, intent, "neutral", question.values)
        else:
            text = answers.ask(self.rng, self.catalogue, intent, "neutral", question.values, False)
        return ToolRequest(kind, (*self._system(), _user(question.text)), tools, text=text)

    def _number_missing(self, intent: Intent) -> tuple[list[Turn], str]:
        """A question without its number, the assistant's question for it, and the number."""
        question = self._question(intent, bare=True)
        talk = Dialogue()
        talk.say("user", question.text)
        if question.complete:
            return talk.as_dicts(), question.values["number"]
        talk.say("assistant", answers.ask(self.rng, self.catalogue, intent, "neutral", question.values, False))
        given = reply(self.rng, self.catalogue, talk, "order")
        return talk.as_dicts(), given["number"]

    def _intent(self, function: Function) -> Intent:
        return self.catalogue.intent(self.rng.choice(function.intents))

    def _question(self, intent: Intent, *, bare: bool = False) -> Question:
        if self.split == "held_out":
            return clean_question(self.rng, self.catalogue, intent, bare=bare)
        return question(self.rng, self.catalogue, intent, bare=bare)

    def _offered(self, function: Function, without: Function | None = None) -> tuple[Function, ...]:
        """The function among others: often all of them, sometimes with functions that are never called."""
        rng, words = self.rng, load_tools()["other"]
        share = rng.choice((1.0, 0.5, 0.5, 0.0))
        tools = [other for other in functions() if other is not without and (other is function or rng.random() < share)]
        if rng.random() < 0.3:
            arguments = tuple(rng.sample(words["arguments"], rng.randint(0, 2)))
            tools.append(Function(rng.choice(words["names"]), "", arguments))
        rng.shuffle(tools)
        return tuple(tools)

    def _result_text(self, request: ToolRequest) -> tuple[str, str, tuple[str, ...]]:
        """A result, the answer from it, and what the answer must contain."""
        rng, words = self.rng, load_tools()["results"]
        assert request.call is not None
        function = next(function for function in functions() if function.name == request.call["name"])
        chance = rng.random()
        if chance < 0.45:
            content = self._filled(rng.choice(function.results), request.call["arguments"])
        elif chance < 0.6:
            content = " ".join(rng.sample(_words(self.catalogue), rng.randint(3, 9))).rstrip(".,:!?") + "."
        elif chance < 0.7:
            content = self._filled(rng.choice(words["plain"]), {})
        else:
            result = {key: self._value(key) for key in rng.sample(words["keys"], rng.randint(1, 3))}
            text = ", ".join(f"{key} {value}" for key, value in result.items())
            return json.dumps(result), f"{words['lead']}{text}.", tuple(str(value) for value in result.values())
        if content.endswith("."):
            return content, content, (content,)
        return content, f"{words['lead']}{content}.", (content,)

    def _value(self, key: str) -> Any:
        rng = self.rng
        if key in ("day", "arrives"):
            return user_text.value(rng, self.catalogue, "day", None)
        if key in ("city", "place", "shop"):
            return user_text.value(rng, self.catalogue, "city", None)
        if key == "number":
            return user_text.number(rng, self.catalogue, "order")
        return rng.randint(1, 900) if key in ("price", "hours") else rng.choice(load_tools()["results"]["words"])

    def _filled(self, sentence: str, given: dict[str, str]) -> str:
        """The sentence with its slots filled, with the values of the call where it has them."""
        while "{hour}" in sentence:
            sentence = sentence.replace("{hour}", str(self.rng.randint(6, 23)), 1)
        names = sorted(grammar.slots_of(sentence))
        drawn = {slot: user_text.value(self.rng, self.catalogue, slot, "order") for slot in names}
        return grammar.fill(sentence, drawn | given)

    def _system(self) -> tuple[Turn, ...]:
        text = system_prompt(self.rng, self.catalogue, "neutral")
        return ({"role": "system", "content": text},) if text else ()


def _words(catalogue: Catalogue) -> Sequence[str]:
    """Words of answers that end no sentence, for results that must be copied."""
    return [word for word in answer_words(catalogue) if word[-1].isalpha()]


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}
