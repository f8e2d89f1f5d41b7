"""instructor and pydantic-ai: structured answers and tools. usage: agents_chat.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as both read them. Prints what it met, as JSON.
"""

import json
import sys
from typing import Literal

import instructor
import openai
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings

name = sys.argv[1]
question = "where is my order 73194628?"


class Ticket(BaseModel):
    """What a message is about."""

    topic: Literal["cancel", "delivery", "refund", "payment", "account", "other"]
    number: str | None
    urgent: bool


found = {}
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(openai.OpenAI(), mode=mode)
    ticket = client.chat.completions.create(
        model=name,
        response_model=Ticket,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_retries=0,
        max_tokens=200,
    )
    found[mode.value] = ticket.model_dump()

settings = ModelSettings(temperature=0, max_tokens=200)
model = OpenAIChatModel(name, settings=settings)
found["agent"] = Agent(model).run_sync(question).output
found["agent's ticket"] = Agent(model, output_type=ToolOutput(Ticket)).run_sync(question).output.model_dump()


agent = Agent(model)


@agent.tool_plain(name="trackOrder")
def track_order(number: str) -> str:
    """Where an order is."""
    return f"Order {number} arrives on Friday."


run = agent.run_sync(question)
found["agent with a tool"] = run.output
found["agent's tokens"] = run.usage.total_tokens if not callable(run.usage) else run.usage().total_tokens

print(json.dumps(found))
