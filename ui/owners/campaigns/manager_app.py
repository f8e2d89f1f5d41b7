"""The app of a campaign's managers: the Campaigns tab alone, for their own campaign."""

import gradio as gr

from ui.backend.context import PageContext
from ui.look.theme import header
from ui.owners.campaigns.layout import build_campaigns_tab


def build_manager_app(context: PageContext) -> gr.Blocks:
    """The managers' app. The campaign comes from the request's scope, which the router has set."""
    with gr.Blocks(title="Parley: campaign", analytics_enabled=False) as blocks:
        gr.HTML(header("campaign"))
        build_campaigns_tab(context, blocks.load, create=False)
    return blocks
