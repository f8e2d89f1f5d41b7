"""Stored responses: a conversation by previous_response_id, as a program for OpenAI has it. usage: responses.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys

import openai

model = sys.argv[1]
client = openai.OpenAI()
weather = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}

first = client.responses.create(model=model, input="hello there")
second = client.responses.create(model=model, input="and again", previous_response_id=first.id)
kept = client.responses.retrieve(second.id)
items = [item.content[0].text for item in client.responses.input_items.list(second.id, order="asc", limit=2)]

# A loop that runs a tool, with only the new items in each request.
with client.responses.stream(model=model, input="Is it wet in Oslo?", tools=[weather]) as stream:
    response = stream.get_final_response()
steps = 0
while calls := [item for item in response.output if item.type == "function_call"]:
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    with client.responses.stream(
        model=model, input=results, tools=[weather], previous_response_id=response.id
    ) as stream:
        response = stream.get_final_response()
    steps += 1

client.responses.delete(first.id)
try:
    client.responses.retrieve(first.id)
    missing = None
except openai.NotFoundError as error:
    missing = f"Response with id '{first.id}' not found." in error.message

print(
    json.dumps(
        {
            "continued": [second.previous_response_id == first.id, second.output_text, second.usage.input_tokens],
            "kept": [kept.id == second.id, kept.output_text, kept.previous_response_id == first.id],
            "items": items,
            "loop": [steps, response.output_text, response.usage.input_tokens],
            "missing": missing,
        }
    )
)
