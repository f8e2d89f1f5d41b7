"""LiteLLM as a client: completion, stream, asynchronous, tools. usage: litellm_chat.py MODEL [--tools]

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY. Prints what it met, as JSON.
"""

import asyncio
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the internet for prices, whoever it talks to
import litellm

litellm.suppress_debug_info = True
where = {
    "model": f"openai/{sys.argv[1]}",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
    "temperature": 0,
    "max_tokens": 60,
}
question = [{"role": "user", "content": "please cancel my order 73194628"}]

found = {}
answer = litellm.completion(messages=question, **where)
found["answer"] = answer.choices[0].message.content
found["tokens"] = answer.usage.total_tokens
chunks = list(litellm.completion(messages=question, stream=True, stream_options={"include_usage": True}, **where))
found["streamed"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
found["streamed tokens"] = litellm.stream_chunk_builder(chunks, messages=question).usage.total_tokens
found["async"] = asyncio.run(litellm.acompletion(messages=question, **where)).choices[0].message.content
try:
    litellm.completion(messages=question, **where | {"model": "openai/nobody/here"})
except litellm.exceptions.NotFoundError as error:
    found["unknown model"] = type(error).__name__

if "--tools" in sys.argv:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "description": "?", "parameters": parameters}}]
    asking = litellm.completion(
        messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=tools, **where
    )
    call = asking.choices[0].message.tool_calls[0].function
    found["called"] = [call.name, json.loads(call.arguments)]

print(json.dumps(found))
