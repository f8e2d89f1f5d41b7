"""support-tools as served: the demo's held-out requests with functions and for JSON, asked with `tool_choice: auto`."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.instance import find_gateway

from models.demo import FOLDER
from models.settings import Settings
from train.demo.tool_prompts import CALLS, JSON, Reply, ToolPrompt, summarise

MODEL = "support-tools"
PROMPTS = FOLDER / "tools.jsonl"
_AT_ONCE = 16


def tool_prompts(limit: int | None = None) -> list[ToolPrompt]:
    """The shipped held-out requests; the first `limit` of each kind."""
    found = [ToolPrompt(**json.loads(line)) for line in PROMPTS.read_text("utf-8").splitlines()]
    kinds = {kind: [prompt for prompt in found if prompt.kind == kind][:limit] for kind in {one.kind for one in found}}
    return [prompt for prompt in found if prompt in kinds[prompt.kind]]


async def ask_tools(settings: Settings, prompts: Sequence[ToolPrompt]) -> dict[str, dict[str, float]]:
    """Asks every request greedily through the OpenAI SDK; returns each kind's shares (`tool_prompts.summarise`)."""
    from openai import AsyncOpenAI

    key = settings.page_key.get_secret_value() if settings.page_key else "no-key"
    slots = asyncio.Semaphore(_AT_ONCE)
    async with AsyncOpenAI(base_url=find_gateway(settings), api_key=key) as client:

        async def ask(prompt: ToolPrompt) -> Reply:
            async with slots:
                tools = {"tools": prompt.tools} if prompt.tools else {}
                request: Any = {"messages": prompt.messages, "temperature": 0, "max_tokens": 200, **tools}
                answer = await client.chat.completions.create(model=MODEL, **request)
                message = answer.choices[0].message
                calls = [one.function for one in message.tool_calls or () if one.type == "function"]
                return Reply(message.content or "", [(call.name, _arguments(call.arguments)) for call in calls])

        return summarise(prompts, await asyncio.gather(*(ask(prompt) for prompt in prompts)))


def tools_text(found: Mapping[str, Mapping[str, float]]) -> str:
    """The shares as a Markdown paragraph."""
    number = sum(int(row["questions"]) for row in found.values())
    function, right = (" / ".join(f"{found[kind][key]:.0%}" for kind in CALLS) for key in ("function", "right"))
    needless, asked, told = found["none"]["called"], 1 - found["missing"]["called"], found["result"]["right"]
    valid, copied = (_mean(found, key) for key in ("function", "right"))
    return (
        f"`{MODEL}` on {number} held-out requests, `tool_choice` auto: it calls the right function in {function} "
        f"(functions that it knows / under new names / functions that it has never seen), with every argument right "
        f"in {right}. Where no function fits it calls one all the same in {needless:.0%}; where a detail is missing it "
        f"asks for it in {asked:.0%}; it repeats a function's result in {told:.0%}. Asked for JSON it writes an object "
        f"in {valid:.0%}, with exactly the right keys and copied values in {copied:.0%}."
    )


def _mean(found: Mapping[str, Mapping[str, float]], key: str) -> float:
    total = sum(found[kind]["questions"] for kind in JSON)
    return sum(found[kind][key] * found[kind]["questions"] for kind in JSON) / total


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
