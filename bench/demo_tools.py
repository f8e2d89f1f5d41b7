"""The demo's support-tools as served: held-out requests through the gateway and vLLM's parser, greedily.

Tickets are requested with a JSON schema, and as a function whose call is forced. `bench.demo_model` starts the demo.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.demo import FOLDER
from train.demo.tool_evaluation import Reply, ToolPrompt, summarise

MODEL = "support-tools"
_REQUESTS_AT_ONCE = 8
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "topic": {"enum": ["cancel", "delivery", "refund", "payment", "account", "other"]},
    "number": {"type": ["string", "null"]},
    "urgent": {"type": "boolean"},
}


def read_prompts() -> list[ToolPrompt]:
    """The shipped held-out requests."""
    lines = (FOLDER / "tools.jsonl").read_text("utf-8").splitlines()
    return [ToolPrompt(**json.loads(line)) for line in lines]


async def measure_tools(completer: Any, prompts: Sequence[ToolPrompt]) -> dict[str, dict[str, float]]:
    """For each kind of request, the shares of answers with the right form, function and content.

    `completer` is the model's `GatewayCompleter`.
    """
    slots = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    async def answer(prompt: ToolPrompt) -> Reply:
        async with slots:
            return read_reply(await completer.post("/chat/completions", body(prompt)))

    return summarise(prompts, await asyncio.gather(*map(answer, prompts)))


def body(prompt: ToolPrompt) -> dict[str, Any]:
    """The request of a prompt."""
    fields: dict[str, Any] = {"model": MODEL, "messages": prompt.messages, "temperature": 0, "max_tokens": 120}
    if prompt.tools:
        fields["tools"] = prompt.tools
    if prompt.kind == "ticket_call" and prompt.call is not None:
        fields["tool_choice"] = {"type": "function", "function": {"name": prompt.call["name"]}}
    if prompt.fields is not None:
        properties = {name: _SCHEMAS[name] for name in prompt.fields}
        closed = {"required": list(properties), "additionalProperties": False}
        schema = {"type": "object", "properties": properties, **closed}
        fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": schema}}
    return fields


def read_reply(answer: Any) -> Reply:
    """The text and the calls of a chat completion."""
    message = answer["choices"][0]["message"]
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return Reply(message.get("content") or "", [(call["name"], _arguments(call["arguments"])) for call in calls])


def table(kinds: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as a Markdown table."""
    lines = ["| held-out requests | number | right form | right function | all right |", "|---|---|---|---|---|"]
    for kind, row in kinds.items():
        shares = (f"{row[name]:.0%}" for name in ("form", "name", "right"))
        lines.append(f"| {kind} | {row['requests']:.0f} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
