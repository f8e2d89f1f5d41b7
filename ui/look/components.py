"""How components are wired here: handlers without Gradio's spinner or an endpoint, lists that outlive a page."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gradio as gr

QUIET: Mapping[str, Any] = MappingProxyType({"show_progress": "hidden", "api_visibility": "private"})
# For what happens in the browser alone.
BROWSER: Mapping[str, Any] = MappingProxyType({"fn": None, "queue": False, "api_visibility": "private"})


def live_list(**options: Any) -> gr.Dropdown:
    """A list that is filled when the page loads, such as the models'. What the browser chose comes as it is.

    Gradio would refuse what the running process has not offered itself, with a pop-up: so in every tab that outlives
    the process. Which models there are is the gateway's to say, and it says it in one line.
    """
    dropdown = gr.Dropdown([], filterable=False, **options)
    dropdown.preprocess = _as_it_is  # type: ignore[method-assign] -- Gradio has no other place for it
    return dropdown


def _as_it_is(payload: Any) -> Any:
    return payload
