"""Conversations with tools: a call, an answer from its result, no call where no function fits, and a question back.

One seed gives one text. Training uses no held-out frame, function, name or description; `held_out` uses little else.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from train.demo import answers, functions, grammar, user_text
from train.demo.catalogue import Catalogue, Split
from train.demo.dialogues import dialogue, system_prompt
from train.demo.functions import Argument, Function, Tool, load_tools, offer
from train.demo.json_talks import JsonTalks
from train.demo.tool_questions import ask, ask_for

_KINDS = {"call": 44, "result": 13, "none": 12, "missing": 4, "forced": 4, "final": 4, "json": 16, "plain": 4}
_SIZES = (1, 1, 2, 2, 2, 3, 3, 3, 4, 5)  # functions in a request
_MADE = 0.3
Turn = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request and its right answer: a call, or a text. `kind` says what it measures."""

    kind: str
    messages: tuple[Turn, ...]
    tools: tuple[Tool, ...]
    call: Mapping[str, Any] | None = None
    text: str | None = None
    holds: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> list[str]:
        """The texts with a digit that the calls in the conversation have as arguments."""
        calls = [call for turn in self.messages for call in turn.get("tool_calls", ())]
        values = [value for call in calls for value in json.loads(call["function"]["arguments"]).values()]
        return [value for value in values if isinstance(value, str) and any(mark.isdigit() for mark in value)]

    def row(self) -> dict[str, Any]:
        """The request with its answer, as a row of a chat file."""
        tools = {"tools": [tool.as_json() for tool in self.tools]} if self.tools else {}
        return {"messages": [*self.messages, self.answer()], **tools}

    def answer(self) -> Turn:
        """The right answer, as a message."""
        if self.call is None:
            return {"role": "assistant", "content": self.text}
        return call_message(self.call["name"], self.call["arguments"])


def call_message(name: str, arguments: Mapping[str, Any], number: int = 1) -> Turn:
    """An assistant's message with one call."""
    text = json.dumps(arguments, ensure_ascii=False)
    call = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def rows(seed: int, catalogue: Catalogue, count: int) -> Iterator[dict[str, Any]]:
    """`count` training rows of all kinds."""
    rng = random.Random(f"{seed}/tools")
    talks = ToolTalks(rng, catalogue, "train")
    shaped = JsonTalks(rng, catalogue, "train")
    for _ in range(count):
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        if kind == "plain":
            yield {"messages": dialogue(rng, catalogue, "neutral").as_dicts()}
        elif kind == "json":
            yield {"messages": shaped.asked().conversation()}
        else:
            yield getattr(talks, kind)().row()


@dataclass(frozen=True)
class ToolTalks:
    """Makes requests with tools."""

    rng: random.Random
    catalogue: Catalogue
    split: Split
    naming: Split | None = None  # the split of names and descriptions, if it differs from that of the questions
    only: tuple[Function, ...] | None = None  # the functions that are called; all of the split if None
    made: float = _MADE

    def call(self) -> Asked:
        """A question that one of the offered functions answers; sometimes a second request in a conversation."""
        while True:
            function = self._draw()
            asked = ask_for(self.rng, self.catalogue, function, self.split)
            number = asked.values.get("number", "")
            tool = offer(self.rng, function, self._names, integers=number.isdigit() and number[0] != "0")
            if not tool.lacks(asked.values):
                break
        called = {"name": tool.name, "arguments": tool.call(asked.values)}
        earlier = self.result() if self.split == "train" and self.rng.random() < 0.06 else None
        if earlier is not None and not any(_alike(tool, other) for other in earlier.tools):
            return Asked("call", (*earlier.row()["messages"], _user(asked.text)), (*earlier.tools, tool), called)
        return Asked("call", (*self._system(), _user(asked.text)), self._offered(tool), called)

    def result(self) -> Asked:
        """The answer from the result of a call."""
        asked = replace(self, made=self.made / 2)._single()
        assert asked.call is not None
        tool = next(tool for tool in asked.tools if tool.name == asked.call["name"])
        content, text, holds = self._result(tool, asked)
        turns = (*asked.messages, asked.answer(), {"role": "tool", "tool_call_id": "call_1", "content": content})
        return Asked("result", turns, asked.tools, text=text, holds=holds)

    def none(self) -> Asked:
        """A question that no offered function answers: the plain answer."""
        rng = self.rng
        intent = rng.choice(self.catalogue.chats if rng.random() < 0.45 else self.catalogue.business)
        while intent.id in _held_intents():
            intent = rng.choice(self.catalogue.business)
        asked = ask(rng, self.catalogue, intent, self.split)
        others = [function for function in functions.functions() if intent.id not in function.intents]
        first = rng.choice([function for function in others if not function.held_out])
        tools = self._offered(offer(rng, first, self._names), against=intent.id)
        text = answers.answer(rng, self.catalogue, intent, "neutral", asked.values)
        return Asked("none", (*self._system(), _user(asked.text)), tools, text=text)

    def missing(self) -> Asked:
        """A question without the detail that the function needs: the assistant asks for it."""
        rng = self.rng
        while True:
            function = rng.choice([one for one in functions.functions() if one.needs and not one.held_out])
            intents = [intent for intent in self.catalogue.business if intent.id in function.intents and intent.needs]
            if not intents:
                continue
            intent = rng.choice(intents)
            asked = ask(rng, self.catalogue, intent, self.split, bare=True)
            tool = offer(rng, function, self._names)
            if not asked.complete and tool.lacks(asked.values):
                break
        text = answers.ask(rng, self.catalogue, intent, "neutral", asked.values, False)
        return Asked("missing", (*self._system(), _user(asked.text)), self._offered(tool), text=text)

    def forced(self) -> Asked:
        """A call as a forced `tool_choice` has it: the arguments alone, or a list of calls."""
        asked = self._single()
        assert asked.call is not None
        if self.rng.random() < 0.5:
            return _forced(asked)
        return replace(asked, kind="forced", call=None, text=functions.compact(asked.call["arguments"]))

    def final(self) -> Asked:
        """The last answer of an agent that wants it as a call: free, or as a forced `tool_choice` has it."""
        earlier = self.result()
        rng, words = self.rng, load_tools()["final"]
        numbers = [value for value in earlier.numbers if rng.random() < 0.5]
        fields = {rng.choice(load_tools()["fields"]["answer"]["names"]): earlier.text}
        if numbers:
            fields[rng.choice(load_tools()["fields"]["number"]["names"])] = numbers[0]
        arguments = tuple(Argument(name, name, "", True, False) for name in rng.sample(sorted(fields), len(fields)))
        names = {"train": tuple(words["names"]), "held_out": tuple(words["names"])}
        function = Function("final", (), (), (), names, names, ())
        tool = Tool(function, rng.choice(words["names"]), rng.choice(words["about"]), arguments)
        called = {"name": tool.name, "arguments": {one.name: fields[one.name] for one in arguments}}
        asked = Asked("final", earlier.messages, (*earlier.tools, tool), called)
        return asked if rng.random() < 0.5 else _forced(asked)

    @property
    def _names(self) -> Split:
        return self.naming or self.split

    def _single(self) -> Asked:
        while len((asked := self.call()).messages) > 2:
            pass
        return asked

    def _draw(self) -> Function:
        if self.rng.random() < self.made:
            return functions.make_function(self.rng, self.split)
        return self.rng.choice(self.only or [one for one in functions.functions() if not one.held_out])

    def _offered(self, tool: Tool, against: str | None = None) -> tuple[Tool, ...]:
        """The tool among others that do not answer the same question, nor one of the intent `against`."""
        rng = self.rng
        tools = [tool]
        for _ in range(rng.choice(_SIZES) - 1):
            if rng.random() < self.made or (tool.function.id.startswith("made/") and rng.random() < 0.5):
                near = tool.function if rng.random() < 0.4 else None
                other = functions.make_function(rng, self.split, near=near)
            else:
                other = rng.choice(self._others())
            offered = offer(rng, other, self._names)
            if against not in other.intents and not any(_alike(offered, one) for one in tools):
                tools.append(offered)
        rng.shuffle(tools)
        return tuple(tools)

    def _others(self) -> Sequence[Function]:
        """The functions that may be offered beside another."""
        return [one for one in functions.functions() if self.split == "held_out" or not one.held_out]

    def _result(self, tool: Tool, asked: Asked) -> tuple[str, str, tuple[str, ...]]:
        """A result, the answer from it, and what the answer must contain."""
        rng, words = self.rng, load_tools()["results"]
        chance = rng.random()
        if chance < 0.55:
            sentence = rng.choice(tool.function.results)
            given = {
                argument.slot: str(asked.call["arguments"][argument.name])
                for argument in tool.arguments
                if asked.call and argument.name in asked.call["arguments"]
            }
            drawn = {
                slot: user_text.value(rng, self.catalogue, slot, "order") for slot in sorted(grammar.slots_of(sentence))
            }
            content = grammar.fill(sentence, drawn | given)
        elif chance < 0.65:
            content = rng.choice(words["plain"])
        else:
            result = {key: self._field(key) for key in rng.sample(words["keys"], rng.randint(1, 3))}
            text = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in result.items())
            content = json.dumps(result, separators=rng.choice(((",", ":"), (", ", ": "))))
            return content, f"Here is the result: {text}.", tuple(_plain(value) for value in result.values())
        if content[-1] in ".!?":
            return content, content, (content,)
        return content, f"Here is the result: {content}.", (content,)

    def _field(self, key: str) -> Any:
        rng = self.rng
        slot = {"day": "day", "arrives": "day", "city": "city", "place": "city", "shop": "city"}.get(key)
        if slot:
            return user_text.value(rng, self.catalogue, slot, None)
        if key in ("number", "order_number"):
            return user_text.number(rng, self.catalogue, "order")
        if key in ("price", "total", "count"):
            return rng.randint(1, 900)
        return rng.choice((True, False)) if rng.random() < 0.1 else rng.choice(load_tools()["results"]["words"])

    def _system(self) -> tuple[Turn, ...]:
        text = system_prompt(self.rng, self.catalogue, "neutral")
        return ({"role": "system", "content": text},) if text else ()


def _forced(asked: Asked) -> Asked:
    """The request with its call as the list that a required call is."""
    assert asked.call is not None
    name, arguments = asked.call["name"], asked.call["arguments"]
    text = functions.compact([{"name": name, "parameters": arguments}])
    return replace(asked, kind="forced", call=None, text=text)


def _alike(tool: Tool, other: Tool) -> bool:
    """Whether both have one name, or answer the same questions."""
    first, second = tool.function, other.function
    made = first.id.startswith("made/") and first.id.rpartition("/")[0] == second.id.rpartition("/")[0]
    return tool.name == other.name or first.id == second.id or made


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _held_intents() -> Sequence[str]:
    return [intent for function in functions.functions() if function.held_out for intent in function.intents]
