"""Held-out requests for support-tools, and whether an answer is right. The build and bench/demo_model.py share both.

Questions are of held-out frames, in clean English, with numbers that were not trained on.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from train.demo.catalogue import Catalogue
from train.demo.functions import ToolRequest
from train.demo.held_out import numbers_in
from train.demo.tool_dialogues import ToolRequests

COUNTS: Mapping[str, int] = {
    "call": 80, "none": 40, "absent": 30, "missing": 20, "result": 40, "ticket": 60, "ticket_call": 30, "plain": 20,
}  # fmt: skip


@dataclass(frozen=True)
class ToolPrompt:
    """A held-out request, and what its answer must be: a call, an object with `fields`, or a text that has `holds`."""

    id: str
    kind: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    call: Mapping[str, Any] | None
    fields: Mapping[str, Any] | None
    holds: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """All fields, for a JSON line."""
        return asdict(self)


@dataclass(frozen=True)
class Reply:
    """An answer: its text, and its calls as (name, arguments)."""

    text: str
    calls: Sequence[tuple[str, Any]] = ()


@dataclass(frozen=True)
class Marks:
    """What is right about one answer.

    `form`: it is a call where one is due, an object where JSON is due, otherwise a text. `name`: also of the right
    function. `right`: also with the right arguments, fields or contents.
    """

    form: bool
    name: bool
    right: bool


def tool_prompts(seed: int, catalogue: Catalogue, trained: frozenset[str]) -> list[ToolPrompt]:
    """The held-out requests. `trained`: numbers that they may not have."""
    requests = ToolRequests(random.Random(f"{seed}/tool prompts"), catalogue, "held_out")
    made: list[ToolPrompt] = []
    for kind, count in COUNTS.items():
        of_kind: list[ToolPrompt] = []
        while len(of_kind) < count:
            request = requests.draw(kind)
            if not trained & numbers_in(str(turn["content"]) for turn in request.messages):
                of_kind.append(_prompt(f"{kind}-{len(of_kind) + 1}", request))
        made += of_kind
    return made


def parse_reply(text: str) -> Reply:
    """The answer in a model's text: a call if it is one object with `name` and `parameters`, as vLLM reads it."""
    parsed = _object(text)
    if parsed is not None and {"name", "parameters"} <= parsed.keys():
        return Reply("", [(parsed["name"], parsed["parameters"])])
    return Reply(text)


def mark(prompt: ToolPrompt, reply: Reply) -> Marks:
    """What is right about an answer."""
    if prompt.call is not None:
        name = len(reply.calls) == 1 and reply.calls[0][0] == prompt.call["name"]
        return Marks(bool(reply.calls), name, name and reply.calls[0][1] == prompt.call["arguments"])
    if prompt.fields is not None:
        parsed = None if reply.calls else _object(reply.text)
        return Marks(parsed is not None, parsed is not None, parsed == prompt.fields)
    is_text = not reply.calls and bool(reply.text.strip()) and _object(reply.text) is None
    return Marks(is_text, is_text, is_text and all(part in reply.text for part in prompt.holds))


def summarise(prompts: Iterable[ToolPrompt], replies: Iterable[Reply]) -> dict[str, dict[str, float]]:
    """For each kind of request, the number of requests and the share of each mark."""
    marks: dict[str, list[Marks]] = defaultdict(list)
    for prompt, reply in zip(prompts, replies, strict=True):
        marks[prompt.kind].append(mark(prompt, reply))
    return {kind: {"requests": len(of_kind), **_shares(of_kind)} for kind, of_kind in marks.items()}


def _shares(marks: Sequence[Marks]) -> dict[str, float]:
    return {
        name: round(sum(getattr(each, name) for each in marks) / len(marks), 4) for name in ("form", "name", "right")
    }


def _prompt(name: str, request: ToolRequest) -> ToolPrompt:
    tools = [function.as_tool() for function in request.tools]
    return ToolPrompt(name, request.kind, request.messages, tools, request.call, request.fields, request.holds)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
