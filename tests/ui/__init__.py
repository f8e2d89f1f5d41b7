"""Tests of the page. They load Gradio as the page does: without the parts that cost seconds and that nobody uses."""

from ui.gradio_server import import_gradio

import_gradio()
