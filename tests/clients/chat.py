"""Chats with a model: whole, as a stream, and with mistakes that the SDK has a class for. usage: chat.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys

import openai

model = sys.argv[1]
client = openai.OpenAI()
question = [{"role": "user", "content": "please cancel my order 73194628"}]

listed = [one.id for one in client.models.list()]
retrieved = client.models.retrieve(model)

answer = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=60)

pieces, usage = [], None
stream = client.chat.completions.create(
    model=model, messages=question, temperature=0, max_tokens=60, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if chunk.choices:
        pieces.append(chunk.choices[0].delta.content or "")
    if chunk.usage:
        usage = chunk.usage.total_tokens

caught = {}
for name, call in {
    "unknown model": lambda: client.chat.completions.create(model="nobody/here", messages=question),
    "unknown model, retrieved": lambda: client.models.retrieve("nobody/here"),
    "no messages": lambda: client.chat.completions.create(model=model, messages=[]),
    "unknown file": lambda: client.files.retrieve("file-nobody"),
    "unknown job": lambda: client.fine_tuning.jobs.retrieve("ftjob-nobody"),
    "unknown purpose": lambda: client.files.create(file=("a.jsonl", b"{}"), purpose="nothing"),
}.items():
    try:
        call()
        caught[name] = "nothing"
    except openai.APIStatusError as error:
        caught[name] = type(error).__name__

print(
    json.dumps(
        {
            "version": openai.__version__,
            "listed": model in listed,
            "retrieved": retrieved.id,
            "answer": answer.choices[0].message.content,
            "tokens": answer.usage.total_tokens,
            "streamed": "".join(pieces),
            "streamed tokens": usage,
            "caught": caught,
        }
    )
)
