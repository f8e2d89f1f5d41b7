"""Examples and preference pairs as the JSONL that OpenAI and Together take. What is wrong with them, `checks` says.

Format: platform.openai.com/docs/guides/supervised-fine-tuning and …/direct-preference-optimization; Together takes the
same (docs.together.ai/docs/fine-tuning/data-preparation).
"""

import json
from collections.abc import Iterable
from typing import Any

from train.data.conversations import Example, Preference, dicts


def as_jsonl(items: Iterable[Example | Preference]) -> bytes:
    """One line for each item, in UTF-8, the last with its newline."""
    return "".join(json.dumps(_row(item), ensure_ascii=False) + "\n" for item in items).encode()


def _row(item: Example | Preference) -> dict[str, Any]:
    if isinstance(item, Preference):
        return {
            "input": {"messages": dicts(item.prompt)} | _tools(item.tools),
            "preferred_output": dicts(item.chosen),
            "non_preferred_output": dicts(item.rejected),
        }
    messages = item.conversation.as_dicts()
    for position in item.unweighted:
        messages[position]["weight"] = 0
    return {"messages": messages} | _tools(item.conversation.tools)


def _tools(tools: tuple[str, ...]) -> dict[str, Any]:
    return {"tools": [json.loads(tool) for tool in tools]} if tools else {}
