"""serve/validation/system_messages.py: every route that takes a conversation folds system messages as in training."""

from typing import Any

import pytest

from models.chat.system_messages import Folding
from serve.validation.system_messages import fold_system_messages

SYSTEM, USER = {"role": "system", "content": "S"}, {"role": "user", "content": "U"}
ANSWER, LATER = {"role": "assistant", "content": "A"}, {"role": "system", "content": "T"}
THOUGHT, CALL = {"type": "reasoning", "summary": []}, {"type": "function_call", "call_id": "1", "name": "f"}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "3"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
ODD = {"role": "user", "content": 5}
BOTH = {"role": "user", "content": "S\n\nU"}


@pytest.mark.parametrize(
    ("path", "folding", "body", "folded"),
    [
        ("/v1/chat/completions", "all", {"messages": [SYSTEM, USER]}, {"messages": [BOTH]}),
        ("/v1/chat/completions", "later", {"messages": [SYSTEM, USER]}, {"messages": [SYSTEM, USER]}),
        (
            "/v1/chat/completions", "later", {"messages": [USER, ANSWER, SYSTEM, USER]},
            {"messages": [USER, ANSWER, BOTH]},
        ),
        ("/v1/tokenize", "all", {"messages": [SYSTEM, USER]}, {"messages": [BOTH]}),
        ("/v1/tokenize", "all", {"prompt": "x"}, {"prompt": "x"}),
        ("/v1/messages", "all", {"system": "S", "messages": [USER]}, {"messages": [BOTH]}),
        ("/v1/messages", "later", {"system": "S", "messages": [USER]}, {"system": "S", "messages": [USER]}),
        ("/v1/responses", "all", {"instructions": "S", "input": "U"}, {"input": [BOTH]}),
        ("/v1/responses", "later", {"instructions": "S", "input": "U"}, {"instructions": "S", "input": "U"}),
        (
            "/v1/responses", "later", {"instructions": "S", "input": [LATER, USER]},
            {"instructions": "S", "input": [{"role": "user", "content": "T\n\nU"}]},
        ),
        # The model's calls and thoughts are items without a role: they answer, as the assistant's message does.
        (
            "/v1/responses", "later", {"input": [USER, LATER, THOUGHT, CALL, RESULT]},
            {"input": [{"role": "user", "content": "U\n\nT"}, THOUGHT, CALL, RESULT]},
        ),
        (
            "/v1/responses", "all", {"instructions": "S", "input": [{"role": "user", "content": [IMAGE]}]},
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "S"}, IMAGE]}]},
        ),
        ("/v1/chat/completions", "all", {"messages": [SYSTEM, ODD]}, {"messages": [SYSTEM, ODD]}),
        ("/v1/messages", "all", {"system": 5, "messages": [USER]}, {"system": 5, "messages": [USER]}),
    ],
)  # fmt: skip
def test_system_messages_are_folded(path: str, folding: Folding, body: dict[str, Any], folded: dict[str, Any]) -> None:
    assert fold_system_messages(path, body, folding) == folded
