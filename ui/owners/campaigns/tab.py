"""The Campaigns tab's handlers. The layout is in `layout.py`, what they do to the database in `actions.py`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import gradio as gr

from evals.campaigns.campaign import OPEN, Campaign
from evals.campaigns.lifecycle import add_model, remove_model
from models.quantities import count_noun
from ui.access.roles import CAMPAIGN_ROOT
from ui.backend.context import PageContext, error_message
from ui.backend.model_options import recorded_options
from ui.look.components import read_form, show_confirmation
from ui.look.markup import notice
from ui.owners.campaigns.actions import CampaignActions
from ui.owners.campaigns.form import STORED_FILE, CampaignForm
from ui.owners.campaigns.html import (
    campaigns_table,
    export_links,
    invite_made,
    invites_table,
    progress_html,
    qr_svg,
    report_html,
)

EXPORT_PATH = "/campaigns/export"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class CampaignsView:
    """The components that the handlers read and update; the last ones are the fields of `CampaignForm`."""

    list: gr.HTML
    chosen: gr.Dropdown
    line: gr.HTML
    detail: gr.Column
    progress: gr.HTML
    open: gr.Button
    close: gr.Button
    sure: gr.Row
    export: gr.HTML
    voters: gr.Number
    power: gr.HTML
    joining: gr.Row
    model: gr.Dropdown
    person: gr.Textbox
    role: gr.Dropdown
    days: gr.Number
    invite: gr.HTML
    invites: gr.HTML
    revoked: gr.Dropdown
    forgotten: gr.Dropdown
    forget: gr.Button
    forget_sure: gr.Row
    forget_line: gr.HTML
    gold: gr.Accordion
    gold_prompt: gr.Dropdown
    gold_better: gr.Textbox
    gold_worse: gr.Textbox
    gold_line: gr.HTML
    report: gr.HTML
    open_links: gr.Checkbox
    creation: gr.Accordion
    create_line: gr.HTML
    name: gr.Textbox
    models: gr.Dropdown
    source: gr.Dropdown
    typed: gr.Textbox
    question: gr.Textbox
    title: gr.Textbox
    welcome: gr.Textbox
    thanks: gr.Textbox
    language: gr.Dropdown
    criteria: gr.Textbox
    votes_per_pair: gr.Number
    votes_per_person: gr.Number
    margin: gr.Number
    gold_share: gr.Number
    access: gr.Radio
    reveal: gr.Radio
    on_leak: gr.Radio


class CampaignsTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: CampaignsView) -> None:
        self._context = context
        self._view = view

    async def refresh(self, chosen: str | None, open_links: bool, request: gr.Request) -> dict[Any, Any]:
        """Updates the list, the choices of the form, and the chosen campaign."""
        return await self._refreshed(self._actions(request), chosen, open_links)

    async def show(self, chosen: str | None, open_links: bool, request: gr.Request) -> dict[Any, Any]:
        """Shows another campaign."""
        view = self._view
        return await self._shown(self._actions(request), chosen, open_links) | {view.invite: "", view.power: ""}

    async def create(self, values: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        """Creates a draft and shows it."""
        view, actions = self._view, self._actions(request)
        created = await self._tried(lambda: actions.create(read_form(CampaignForm, view, values)), view.create_line)
        if isinstance(created, dict):
            return created
        made = notice(f"{created.title} is now a draft. Check its size above, then open it.", "good")
        return await self._refreshed(actions, created.name, True) | {view.create_line: made, view.invite: ""}

    async def use_stored(self, request: gr.Request) -> dict[Any, Any]:
        """Opens the form with the questions that the Data tab stored last."""
        view, actions = self._view, self._actions(request)
        sources = await self._tried(actions.sources, view.create_line)
        if isinstance(sources, dict):
            return sources
        newest = next((value for _, value in sources if value.startswith(STORED_FILE)), None)
        return {
            view.source: gr.update(choices=sources, value=newest),
            view.creation: gr.update(open=True),
            view.create_line: "",
        }

    async def plan(self, chosen: str | None, voters: float | None, request: gr.Request) -> dict[Any, Any]:
        """What this many voters can show."""
        view, actions = self._view, self._actions(request)
        text = await self._tried(lambda: actions.plan(chosen or "", int(voters or 1)), view.power)
        return text if isinstance(text, dict) else {view.power: notice(text, "wait")}

    async def open(self, chosen: str | None, open_links: bool, request: gr.Request) -> dict[Any, Any]:
        """Opens the draft."""
        actions = self._actions(request)
        done = await self._tried(lambda: actions.open(chosen or ""), self._view.line)
        return done if isinstance(done, dict) else await self._refreshed(actions, chosen, open_links)

    async def close(self, chosen: str | None, open_links: bool, request: gr.Request) -> dict[Any, Any]:
        """Closes the campaign permanently."""
        actions = self._actions(request)
        done = await self._tried(lambda: actions.close(chosen or ""), self._view.line)
        return done if isinstance(done, dict) else await self._refreshed(actions, chosen, open_links)

    async def join(
        self, chosen: str | None, model: str | None, open_links: bool, request: gr.Request
    ) -> dict[Any, Any]:
        """Adds a model to a draft or an open-ended campaign."""
        return await self._change(add_model, chosen, model, open_links, request)

    async def leave(
        self, chosen: str | None, model: str | None, open_links: bool, request: gr.Request
    ) -> dict[Any, Any]:
        """Removes a model from it."""
        return await self._change(remove_model, chosen, model, open_links, request)

    async def invite(
        self, chosen: str | None, person: str, role: str, days: float | None, request: gr.Request
    ) -> dict[Any, Any]:
        """Makes a link, with its QR code."""
        view, actions = self._view, self._actions(request)
        made = await self._tried(lambda: actions.invite(chosen or "", person, role, int(days or 0)), view.invite)
        if isinstance(made, dict):
            return made
        invite, link = made
        return {view.invite: invite_made(invite.name, link, qr_svg(link)), view.person: ""} | await self._invites(
            actions, chosen or ""
        )

    async def revoke(self, chosen: str | None, invite: str | None, request: gr.Request) -> dict[Any, Any]:
        """Revokes a link."""
        view, actions = self._view, self._actions(request)
        done = await self._tried(lambda: actions.revoke(chosen or "", invite or ""), view.invite)
        if isinstance(done, dict):
            return done
        line = notice(f"The link of {done.name} no longer works.", "good")
        return {view.invite: line} | await self._invites(actions, chosen or "")

    async def forget(
        self, chosen: str | None, person: str | None, open_links: bool, request: gr.Request
    ) -> dict[Any, Any]:
        """Removes what is stored of a person; the votes stay."""
        view, actions = self._view, self._actions(request)
        done = await self._tried(lambda: actions.forget(chosen or "", person or ""), view.forget_line)
        if isinstance(done, dict):
            return done
        line = notice("This person was removed. The votes stay, without a name.", "good")
        return await self._refreshed(actions, chosen, open_links) | {view.forget_line: line}

    async def add_gold(
        self, chosen: str | None, prompt: str | None, better: str, worse: str, request: gr.Request
    ) -> dict[Any, Any]:
        """Adds a pair of answers; it is known which is better."""
        view, actions = self._view, self._actions(request)
        count = await self._tried(lambda: actions.add_gold(chosen or "", prompt or "", better, worse), view.gold_line)
        if isinstance(count, dict):
            return count
        added = notice(f"Added: {count_noun(count, 'gold pair')}.", "good")
        return {view.gold_line: added, view.gold_better: "", view.gold_worse: ""}

    async def _change(
        self, change: Callable[..., Campaign], chosen: str | None, model: str | None, open_links: bool,
        request: gr.Request,
    ) -> dict[Any, Any]:  # fmt: skip
        actions, line = self._actions(request), self._view.line
        if actions.managed is not None:
            return {line: notice("Only owners can change the models.", "bad")}
        if not model:
            return {line: notice("Choose a model.", "warn")}
        done = await self._tried(lambda: change(self._context.database, chosen or "", model), line)
        return done if isinstance(done, dict) else await self._refreshed(actions, chosen, open_links)

    async def _tried(self, action: Callable[[], _Value], line: Any) -> "_Value | dict[Any, Any]":
        """The action's result, or the update that shows why there is none."""
        try:
            return await asyncio.to_thread(action)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {line: notice(error_message(error), "bad")}

    async def _refreshed(self, actions: CampaignActions, chosen: str | None, open_links: bool) -> dict[Any, Any]:
        view = self._view
        listed = await self._tried(lambda: (actions.campaigns(), actions.sources(), self._models()), view.line)
        if isinstance(listed, dict):
            return listed
        campaigns, sources, models = listed
        names = [each.name for each in campaigns]
        chosen = chosen if chosen in names else (names[0] if names else None)
        update = {
            view.list: campaigns_table(campaigns),
            view.chosen: gr.update(
                choices=[(f"{each.title} ({each.name})", each.name) for each in campaigns], value=chosen
            ),
            view.models: gr.update(choices=models),
            view.model: gr.update(choices=models),
            view.source: gr.update(choices=sources),
        }
        return update | await self._shown(actions, chosen, open_links)

    async def _shown(self, actions: CampaignActions, chosen: str | None, open_links: bool) -> dict[Any, Any]:
        view = self._view
        if not chosen:
            return {view.detail: gr.update(visible=False), view.line: ""}
        read = await self._tried(
            lambda: (
                actions.progress(chosen),
                actions.report(chosen, open_links),
                actions.recorded(chosen),
                actions.questions(chosen),
            ),
            view.line,
        )
        if isinstance(read, dict):
            return read
        progress, (report, names), recorded, questions = read
        campaign = progress.campaign
        fixed = campaign.state == "closed" or (campaign.opened is not None and not campaign.open_ended)
        update = {
            view.line: "",
            view.detail: gr.update(visible=True),
            view.progress: progress_html(progress),
            view.open: gr.update(visible=campaign.state == "draft"),
            view.close: gr.update(visible=campaign.state == "open" and campaign.name != OPEN),
            view.sure: gr.update(visible=False),
            view.joining: gr.update(visible=actions.managed is None and not fixed),
            view.export: _links(campaign, actions.managed is not None),
            view.report: report_html(report, names, recorded),
            view.gold: gr.update(visible=campaign.opened is None),
            view.gold_prompt: gr.update(choices=questions, value=None),
            view.gold_line: "",
        } | show_confirmation(view.forget, view.forget_sure, False)
        return update | await self._invites(actions, chosen)

    async def _invites(self, actions: CampaignActions, chosen: str) -> dict[Any, Any]:
        view = self._view
        read = await self._tried(lambda: (actions.invites(chosen), actions.people(chosen)), view.invite)
        if isinstance(read, dict):
            return read
        listed, people = read
        valid = [(f"{each.name} ({each.role})", each.id) for each, _ in listed if each.revoked is None]
        return {
            view.invites: invites_table(listed),
            view.revoked: gr.update(choices=valid, value=None),
            view.forgotten: gr.update(choices=people, value=None),
        }

    def _models(self) -> list[str | tuple[str, str]]:
        served = [model.id for model in self._context.models(judges=False)]
        return [*served, *recorded_options(self._context.database)]

    def _actions(self, request: gr.Request) -> CampaignActions:
        inner = getattr(request, "request", None)
        scope = inner.scope if inner is not None else {}
        origin = request.headers.get("origin") if inner is not None else None
        return CampaignActions(
            self._context.database, self._context.settings, scope.get("parley_managed"), origin or None
        )


def _links(campaign: Campaign, managed: bool) -> str:
    """Links: the raters' page, the report as a page, and the export."""
    root = f"{CAMPAIGN_ROOT}{quote(campaign.name)}"
    address = f"{root}/export" if managed else f"{EXPORT_PATH}?campaign={quote(campaign.name)}"
    files = export_links(address)
    links = (
        f"<a href='{root}/report' target='_blank'>Report as a page</a> · "
        f"<a href='{address}' download>Export (.zip)</a></p><p class='about'>{files}"
    )
    if campaign.access != "open":
        return f"<p class='about'>{links}</p>"
    vote = "/vote/" if campaign.name == OPEN else f"/vote/c/{campaign.name}/"
    return (
        f"<p class='about'>Anyone can vote at <a href='{vote}' target='_blank'>{vote}</a>; these votes are marked as "
        f"votes from an open link. {links}</p>"
    )
