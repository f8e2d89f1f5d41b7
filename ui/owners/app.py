"""The owners' app: the bar at the top, the first steps and the tabs. Each tab is a file or folder beside this one."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.types import Scope

from models.keys import keys_configured
from ui.backend.context import PageContext
from ui.look.branded_app import MakePrefill, Prefill
from ui.look.components import QUIET, as_props
from ui.look.theme import header
from ui.owners.campaigns.layout import build_campaigns_tab
from ui.owners.chat import build_chat_tab
from ui.owners.compare import build_compare_tab
from ui.owners.data.tab import build_data_tab
from ui.owners.evaluations.tab import build_evaluations_tab
from ui.owners.first_steps import first_steps, steps_html
from ui.owners.judge.tab import build_judge_tab
from ui.owners.keys.tab import build_keys_tab
from ui.owners.leaderboard.tab import build_leaderboard_tab
from ui.owners.models.tab import build_models_tab
from ui.owners.shutdown_banner import shutdown_banner
from ui.owners.training.tab import build_train_tab

_log = logging.getLogger("parley.page")
_SUBTITLE = "your own chat models"
_VOTE = "<a class='link' href='/vote/' target='_blank' title='The page for your raters'>Vote ↗</a>"
_REFRESH_S = 15  # of the bar and the first steps


def top_bar(context: PageContext) -> str:
    """The bar with its links, and a banner about shutdowns. Built at each page load: keys and models may change."""
    out = "<form method='post' action='/logout'><button class='restart' type='submit'>Sign out</button></form>"
    bar = header(_SUBTITLE, links=_VOTE + (out if keys_configured(context.database) else ""))
    return bar + shutdown_banner(context.registry.list())


@dataclass(frozen=True)
class OwnerApp:
    """The owners' app and its page's prefill."""

    blocks: gr.Blocks
    make_prefill: MakePrefill


def build_owner_app(context: PageContext) -> OwnerApp:
    """The owners' app with all its tabs, in the order of the work: data, training, comparison, votes, operation."""
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        bar = gr.HTML(header(_SUBTITLE, links=_VOTE))
        steps = gr.HTML(elem_id="steps")
        with gr.Tabs(elem_classes="tabs-bar"):
            with gr.Tab("Chat", id="chat", elem_id="tab-chat", render_children=True):
                fill_chat = build_chat_tab(context, blocks)
            with gr.Tab("Data", id="data", elem_id="tab-data", render_children=True) as data:
                build_data_tab(data)
            with gr.Tab("Train", id="train", elem_id="tab-train", render_children=True) as train:
                build_train_tab(context, train)
            with gr.Tab("Compare", id="compare", elem_id="tab-compare", render_children=True) as compare:
                fill_compare = build_compare_tab(context, compare)
            with gr.Tab(
                "Evaluations", id="evaluations", elem_id="tab-evaluations", render_children=True
            ) as evaluations:
                build_evaluations_tab(context, evaluations)
            with gr.Tab("Judge", id="judge", elem_id="tab-judge", render_children=True) as judge:
                build_judge_tab(context, judge)
            with gr.Tab("Campaigns", id="campaigns", elem_id="tab-campaigns", render_children=True) as campaigns:
                build_campaigns_tab(context, campaigns.select)
            with gr.Tab(
                "Leaderboard", id="leaderboard", elem_id="tab-leaderboard", render_children=True
            ) as leaderboard:
                build_leaderboard_tab(context, leaderboard)
            with gr.Tab("Models", id="models", elem_id="tab-models", render_children=True) as models:
                build_models_tab(context, models)
            with gr.Tab("Keys", id="keys", elem_id="tab-keys", render_children=True) as keys:
                build_keys_tab(context, keys)

        shown = gr.State(None)

        def above_tabs(before: Any = None) -> dict[Any, Any]:
            now = (top_bar(context), steps_html(first_steps(context)))
            return {shown: now} if now == before else {bar: now[0], steps: now[1], shown: now}

        async def make_prefill(scope: Scope) -> Prefill:
            try:
                parts = await asyncio.gather(asyncio.to_thread(above_tabs), fill_chat(), fill_compare())
            except Exception:  # the page is sent empty, and its own events report the error
                _log.exception("the owners' page is sent without its values")
                return Prefill()
            return Prefill(as_props({key: value for part in parts for key, value in part.items()}))

        gr.Timer(_REFRESH_S).tick(above_tabs, [shown], [bar, steps, shown], **QUIET)
    return OwnerApp(blocks, make_prefill)
