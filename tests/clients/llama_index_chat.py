"""llama-index's OpenAILike: chat, stream, structured output. usage: llama_index_chat.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY. Prints what it met, as JSON.
"""

import json
import os
import sys
from typing import Literal

from llama_index.core import PromptTemplate
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

model = OpenAILike(
    model=sys.argv[1], api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True, is_function_calling_model=True, context_window=4096, temperature=0, max_tokens=120,
)  # fmt: skip


class Ticket(BaseModel):
    """What a message is about."""

    topic: Literal["delivery", "money"]
    urgent: bool


question = [ChatMessage(role="user", content="where is my order 73194628?")]
pieces = [piece.delta for piece in model.stream_chat(question)]
found = {
    "answer": model.chat(question).message.content,
    "streamed": "".join(pieces),
    "ticket": model.structured_predict(
        Ticket, PromptTemplate("my parcel is late"), llm_kwargs={"tool_choice": "required"}
    ).model_dump(),
}
print(json.dumps(found))
