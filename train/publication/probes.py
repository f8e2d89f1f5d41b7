"""Probes: the conversations on which models are compared, stored with the run and tokenised when needed.

Held-out conversations come first, then learnt ones, then built-in questions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files.atomic import atomic_write
from train.data.conversations import Conversation, Example, Preference
from train.run.folder import HELD_OUT, write_json
from train.trainers.templates import engine_messages

PROBES = "probes.json"
MOST = 64  # conversations: enough to tell 98 % from 99 % over a few thousand tokens
FEWEST = 16
GREEDY_TOKENS = 32  # that are compared of a greedy answer
LONGEST = 512  # tokens of a prompt: longer ones cost more and show no more
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
    """Conversations in the API's format, each `{"messages": […], "tools": […]}`, and their source in words."""

    source: str
    conversations: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Probe:
    """One conversation as token ids. `messages` is the prompt in the API's format; `answer` may be empty.

    `plain` means that it is text only, so that it can be sent over the API unchanged.
    """

    messages: tuple[dict[str, Any], ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    plain: bool


def built_in() -> ProbeSet:
    """Built-in questions without answers: the reference's answers to them are compared."""
    questions = tuple({"messages": [{"role": "user", "content": text}]} for text in _BUILT_IN)
    return ProbeSet("questions that come with Parley", questions)


def choose(held: Sequence[Example | Preference], learnt: Sequence[Example | Preference]) -> ProbeSet:
    """The probes of a run: held-out conversations, and learnt ones if there are fewer than 16."""
    source = "held-out conversations" if held else "conversations of the training"
    chosen = _spread(held, MOST)
    if len(chosen) < FEWEST:
        chosen += _spread(learnt, FEWEST - len(chosen))
        source = "held-out and learnt conversations" if held else source
    return ProbeSet(source, tuple(_in_api_form(item) for item in chosen))


def store_probes(probes: ProbeSet, folder: Path) -> None:
    """Writes them into a folder. They are user data, so this file is never pushed to a hub."""
    write_json(folder / PROBES, {"source": probes.source, "conversations": list(probes.conversations)})


def store_held_out(held: Sequence[Example | Preference], folder: Path) -> None:
    """Writes all held-out examples as chat JSONL: `parley eval run run:ID` evaluates models on them.

    Answers labelled bad (KTO) are left out, because an evaluation takes the answers as references.
    """
    held = [item for item in held if not (isinstance(item, Example) and item.label is False)]
    rows = (json.dumps(_in_api_form(item), ensure_ascii=False) + "\n" for item in held)
    if held:
        atomic_write(folder / HELD_OUT, "".join(rows).encode("utf-8", "replace"))


def load_probes(folder: Path) -> ProbeSet:
    """The stored probes of a folder; built-in questions if there are none, or the file is another program's."""
    try:
        values = json.loads((folder / PROBES).read_text("utf-8"))
        conversations = tuple(
            conversation for conversation in values["conversations"] if _is_conversation(conversation)
        )
        return ProbeSet(str(values["source"]), conversations) if conversations else built_in()
    except (OSError, ValueError, KeyError, TypeError):
        return built_in()


def _is_conversation(value: Any) -> bool:
    messages = value.get("messages") if isinstance(value, dict) else None
    return isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    )


def tokenise_probes(
    probes: ProbeSet, tokenizer: Any, *, number: int, answer_tokens: int, context: int
) -> tuple[Probe, ...]:
    """Probes as token ids, by a tokenizer and its chat template.

    Args:
        number: the most to return. answer_tokens: how much of each answer is compared.
        context: the model's context in tokens; longer conversations are left out.

    Returns:
        Probes with short prompts; if there are fewer than 16, the shortest ones. Empty only if the template can render
        none of them.
    """
    tokenised = [_tokenise(item, tokenizer, answer_tokens, context) for item in probes.conversations]
    usable = [probe for probe in tokenised if probe]
    short = [probe for probe in usable if len(probe.prompt) <= LONGEST]
    if len(short) < min(FEWEST, number):
        short = sorted(usable, key=lambda probe: len(probe.prompt))[:FEWEST]
    return tuple(_spread(short, number))


def _tokenise(conversation: dict[str, Any], tokenizer: Any, answer_tokens: int, context: int) -> Probe | None:
    messages, tools = conversation["messages"], conversation.get("tools") or None
    answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    last = max(answers, default=len(messages))
    context_messages = messages[:last]
    try:
        if tokenizer.chat_template:
            rows = engine_messages(_for_template(messages[: last + 1]), tokenizer, tools)
            prompt = tokenizer.apply_chat_template(rows[:last], tools=tools, tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(rows, tools=tools, tokenize=False)
        else:
            prompt = "".join(message.get("content") or "" for message in context_messages)
            whole = "".join(message.get("content") or "" for message in messages[: last + 1])
    except Exception:  # a template may raise anything, and what it cannot render cannot be a probe
        return None
    answer = ""
    if last < len(messages):
        answer = whole[len(prompt) :] if whole.startswith(prompt) else str(messages[last].get("content") or "")
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"][:answer_tokens] if answer else []
    if not ids or len(ids) + answer_tokens > context:
        return None
    plain = not tools and all(
        isinstance(message.get("content"), str)
        and not {"tool_calls", "reasoning_content"} & message.keys()
        and message["role"] != "tool"
        for message in context_messages
    )
    return Probe(tuple(context_messages), tuple(ids), tuple(answer_ids), plain)


def _for_template(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates expect a tool call's arguments as an object; the API has text."""
    shown = []
    for message in messages:
        calls = [
            call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
            for call in message.get("tool_calls") or ()
        ]
        shown.append(message | {"tool_calls": calls, "content": message.get("content") or ""} if calls else message)
    return shown


def _in_api_form(item: Example | Preference) -> dict[str, Any]:
    if isinstance(item, Example):
        conversation = item.conversation
    else:
        conversation = Conversation((*item.prompt, *item.chosen), item.tools)
    return {"messages": conversation.as_dicts(), "tools": conversation.tool_dicts() or []}


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """`number` of the items, evenly spaced."""
    if len(items) <= number:
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]
