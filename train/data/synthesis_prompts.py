"""What a synthesis asks a model, and the examples in its answer. It knows no files and no counts."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.chat.messages import Message
from models.errors import Invalid
from train.data.conversations import Example, Problem
from train.data.readers import from_rows

_SYSTEM = (
    "You write training examples for a chat assistant. Each is one JSON object on a line of its own, in exactly the "
    "form of the examples you are shown. The assistant's answers keep the style, the length and the format of those "
    "examples. A system message is copied word for word. Invent no facts that the examples do not support. "
    "Write the JSON lines and nothing else."
)
# One of these goes into each prompt: without them a model writes the most likely example again and again.
_VARIATIONS = (
    "The new ones should be about other details than the examples.",
    "The users should be brief, and make a typo or two.",
    "The users should be polite and explain their case at length.",
    "The users should be impatient or upset.",
    "The users should be unsure of the right words for what they want.",
    "The new ones should be rarer cases that the examples do not show.",
    "The users should ask for two things at once.",
    "The users should be new to all this.",
)


@dataclass(frozen=True)
class SynthesisOptions:
    """How a synthesis runs.

    `model` is its name for the metadata; `number` is how many examples the finished file has. Each prompt shows
    `shots` seeds, drawn by `seed`, and asks for `each` new examples. `concurrency` requests run at once. The run ends
    after `patience` requests in a row without a new example. `instructions` are added to each prompt.

    Raises:
        Invalid: a number below 1.
    """

    model: str
    number: int
    seed: int = 0
    shots: int = 4
    each: int = 2
    concurrency: int = 8
    patience: int = 20
    instructions: str = ""
    temperature: float = 1.0
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        for name in ("number", "shots", "each", "concurrency"):
            if getattr(self, name) < 1:
                raise Invalid(f"{name} is {getattr(self, name)}: use 1 or more.", param=name)


def prompt_for(
    examples: Sequence[Example], request: int, options: SynthesisOptions
) -> tuple[list[Message], tuple[int, ...]]:
    """The messages of request number `request`, and the lines of the seeds in it. The same number, the same prompt."""
    draw = random.Random(f"{options.seed}:{request}")  # noqa: S311 -- a draw, not a secret
    shown = draw.sample(list(examples), min(options.shots, len(examples)))
    lines = "\n".join(json.dumps({"messages": e.conversation.as_dicts()}, ensure_ascii=False) for e in shown)
    noun = "example" if options.each == 1 else "examples"
    variation = _VARIATIONS[request % len(_VARIATIONS)]
    text = f"Examples:\n{lines}\n\nWrite {options.each} new, different {noun}. {variation}"
    if options.instructions:
        text += f" {options.instructions}"
    messages = [Message(role="system", content=_SYSTEM), Message(role="user", content=text)]
    return messages, tuple(example.line for example in shown)


def read_examples(text: str) -> Iterator[Example | Problem]:
    """The conversations in a model's answer: JSON lines or a JSON list, also in a code fence."""
    decoder = json.JSONDecoder()
    place, rows = 0, []
    while (place := _next_json(text, place)) >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except RecursionError:  # a model that repeats brackets without end
            break
        except ValueError:
            place += 1
            continue
        rows += value if isinstance(value, list) else [value]
        place = end
    for item in from_rows([row for row in rows if isinstance(row, dict) and isinstance(row.get("messages"), list)]):
        if isinstance(item, Example | Problem):
            yield item


def _next_json(text: str, start: int) -> int:
    places = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(places, default=-1)
