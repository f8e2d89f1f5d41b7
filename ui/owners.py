"""The owners' app: its tabs, put together. What a tab does is in the tab's own file."""

import gradio as gr

from ui.chat import chat_tab
from ui.compare import compare_tab
from ui.judge import judge_tab
from ui.leaderboard import leaderboard_tab
from ui.room import Room
from ui.theme import header


def owner_blocks(room: Room) -> gr.Blocks:
    """The owners' app: Chat, Compare, Judge, Leaderboard."""
    links = "<a class='link' href='/vote/' target='_blank' title='The page to send to raters'>Vote ↗</a>"
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        gr.HTML(header("your models, side by side", links=links))
        with gr.Tabs(elem_classes="rooms"):
            with gr.Tab("Chat", id="chat", render_children=True):
                chat_tab(room, blocks)
            with gr.Tab("Compare", id="compare", render_children=True) as compare:
                compare_tab(room, compare)
            with gr.Tab("Judge", id="judge", render_children=True) as judge:
                judge_tab(room, judge)
            with gr.Tab("Leaderboard", id="leaderboard", render_children=True) as board:
                leaderboard_tab(room, board)
    return blocks
