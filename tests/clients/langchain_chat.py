"""LangChain's ChatOpenAI: invoke, stream, tools, structured output. usage: langchain_chat.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as LangChain reads them too. Prints what it met, as JSON.
"""

import asyncio
import json
import sys
from typing import Literal

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

name = sys.argv[1]
model = ChatOpenAI(model=name, temperature=0, max_tokens=60)


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


class Ticket(BaseModel):
    """What a message is about."""

    topic: Literal["delivery", "money"]
    urgent: bool


found = {}
question = [SystemMessage("You are terse."), HumanMessage("please cancel my order 73194628")]
answer = model.invoke(question)
found["answer"] = answer.content
found["tokens"] = answer.usage_metadata["total_tokens"]
chunks = list(model.stream(question, stream_usage=True))
found["streamed"] = "".join(chunk.content for chunk in chunks)
found["streamed tokens"] = max((chunk.usage_metadata or {}).get("total_tokens", 0) for chunk in chunks)
found["batch"] = len(asyncio.run(model.abatch(["one", "two", "three"])))
ticket = model.with_structured_output(Ticket, method="json_schema").invoke("my parcel is late")
found["ticket"] = ticket.model_dump()

if "--tools" in sys.argv:
    with_tools = model.bind_tools([weather])
    question = HumanMessage("What is the weather in Paris?")
    asking = with_tools.invoke([question])
    call = asking.tool_calls[0]
    found["called"] = [call["name"], call["args"]]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    found["after the tool"] = with_tools.invoke([question, asking, result]).content
    whole = None
    for chunk in with_tools.stream([question]):
        whole = chunk if whole is None else whole + chunk
    found["streamed call"] = [whole.tool_calls[0]["name"], whole.tool_calls[0]["args"]]
    embedding = OpenAIEmbeddings(model=name, check_embedding_ctx_length=False)
    found["vectors"] = embedding.embed_documents(["one", "three"])

print(json.dumps(found))
