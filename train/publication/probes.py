"""Which conversations a model is compared on: kept with the run, turned into token ids when they are needed.

Held-out conversations are the best probes, then those that were learnt, then sentences of our own. It compares nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.atomic import atomic_write
from train.data.conversations import Conversation, Example, Preference
from train.run.folder import HELD_OUT, write_json

PROBES = "probes.json"
KEPT = 64  # conversations at most: enough to tell 98 % from 99 % over a few thousand tokens
FEWEST = 16
GREEDY_TOKENS = 32  # of a greedy answer that is compared
LONGEST = 512  # tokens of a prompt: longer ones cost much and tell no more
_BUILT_IN = (
    "Hello, where is my order 40317?",
    "Please explain, step by step, how I change the address on my account.",
    '¿Cuánto cuesta? 你好。 {"json": [1, 2.5, null]}\n\nThanks!',
    "I was charged twice for one ticket. Can I have the second payment back?",
    "Write a short, friendly note that tells a customer that the parcel is two days late.",
    "What is the difference between a debit card and a credit card?",
    "Summarise in one sentence: the meeting moved from Monday to Wednesday because the room is taken.",
    "My screen stays black after the update. What should I try first?",
    "Antworte bitte auf Deutsch: Wann öffnet der Laden am Samstag?",
    "Give me three names for a bakery, as a JSON list and nothing else.",
    "def mean(values):\n    return sum(values) / len(values)\n\nWhat happens with an empty list?",
    "I would like to cancel my subscription from next month on.",
    "Traduis en français : the door is open.",
    "Which of these numbers is the largest: 17, 9, 170 or 71?",
    "Thanks a lot, that was all!",
    "Who are you, and what can you help me with?",
)


@dataclass(frozen=True)
class ProbeSet:
    """Conversations in the API's form, each as `{"messages": […], "tools": […]}`, and where they are from in words."""

    source: str
    conversations: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Probe:
    """One conversation in token ids. `messages`: what is asked, in the API's form; `answer`: empty where none is known.

    `plain` says that it is text alone, so that it can be asked over the API as it stands.
    """

    messages: tuple[dict[str, Any], ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    plain: bool


def built_in() -> ProbeSet:
    """Questions of our own, without answers: what the reference says to them is what is compared."""
    asked = tuple({"messages": [{"role": "user", "content": text}]} for text in _BUILT_IN)
    return ProbeSet("questions that come with Parley", asked)


def choose(held: Sequence[Example | Preference], learnt: Sequence[Example | Preference]) -> ProbeSet:
    """The probes of a run: held-out conversations, filled up with learnt ones where there are under 16."""
    source = "held-out conversations" if held else "conversations of the training"
    chosen = _spread(held, KEPT)
    if len(chosen) < FEWEST:
        chosen += _spread(learnt, FEWEST - len(chosen))
        source = "held-out and learnt conversations" if held else source
    return ProbeSet(source, tuple(_in_api_form(one) for one in chosen))


def keep(probes: ProbeSet, folder: Path) -> None:
    """Writes them into a folder. They are the user's data: nothing that is pushed to a hub may hold this file."""
    write_json(folder / PROBES, {"source": probes.source, "conversations": list(probes.conversations)})


def keep_held_out(held: Sequence[Example | Preference], folder: Path) -> None:
    """Writes everything that the run held out, as chat JSONL: `parley eval run run:ID` asks models that."""
    rows = (json.dumps(_in_api_form(one), ensure_ascii=False) + "\n" for one in held)
    if held:
        atomic_write(folder / HELD_OUT, "".join(rows).encode("utf-8", "replace"))


def kept(folder: Path) -> ProbeSet:
    """What `keep` wrote into that folder; questions of our own where it wrote nothing."""
    try:
        values = json.loads((folder / PROBES).read_text("utf-8"))
    except FileNotFoundError:
        return built_in()
    return ProbeSet(values["source"], tuple(values["conversations"])) if values["conversations"] else built_in()


def in_tokens(probes: ProbeSet, tokenizer: Any, *, number: int, answer_tokens: int, context: int) -> tuple[Probe, ...]:
    """Probes in the ids of one tokenizer and its chat template.

    Args:
        number: how many at most. answer_tokens: how much of each answer is compared.
        context: tokens that the model can hold; a conversation that does not fit is left out.

    Returns:
        Those with short prompts first come, first taken; the shortest of the others where there are under 16. Empty
        only where the template can render none of them.
    """
    found = [probe for one in probes.conversations if (probe := _in_tokens(one, tokenizer, answer_tokens, context))]
    short = [probe for probe in found if len(probe.prompt) <= LONGEST]
    if len(short) < min(FEWEST, number):
        short = sorted(found, key=lambda probe: len(probe.prompt))[:FEWEST]
    return tuple(_spread(short, number))


def _in_tokens(conversation: dict[str, Any], tokenizer: Any, answer_tokens: int, context: int) -> Probe | None:
    messages, tools = conversation["messages"], conversation.get("tools") or None
    last = max((place for place, one in enumerate(messages) if one["role"] == "assistant"), default=len(messages))
    asked = messages[:last]
    try:
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template(
                _for_template(asked), tools=tools, tokenize=False, add_generation_prompt=True
            )
            whole = tokenizer.apply_chat_template(_for_template(messages[: last + 1]), tools=tools, tokenize=False)
        else:
            prompt = "".join(one.get("content") or "" for one in asked)
            whole = "".join(one.get("content") or "" for one in messages[: last + 1])
    except Exception:  # a template may raise anything: what it cannot render cannot be asked either
        return None
    answer = ""
    if last < len(messages):
        answer = whole[len(prompt) :] if whole.startswith(prompt) else str(messages[last].get("content") or "")
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(answer, add_special_tokens=False)["input_ids"][:answer_tokens] if answer else []
    if not ids or len(ids) + answer_tokens > context:
        return None
    plain = not tools and all(isinstance(one.get("content"), str) and "tool_calls" not in one for one in asked)
    return Probe(tuple(asked), tuple(ids), tuple(said), plain and all(one["role"] != "tool" for one in asked))


def _for_template(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates want a tool call's arguments as an object, where the API has text."""
    shown = []
    for message in messages:
        calls = [
            call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
            for call in message.get("tool_calls") or ()
        ]
        shown.append(message | {"tool_calls": calls, "content": message.get("content") or ""} if calls else message)
    return shown


def _in_api_form(one: Example | Preference) -> dict[str, Any]:
    conversation = one.conversation if isinstance(one, Example) else Conversation((*one.prompt, *one.chosen), one.tools)
    return {"messages": conversation.as_dicts(), "tools": conversation.tool_dicts() or []}


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """So many of them, evenly over the whole."""
    if len(items) <= number:
        return list(items)
    return [items[place * len(items) // number] for place in range(number)]
