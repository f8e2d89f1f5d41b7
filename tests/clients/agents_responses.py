"""pydantic-ai over responses that the server stores: only new items are sent. usage: agents_responses.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as it reads them. Prints what it met, as JSON.
"""

import json
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings

settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
agent = Agent(OpenAIResponsesModel(sys.argv[1], settings=settings))
cities = []


@agent.tool_plain
def weather(city: str) -> str:
    """The weather in a city."""
    cities.append(city)
    return f"rain in {city.upper()}"


first = agent.run_sync("Is it wet in Oslo?")
second = agent.run_sync("thank you", message_history=first.all_messages())
print(json.dumps({"cities": cities, "first": first.output, "second": second.output}))
