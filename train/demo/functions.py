"""The functions of support-tools, read from tools.toml, and how a request describes them: names, arguments, schema.

Everything that a text is made from exists twice: for training, and held out.
"""

import json
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from train.demo import grammar
from train.demo.catalogue import Split

_FILE = Path(__file__).parent / "tools.toml"
INTEGERS = frozenset({"count"})  # slots whose value is always a JSON integer
_MADE_ARGUMENTS = {"number": "order", "city": "city", "day": "day", "person": "person"}
Values = Mapping[str, str]


@dataclass(frozen=True)
class Function:
    """A function that a program may offer. `needs` and `optional` are kinds of arguments in tools.toml."""

    id: str
    intents: tuple[str, ...]
    needs: tuple[str, ...]
    optional: tuple[str, ...]
    names: Mapping[Split, tuple[str, ...]]
    about: Mapping[Split, tuple[str, ...]]
    results: tuple[str, ...]
    held_out: bool = False


@dataclass(frozen=True)
class Argument:
    """An argument of an offered function: its name, and the slot that fills it. `integer`: of JSON's type integer."""

    name: str
    slot: str
    about: str
    required: bool
    integer: bool


@dataclass(frozen=True)
class Tool:
    """A function as one request offers it."""

    function: Function
    name: str
    about: str
    arguments: tuple[Argument, ...]

    def as_json(self) -> dict[str, Any]:
        """The tool in the API's format."""
        properties = {}
        for argument in self.arguments:
            described = {"description": argument.about} if argument.about else {}
            properties[argument.name] = {"type": "integer" if argument.integer else "string"} | described
        required = [argument.name for argument in self.arguments if argument.required]
        about = {"description": self.about} if self.about else {}
        parameters = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": {"name": self.name, **about, "parameters": parameters}}

    def call(self, values: Values) -> dict[str, Any]:
        """The arguments of a call with these values. Optional ones without a value are left out."""
        given = [argument for argument in self.arguments if argument.slot in values]
        return {
            argument.name: int(values[argument.slot]) if argument.integer else values[argument.slot]
            for argument in given
        }

    def lacks(self, values: Values) -> bool:
        """Whether a required argument has no value."""
        return any(argument.required and argument.slot not in values for argument in self.arguments)


@cache
def load_tools() -> Mapping[str, Any]:
    """The content of tools.toml."""
    return tomllib.loads(_FILE.read_text("utf-8"))


@cache
def functions() -> tuple[Function, ...]:
    """All written functions, held-out ones included."""
    return tuple(_function(row) for row in load_tools()["function"])


def make_function(rng: random.Random, split: Split, *, near: Function | None = None) -> Function:
    """A function whose name is a verb and a noun. `near`: another one that shares its verb or its noun."""
    words = load_tools()["made"]
    verb, noun = (_of_split(words, key, split) for key in ("verbs", "nouns"))
    pair = [rng.choice(verb), rng.choice(noun)]
    if near is not None and near.id.startswith("made/"):
        kept = rng.randrange(2)
        pair[kept] = near.id.split("/")[1 + kept]
    slots = {"verb": pair[0], "noun": pair[1], "Verb": pair[0].capitalize(), "Noun": pair[1].capitalize()}
    kind = rng.choice(("number", "number", "city", "day", "person", "none"))
    known = (_MADE_ARGUMENTS[kind],) if kind != "none" else ()
    filled = {key: tuple(_fill(text, slots) for text in words[key]) for key in ("names", "about")}
    return Function(
        id=f"made/{pair[0]}/{pair[1]}/{kind}", intents=(), needs=known, optional=(),
        names={"train": filled["names"], "held_out": filled["names"]},
        about={"train": filled["about"], "held_out": filled["about"]},
        results=(f"The {pair[1]} is ready.", "done"), held_out=split == "held_out",
    )  # fmt: skip


def make_question(rng: random.Random, function: Function, values: Values, split: Split) -> str:
    """A question for a made function, with its slots filled."""
    words = load_tools()["made"]
    _, verb, noun, kind = function.id.split("/")
    more = grammar.fill(rng.choice(words["more"][kind]), values)
    sentence = grammar.pick(rng, rng.choice(_of_split(words, "frames", split)))
    return re.sub(r"\s+([?.,]|$)", r"\1", grammar.fill(sentence, {"verb": verb, "noun": noun, "more": more}))


def offer(rng: random.Random, function: Function, split: Split, *, integers: bool = True) -> Tool:
    """The function with names and descriptions of a split. `integers`: numbers may be of JSON's type integer."""
    arguments: list[Argument] = []
    optional = [kind for kind in function.optional if rng.random() < 0.8]
    for kind in (*function.needs, *optional):
        argument = _argument(rng, kind, split, kind in function.needs or rng.random() < 0.15, integers)
        if argument.name not in {other.name for other in arguments}:
            arguments.append(argument)
    about = "" if rng.random() < 0.12 else rng.choice(function.about[split])
    return Tool(function, rng.choice(function.names[split]), about, tuple(arguments))


def compact(value: Any) -> str:
    """JSON as the engines write it when they are constrained to JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ":"))


def _argument(rng: random.Random, kind: str, split: Split, required: bool, integers: bool) -> Argument:
    words = load_tools()["arguments"][kind]
    names = _of_split(words, "names", split)
    about = "" if rng.random() < 0.3 else rng.choice(_of_split(words, "about", split))
    integer = words["slot"] in INTEGERS or (integers and words["slot"] == "number" and rng.random() < 0.12)
    return Argument(rng.choice(names), words["slot"], about, required, integer)


def _function(row: Mapping[str, Any]) -> Function:
    held = row.get("held_out", {})
    whole = held is True
    other = {} if whole else held
    return Function(
        id=row["id"], intents=tuple(row["intents"]), needs=tuple(row.get("needs", ())),
        optional=tuple(row.get("optional", ())),
        names={"train": tuple(row["names"]), "held_out": tuple(other.get("names", row["names"]))},
        about={"train": tuple(row["about"]), "held_out": tuple(other.get("about", row["about"]))},
        results=tuple(row["results"]), held_out=whole,
    )  # fmt: skip


def _of_split(words: Mapping[str, Any], key: str, split: Split) -> Sequence[str]:
    return words[key] if split == "train" else words["held_out"][key]


def _fill(text: str, slots: Values) -> str:
    for slot, word in slots.items():
        text = text.replace(f"{{{slot}}}", word)
    return text
