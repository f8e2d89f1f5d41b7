"""Held-out requests for support-tools, and whether an answer is right. The build and bench/demo_model.py share both.

The questions are of held-out frames, in clean English, with numbers that are not trained on. "known": functions with
names of the training text. "renamed": the same functions, with names, arguments and descriptions that are not in it.
"unseen": functions that are not in it at all. "result": the answer from a function's result. "none": no function fits.
"missing": the question lacks what the function needs. "bare", "keyed", "schema": requests for JSON.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from train.demo import functions
from train.demo.catalogue import Catalogue
from train.demo.held_out import numbers_in
from train.demo.json_talks import AskedJson, JsonTalks
from train.demo.tool_talks import Asked, ToolTalks

COUNTS: Mapping[str, int] = {
    "known": 40, "renamed": 40, "unseen": 40, "result": 30, "none": 40, "missing": 15,
    "bare": 15, "keyed": 20, "schema": 15,
}  # fmt: skip
CALLS = ("known", "renamed", "unseen")
JSON = ("bare", "keyed", "schema")
_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)


@dataclass(frozen=True)
class ToolPrompt:
    """A request and what its answer must be: a call, an object with `fields`, or a text that has `holds`.

    Of the fields only those in `copied` must have the given value, since the others can be worded in many ways.
    """

    id: str
    kind: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    call: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None
    copied: Sequence[str] = ()
    holds: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """All fields, for a JSON line."""
        return asdict(self)


@dataclass(frozen=True)
class Reply:
    """An answer: its text, and the calls in it as (name, arguments)."""

    text: str
    calls: Sequence[tuple[str, Any]] = ()


@dataclass(frozen=True)
class Marks:
    """What is right about one answer. `called`: it has a call. `function`: of the right function. `right`: wholly."""

    called: bool
    function: bool
    right: bool


def tool_prompts(seed: int, catalogue: Catalogue, trained: frozenset[str]) -> list[ToolPrompt]:
    """The held-out requests. `trained`: numbers that they may not have."""
    rng = random.Random(f"{seed}/tool prompts")
    unseen = tuple(one for one in functions.functions() if one.held_out)
    makers: dict[str, ToolTalks] = {
        "known": ToolTalks(rng, catalogue, "held_out", naming="train", made=0.0),
        "renamed": ToolTalks(rng, catalogue, "held_out", made=0.0),
        "unseen": ToolTalks(rng, catalogue, "held_out", only=unseen, made=0.5),
    }
    shaped = JsonTalks(rng, catalogue, "held_out")
    made: list[ToolPrompt] = []
    for kind, count in COUNTS.items():
        found = 0
        while found < count:
            if kind in CALLS:
                asked: Asked | AskedJson = makers[kind].call()
            elif kind in JSON:
                asked = shaped.asked(kind)
            else:
                asked = getattr(makers["known"], kind)()
            if not trained & numbers_in(str(turn.get("content")) for turn in asked.messages):
                found += 1
                made.append(_prompt(f"{kind}-{found}", kind, asked))
    return made


def parse_reply(text: str) -> Reply:
    """The calls and the text of an answer in Hermes' format. A call that is no JSON has the name ""."""
    calls = [_call(found) for found in _CALL.findall(text)]
    return Reply(_CALL.sub("", text).strip(), calls)


def mark(prompt: ToolPrompt, reply: Reply) -> Marks:
    """What is right about an answer."""
    called = bool(reply.calls)
    if prompt.call is not None:
        expected = (prompt.call["name"], prompt.call["arguments"])
        function = len(reply.calls) == 1 and reply.calls[0][0] == expected[0]
        return Marks(called, function, function and reply.calls[0][1] == expected[1])
    if prompt.fields is not None:
        given = _object(reply.text)
        named = given is not None and list(given) == list(prompt.fields)
        copied = given is not None and named and all(given[key] == prompt.fields[key] for key in prompt.copied)
        return Marks(called, given is not None and not called, copied and not called)
    right = not called and bool(reply.text) and all(part in reply.text for part in prompt.holds)
    return Marks(called, not called, right)


def summarise(prompts: Sequence[ToolPrompt], replies: Sequence[Reply]) -> dict[str, dict[str, float]]:
    """For each kind: the number of requests, and the shares of answers with a call, the right function, all right.

    For JSON the "function" is an object at all, and all right means its keys and copied values.
    """
    marks = [(prompt.kind, mark(prompt, reply)) for prompt, reply in zip(prompts, replies, strict=True)]
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(prompt.kind for prompt in prompts):
        own = [marked for name, marked in marks if name == kind]
        found[kind] = {"questions": len(own)} | {
            name: round(sum(getattr(one, name) for one in own) / len(own), 4)
            for name in ("called", "function", "right")
        }
    return found


def _prompt(name: str, kind: str, asked: Asked | AskedJson) -> ToolPrompt:
    if isinstance(asked, AskedJson):
        return ToolPrompt(name, kind, asked.messages, (), fields=asked.fields, copied=asked.copied)
    tools = tuple(tool.as_json() for tool in asked.tools)
    return ToolPrompt(name, kind, asked.messages, tools, call=asked.call, holds=asked.holds)


def _call(text: str) -> tuple[str, Any]:
    given = _object(text)
    return (str(given.get("name")), given.get("arguments")) if given else ("", None)


def _object(text: str) -> dict[str, Any] | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    return given if isinstance(given, dict) else None
