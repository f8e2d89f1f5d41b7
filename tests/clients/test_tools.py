"""Tools, structured outputs, embeddings, responses and asynchronous calls, by each SDK through a gateway with a key.

The upstream is a fake whose model can call tools; what the demo's own models do under a forced tool or a schema is in
test_engine_clients.py.
"""

import pytest

from tests.clients.programs import Server, run

pytestmark = pytest.mark.engine  # the SDKs' environments are there where engines are tested


def test_a_program_with_tools_runs_unchanged(sdk: str, hosted: Server) -> None:
    met = run(sdk, "tools", hosted, hosted.chat)
    assert met == {
        "called": ["weather", {"city": "Oslo"}, "tool_calls"],
        "answer": "You said: rain, 4 degrees",
        "streamed call": ["weather", {"city": "Oslo"}, True],
        "parsed": {"topic": "delivery", "urgent": True, "summary": "my parcel is late"},
        "vectors": [[3.0, 0.5, -1.0], [5.0, 0.5, -1.0]],
        "response": "You said: hello there",
        "streamed response": ["You said: hello again", "You said: hello again", 13],
        "at once": ["You said: number 0", "You said: number 1", "You said: number 2"],
        "async stream": "You said: piece by piece",
    }


def test_langchain_with_tools(hosted: Server) -> None:
    met = run("langchain", "langchain_chat", hosted, hosted.chat, "--tools")
    assert met["answer"] == met["streamed"] == "You said: please cancel my order 73194628"
    assert met["tokens"] == met["streamed tokens"] == 13
    assert met["batch"] == 3
    assert met["ticket"] == {"topic": "delivery", "urgent": True}
    assert met["called"] == met["streamed call"] == ["weather", {"city": "Paris"}]
    assert met["after the tool"] == "You said: rain in Paris"
    assert met["vectors"] == [[3.0, 0.5, -1.0], [5.0, 0.5, -1.0]]


def test_litellm_with_tools(hosted: Server) -> None:
    met = run("litellm", "litellm_chat", hosted, hosted.chat, "--tools")
    assert met["answer"] == met["streamed"] == met["async"] == "You said: please cancel my order 73194628"
    assert met["tokens"] == met["streamed tokens"] == 13
    assert met["unknown model"] == "NotFoundError"
    assert met["called"] == ["weather", {"city": "Paris"}]
