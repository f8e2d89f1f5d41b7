"""The owners' app: the bar at the top and the tabs. Each tab is a file or folder beside this one."""

from functools import partial

import gradio as gr

from models.keys import keys_configured
from ui.backend.context import PageContext
from ui.look.components import QUIET
from ui.look.theme import header
from ui.owners.campaigns.layout import build_campaigns_tab
from ui.owners.chat import build_chat_tab
from ui.owners.compare import build_compare_tab
from ui.owners.data.tab import build_data_tab
from ui.owners.evaluations.tab import build_evaluations_tab
from ui.owners.judge.tab import build_judge_tab
from ui.owners.keys.tab import build_keys_tab
from ui.owners.leaderboard.tab import build_leaderboard_tab
from ui.owners.models.tab import build_models_tab
from ui.owners.shutdown_banner import shutdown_banner
from ui.owners.training.tab import build_train_tab

_SUBTITLE = "your own chat models"


def top_bar(context: PageContext) -> str:
    """The bar with its links, and a banner about shutdowns. Built at each page load: keys and models may change."""
    out = "<form method='post' action='/logout'><button class='restart' type='submit'>Sign out</button></form>"
    vote = "<a class='link' href='/vote/' target='_blank' title='The page for your raters'>Vote ↗</a>"
    bar = header(_SUBTITLE, links=vote + (out if keys_configured(context.database) else ""))
    return bar + shutdown_banner(context.registry.list())


def build_owner_app(context: PageContext) -> gr.Blocks:
    """The owners' app with all its tabs."""
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        bar = gr.HTML(header(_SUBTITLE))
        with gr.Tabs(elem_classes="tabs-bar"):
            with gr.Tab("Chat", id="chat", render_children=True):
                build_chat_tab(context, blocks)
            with gr.Tab("Compare", id="compare", render_children=True) as compare:
                build_compare_tab(context, compare)
            with gr.Tab("Data", id="data", render_children=True):
                build_data_tab()
            with gr.Tab("Train", id="train", render_children=True) as train:
                build_train_tab(context, train)
            with gr.Tab("Judge", id="judge", render_children=True) as judge:
                build_judge_tab(context, judge)
            with gr.Tab("Evaluations", id="evaluations", render_children=True) as evaluations:
                build_evaluations_tab(context, evaluations)
            with gr.Tab("Campaigns", id="campaigns", render_children=True) as campaigns:
                build_campaigns_tab(context, campaigns.select)
            with gr.Tab("Leaderboard", id="leaderboard", render_children=True) as leaderboard:
                build_leaderboard_tab(context, leaderboard)
            with gr.Tab("Models", id="models", render_children=True) as models:
                build_models_tab(context, models)
            with gr.Tab("Keys", id="keys", render_children=True) as keys:
                build_keys_tab(context, keys)
        blocks.load(partial(top_bar, context), None, bar, **QUIET)
    return blocks
