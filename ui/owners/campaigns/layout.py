"""The layout of the Campaigns tab, and its events."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.backend.context import PageContext
from ui.look.components import QUIET, confirm_row, form_inputs, live_dropdown
from ui.look.markup import heading
from ui.owners.campaigns.form import ACCESS, GOLD_SHARE, LANGUAGES, MARGIN, ON_LEAK, REVEAL, CampaignForm
from ui.owners.campaigns.tab import CampaignsTab, CampaignsView

_ROLES = [
    ("One person who votes", "rater"),
    ("A group that votes: one link, everyone types a name", "group"),
    ("A viewer of the report", "viewer"),
    ("A manager of this campaign", "manager"),
]


def build_campaigns_tab(context: PageContext, start: Callable[..., Any], *, create: bool = True) -> None:
    """Lays out the tab and wires its events. Call it inside the tab.

    Args:
        start: the event that fills it, such as the tab's `select`.
        create: show the form of a new campaign; managers have none.
    """
    parts: dict[str, Any] = {"list": gr.HTML(elem_id="campaigns-list")}
    with gr.Row(elem_classes="form-row"):
        parts["chosen"] = live_dropdown(label="Campaign", elem_id="campaigns-chosen")
        refresh = gr.Button("Refresh", size="md", elem_id="campaigns-refresh", scale=0, min_width=110)
    parts["line"] = gr.HTML(elem_id="campaigns-line")
    with gr.Column(visible=False, elem_id="campaigns-detail") as parts["detail"]:
        parts["progress"] = gr.HTML(elem_id="campaigns-progress")
        with gr.Row(elem_classes="under"):
            parts["open"] = gr.Button("Open the campaign", variant="primary", size="md", elem_id="campaigns-open")
            parts["close"] = gr.Button("Close the campaign", size="md", elem_id="campaigns-close")
        parts["sure"], yes = confirm_row(
            parts["close"], "Close it permanently: no more votes", "Keep it open", "campaigns-close"
        )
        parts["export"] = gr.HTML(elem_id="campaigns-export")
        buttons = _people(parts) | _size(parts) | _gold(parts)
        gr.HTML(heading("Verdict"))
        parts["open_links"] = gr.Checkbox(True, label="Count votes from open links", elem_id="campaigns-open-links")
        parts["report"] = gr.HTML(elem_id="campaigns-report")
    with gr.Accordion("Create a campaign", open=False, elem_classes="fold", visible=create) as parts["creation"]:
        _form(parts)
        parts["create_line"] = gr.HTML(elem_id="campaign-create-line")
        buttons["create"] = gr.Button("Create as a draft", variant="primary", elem_id="campaign-create")
    # The Data tab clicks it once it has stored questions.
    buttons["stored"] = gr.Button(elem_id="campaign-stored", elem_classes="offstage")
    view = CampaignsView(**parts)
    _wire(CampaignsTab(context, view), view, start, buttons | {"refresh": refresh, "yes": yes})


def _people(parts: dict[str, Any]) -> dict[str, gr.Button]:
    with gr.Accordion("Invite people", open=False, elem_classes="fold", elem_id="campaigns-people"):
        with gr.Row(elem_classes="form-row"):
            parts["person"] = gr.Textbox(label="Name of the person or group", elem_id="invite-person")
            parts["role"] = gr.Dropdown(
                _ROLES, value="rater", label="Link for", elem_id="invite-role", filterable=False
            )
            parts["days"] = gr.Number(14, label="Days until it expires (0: never)", precision=0, elem_id="invite-days")
        invite = gr.Button("Make a link", variant="primary", size="md", elem_id="invite-make")
        parts["invite"] = gr.HTML(elem_id="invite-made")
        parts["invites"] = gr.HTML(elem_id="invite-list")
        with gr.Row(elem_classes="form-row"):
            parts["revoked"] = live_dropdown(label="Revoke a link", elem_id="invite-revoked")
            revoke = gr.Button("Revoke", size="md", elem_id="invite-revoke", scale=0, min_width=110)
        with gr.Row(elem_classes="form-row"):
            parts["forgotten"] = live_dropdown(
                label="Remove a person’s name, link, address and comments; the votes stay", elem_id="forget-person"
            )
            parts["forget"] = gr.Button("Remove", size="md", elem_id="forget", scale=0, min_width=110)
        parts["forget_sure"], forget = confirm_row(parts["forget"], "Remove this person permanently", "Keep", "forget")
        parts["forget_line"] = gr.HTML(elem_id="forget-line")
    return {"invite": invite, "revoke": revoke, "forget": forget}


def _gold(parts: dict[str, Any]) -> dict[str, gr.Button]:
    with gr.Accordion(
        "Gold pairs: do raters read carefully?",
        open=False,
        elem_classes="fold",
        elem_id="campaigns-gold",
        visible=False,
    ) as parts["gold"]:
        gr.HTML(
            "<p class='about'>Two answers of your own, one of them clearly better. They show which raters read "
            "carefully, count in no verdict, and are fixed once the campaign opens.</p>"
        )
        parts["gold_prompt"] = live_dropdown(label="Question", elem_id="gold-prompt")
        with gr.Row(elem_classes="form-row"):
            parts["gold_better"] = gr.Textbox(label="The better answer", lines=2, elem_id="gold-better")
            parts["gold_worse"] = gr.Textbox(label="The worse answer", lines=2, elem_id="gold-worse")
        add = gr.Button("Add the pair", size="md", elem_id="gold-add")
        parts["gold_line"] = gr.HTML(elem_id="gold-line")
    return {"gold": add}


def _size(parts: dict[str, Any]) -> dict[str, gr.Button]:
    with gr.Accordion("What can this campaign show?", open=False, elem_classes="fold", elem_id="campaigns-size"):
        with gr.Row(elem_classes="form-row"):
            parts["voters"] = gr.Number(
                8, label="Expected number of voters", precision=0, minimum=1, elem_id="campaigns-voters"
            )
            plan = gr.Button("Calculate", size="md", elem_id="campaigns-plan", scale=0, min_width=110)
        parts["power"] = gr.HTML(elem_id="campaigns-power")
    with gr.Row(visible=False, elem_classes="form-row") as parts["joining"]:
        parts["model"] = live_dropdown(
            label="Models of this campaign", elem_id="campaigns-model", allow_custom_value=True
        )
        join = gr.Button("Add", size="md", elem_id="campaigns-join", scale=0, min_width=90)
        leave = gr.Button("Remove", size="md", elem_id="campaigns-leave", scale=0, min_width=90)
    return {"plan": plan, "join": join, "leave": leave}


def _form(parts: dict[str, Any]) -> None:
    with gr.Row(elem_classes="form-row"):
        parts["name"] = gr.Textbox(
            label="Name in the address: lower-case letters, digits, dashes", elem_id="campaign-name"
        )
        parts["title"] = gr.Textbox(label="Title that raters see", elem_id="campaign-title")
    parts["question"] = gr.Textbox(
        "Which answer would you rather get?", label="The question to raters", elem_id="campaign-question"
    )
    parts["models"] = live_dropdown(
        label="Models: two or more; NAME@recorded uses recorded answers", multiselect=True, allow_custom_value=True,
        elem_id="campaign-models",
    )  # fmt: skip
    with gr.Row(elem_classes="form-row"):
        parts["source"] = live_dropdown(label="Questions", elem_id="campaign-source")
        parts["typed"] = gr.Textbox(
            label="Or your own questions, one per line", lines=3, max_lines=12, elem_id="campaign-typed"
        )
    with gr.Row(elem_classes="form-row"):
        parts["welcome"] = gr.Textbox(label="Welcome", lines=3, max_lines=12, elem_id="campaign-welcome")
        parts["thanks"] = gr.Textbox(
            label="Text at the end, such as what happens next", lines=3, max_lines=12, elem_id="campaign-thanks"
        )
    with gr.Row(elem_classes="form-row"):
        parts["votes_per_pair"] = gr.Number(1, label="Votes per pair of answers (0: no limit)", precision=0)
        parts["votes_per_person"] = gr.Number(
            30, label="Votes per person (0: no limit)", precision=0, elem_id="campaign-person"
        )
        parts["language"] = gr.Dropdown(LANGUAGES, value="en", label="Language of the page", allow_custom_value=True)
    parts["criteria"] = gr.Textbox(label="Up to five more criteria, separated by commas", elem_id="campaign-criteria")
    with gr.Row(elem_classes="form-row"):
        parts["margin"] = MARGIN.component(5)
        parts["gold_share"] = GOLD_SHARE.component(5)
    with gr.Row(elem_classes="form-row"):
        parts["access"] = gr.Radio(ACCESS, value="invited", label="Who may vote", elem_id="campaign-access")
        parts["reveal"] = gr.Radio(REVEAL, value="at_end", label="When raters see the models’ names")
        parts["on_leak"] = gr.Radio(ON_LEAK, value="mask", label="If an answer names its model")


def _wire(tab: CampaignsTab, view: CampaignsView, start: Callable[..., Any], buttons: dict[str, gr.Button]) -> None:
    shown = [
        view.line, view.detail, view.progress, view.open, view.close, view.sure, view.joining, view.export,
        view.report, view.invites, view.revoked, view.invite, view.forgotten, view.forget, view.forget_sure,
        view.forget_line, view.gold, view.gold_prompt, view.gold_line,
    ]  # fmt: skip
    everything = [*shown, view.list, view.chosen, view.models, view.model, view.source]
    inputs = [view.chosen, view.open_links]
    start(tab.refresh, inputs, everything, **QUIET)
    buttons["stored"].click(tab.use_stored, None, [view.source, view.creation, view.create_line], **QUIET)
    buttons["refresh"].click(tab.refresh, inputs, everything, **QUIET)
    view.chosen.input(tab.show, inputs, [*shown, view.power], **QUIET)
    view.open_links.input(tab.refresh, inputs, everything, **QUIET)
    view.open.click(tab.open, inputs, everything, trigger_mode="once", **QUIET)
    buttons["yes"].click(tab.close, inputs, everything, trigger_mode="once", **QUIET)
    people = [view.invite, view.invites, view.revoked, view.person, view.forgotten]
    given = [view.chosen, view.person, view.role, view.days]
    buttons["invite"].click(tab.invite, given, people, trigger_mode="once", **QUIET)
    buttons["revoke"].click(tab.revoke, [view.chosen, view.revoked], people, trigger_mode="once", **QUIET)
    buttons["forget"].click(
        tab.forget, [view.chosen, view.forgotten, view.open_links], everything, trigger_mode="once", **QUIET
    )
    gold = [view.gold_prompt, view.gold_better, view.gold_worse]
    gold_shown = [view.gold_line, view.gold_better, view.gold_worse]
    buttons["gold"].click(tab.add_gold, [view.chosen, *gold], gold_shown, trigger_mode="once", **QUIET)
    buttons["plan"].click(tab.plan, [view.chosen, view.voters], [view.power], trigger_mode="once", **QUIET)
    changed = [view.chosen, view.model, view.open_links]
    buttons["join"].click(tab.join, changed, everything, trigger_mode="once", **QUIET)
    buttons["leave"].click(tab.leave, changed, everything, trigger_mode="once", **QUIET)
    buttons["create"].click(
        tab.create, form_inputs(CampaignForm, view), [*everything, view.create_line], trigger_mode="once", **QUIET
    )
