"""The raters' app: a Gradio page whose content Parley's script fills (`ui/look/vote.js`), without Gradio's events.

The page itself is the same for every campaign and names nothing: the campaign, its texts and the pairs come from
`ui.raters.endpoints`.
"""

from pathlib import Path

import gradio as gr

from ui.look.theme import header
from ui.raters.html import page_html
from ui.raters.texts import load_texts


def build_rater_app(home: Path) -> gr.Blocks:
    """The raters' app. It has no events: votes and pairs go through plain routes."""
    with gr.Blocks(title="Parley: which answer is better?", analytics_enabled=False) as blocks:
        gr.HTML(header(""))
        gr.HTML(page_html(load_texts("en", home)), elem_id="rater-page")
    return blocks
