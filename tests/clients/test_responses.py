"""Conversations by `previous_response_id`, by each SDK and by an agents' library, through a gateway with a key."""

import pytest

from tests.clients.programs import Server, run

pytestmark = pytest.mark.engine  # the SDKs' environments are there where engines are tested


def test_a_conversation_on_the_server_runs_unchanged(sdk: str, hosted: Server) -> None:
    met = run(sdk, "responses", hosted, hosted.chat)
    assert met == {
        "continued": [True, "You said: and again", 3 * 8],
        "kept": [True, "You said: and again", True],
        "items": ["hello there", "You said: hello there", "and again"],
        "loop": [1, "You said: rain", 3 * 8],
        "missing": True,
    }


def test_an_agent_sends_only_what_is_new(hosted: Server) -> None:
    met = run("agents", "agents_responses", hosted, hosted.chat)
    assert met == {"cities": ["Oslo"], "first": "You said: rain in OSLO", "second": "You said: thank you"}
