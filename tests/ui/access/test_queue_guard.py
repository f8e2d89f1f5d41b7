"""Inputs that no page sends: errors without a traceback, and no access to handlers that do not exist."""

import asyncio
import logging
from typing import Any

import gradio as gr
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from ui.access.queue_guard import QueueGuard, refuse_wrong_inputs


def blocks() -> gr.Blocks:
    """An app whose first event reads a choice and a number, and whose second runs in the browser alone."""
    with gr.Blocks() as made:
        choice, number = gr.Radio(["a", "b"]), gr.Number()
        button = gr.Button()
        button.click(lambda choice, number: None, [choice, number])
        button.click(None, js="() => {}")
    return made


@pytest.mark.long
@pytest.mark.parametrize("inputs", [["forged", 1], [{"a": 1}, 1]])
def test_a_wrong_input_is_an_error_without_a_traceback(inputs: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    made = blocks()
    refuse_wrong_inputs(made)
    with pytest.raises(gr.Error) as error, caplog.at_level(logging.WARNING):
        asyncio.run(made.preprocess_data(made.fns[0], inputs, None))
    assert not error.value.print_exception
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None
    assert asyncio.run(made.preprocess_data(made.fns[0], ["b", 2], None)) == ["b", 2]


@pytest.mark.long
@pytest.mark.parametrize(("index", "inputs", "status"), [(0, ["a", 1], 200), (1, [], 404), (2, [], 404)])
def test_an_event_without_a_handler_is_refused(index: int, inputs: list[Any], status: int) -> None:
    async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(QueueGuard(gradio, blocks()))
    body = {"fn_index": index, "data": inputs, "session_hash": "mine"}
    assert client.post("/gradio_api/queue/join", json=body).status_code == status
