"""instructor and pydantic-ai: structured answers and tools. usage: agents_chat.py MODEL MODEL_WITH_TOOLS

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as both read them. Prints what it met, as JSON.
"""

import asyncio
import json
import sys
from typing import Annotated, Literal

import instructor
import openai
from pydantic import BaseModel, Field
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings

name, caller = sys.argv[1:]
question = "where is my order 73194628?"


class Ticket(BaseModel):
    """What a message is about."""

    topic: Literal["delivery", "money"]
    urgent: bool
    order: Annotated[str, Field(pattern="^[0-9]{8}$")]


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


@agent.tool_plain
def find_order(number: str) -> str:
    """Where an order is."""
    return f"Order {number} was shipped yesterday."


run = agent.run_sync(question)
found["agent with a tool"] = run.output
found["agent's tokens"] = run.usage.total_tokens if not callable(run.usage) else run.usage().total_tokens


# As in the introductions of both, with a model that calls functions when it wants to.
class User(BaseModel):
    name: str
    age: int


john = [{"role": "user", "content": "John is 25 years old"}]
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(openai.OpenAI(), mode=mode)
    user = client.chat.completions.create(model=caller, response_model=User, messages=john, temperature=0)
    found[f"user by {mode.value}"] = user.model_dump()


class Status(BaseModel):
    answer: str
    number: str


asked = []
calling = OpenAIChatModel(caller, settings=ModelSettings(temperature=0))
support = Agent(calling)
structured = Agent(calling, output_type=Status)


@support.tool_plain
@structured.tool_plain
def get_order_status(order_id: str) -> str:
    """Get the status of an order."""
    asked.append(order_id)
    return f"Order {order_id} was shipped yesterday."


@support.tool_plain
@structured.tool_plain
def get_opening_hours(city: str) -> dict:
    """Get the hours of our store in a city."""
    return {"city": city, "open": "9 to 18"}


async def stream():
    """The answer to another question, piece by piece."""
    async with support.run_stream("When is the shop in Oslo open?") as streamed:
        return "".join([piece async for piece in streamed.stream_text(delta=True)])


found["support"] = support.run_sync(question).output
found["support, a stream"] = asyncio.run(stream())
found["support, no tool"] = support.run_sync("I forgot my password").output
found["support, structured"] = structured.run_sync(question).output.model_dump()
found["asked"] = asked

print(json.dumps(found))
