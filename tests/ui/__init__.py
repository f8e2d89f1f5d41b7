"""Tests of the page. They load Gradio as the page does: without slow, unused parts."""

from ui.gradio_server import import_gradio

import_gradio()
