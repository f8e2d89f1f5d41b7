"""The owners' app: its tabs, put together. What a tab does is in the tab's own file."""

from functools import partial

import gradio as gr

from models.keys import keys_configured
from ui.backend.context import Room
from ui.look.components import QUIET
from ui.look.theme import header
from ui.owners.chat import chat_tab
from ui.owners.compare import compare_tab
from ui.owners.data.tab import data_tab
from ui.owners.evaluations.tab import evaluations_tab
from ui.owners.judge.tab import judge_tab
from ui.owners.keys.tab import keys_tab
from ui.owners.leaderboard.tab import leaderboard_tab
from ui.owners.models.tab import models_tab
from ui.owners.shutdown_banner import shutdown_banner
from ui.owners.training.tab import train_tab

_SUBTITLE = "your models, side by side"


def bar(room: Room) -> str:
    """The bar at the top, with a way out where there are keys, and what is switched off soon; asked for at each load,
    for keys and models come while it runs."""
    out = "<form method='post' action='/logout'><button class='restart' type='submit'>Sign out</button></form>"
    vote = "<a class='link' href='/vote/' target='_blank' title='The page to send to raters'>Vote ↗</a>"
    top = header(_SUBTITLE, links=vote + (out if keys_configured(room.database) else ""))
    return top + shutdown_banner(room.registry.list())


def owner_blocks(room: Room) -> gr.Blocks:
    """The owners' app: Chat, Compare, Data, Train, Judge, Evaluations, Leaderboard, Models, Keys."""
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        top = gr.HTML(header(_SUBTITLE))
        with gr.Tabs(elem_classes="rooms"):
            with gr.Tab("Chat", id="chat", render_children=True):
                chat_tab(room, blocks)
            with gr.Tab("Compare", id="compare", render_children=True) as compare:
                compare_tab(room, compare)
            with gr.Tab("Data", id="data", render_children=True):
                data_tab()
            with gr.Tab("Train", id="train", render_children=True) as train:
                train_tab(room, train)
            with gr.Tab("Judge", id="judge", render_children=True) as judge:
                judge_tab(room, judge)
            with gr.Tab("Evaluations", id="evaluations", render_children=True) as evaluations:
                evaluations_tab(room, evaluations)
            with gr.Tab("Leaderboard", id="leaderboard", render_children=True) as board:
                leaderboard_tab(room, board)
            with gr.Tab("Models", id="models", render_children=True) as models:
                models_tab(room, models)
            with gr.Tab("Keys", id="keys", render_children=True) as keys:
                keys_tab(room, keys)
        blocks.load(partial(bar, room), None, top, **QUIET)
    return blocks
