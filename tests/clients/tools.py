"""Tools, structured outputs, embeddings, responses and the asynchronous client. usage: tools.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import asyncio
import json
import sys
from typing import Literal

import openai
from pydantic import BaseModel

model = sys.argv[1]
client = openai.OpenAI()
tools = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


class Ticket(BaseModel):
    topic: Literal["delivery", "money"]
    urgent: bool
    summary: str


# A tool is called, and its result goes back.
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
asking = client.chat.completions.create(model=model, messages=messages, tools=tools)
call = asking.choices[0].message.tool_calls[0]
messages += [
    asking.choices[0].message.to_dict(),
    {"role": "tool", "tool_call_id": call.id, "content": "rain, 4 degrees"},
]
answer = client.chat.completions.create(model=model, messages=messages, tools=tools)

# The same as a stream, put together by the SDK's own helper.
with client.chat.completions.stream(model=model, messages=messages[:1], tools=tools) as stream:
    kinds = {event.type for event in stream}
    streamed = stream.get_final_completion().choices[0].message.tool_calls[0].function

ticket = client.chat.completions.parse(
    model=model, messages=[{"role": "user", "content": "my parcel is late"}], response_format=Ticket
)
vectors = client.embeddings.create(model=model, input=["one", "three"])
response = client.responses.create(model=model, input="hello there")
with client.responses.stream(model=model, input="hello again") as stream:
    deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    final = stream.get_final_response()


async def at_once():
    """Three questions at once, and one as a stream."""
    async with openai.AsyncOpenAI() as client:
        asked = [
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": f"number {number}"}])
            for number in range(3)
        ]
        whole = [one.choices[0].message.content for one in await asyncio.gather(*asked)]
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "piece by piece"}], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return whole, "".join(pieces)


whole, pieces = asyncio.run(at_once())

print(
    json.dumps(
        {
            "called": [call.function.name, json.loads(call.function.arguments), asking.choices[0].finish_reason],
            "answer": answer.choices[0].message.content,
            "streamed call": [
                streamed.name,
                json.loads(streamed.arguments),
                "tool_calls.function.arguments.delta" in kinds,
            ],
            "parsed": ticket.choices[0].message.parsed.model_dump(),
            "vectors": [one.embedding for one in vectors.data],
            "response": response.output_text,
            "streamed response": ["".join(deltas), final.output_text, final.usage.total_tokens],
            "at once": whole,
            "async stream": pieces,
        }
    )
)
