"""The Keys tab: who may call the models and how much, and what was used; for owners. The rules are `models.keys`’s.

A key's secret is in the one answer to the click that made it, as HTML that no handler ever reads again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import gradio as gr

from models.database import utcnow
from models.errors import Invalid, ParleyError
from models.keys import (
    KeyInfo,
    KeyLimits,
    Role,
    change_key,
    create_key,
    keys_configured,
    list_keys,
    parse_expiry,
    revoke_key,
)
from models.usage import Usage, daily_totals, read_usage
from ui.backend.context import Room, friendly
from ui.backend.model_options import notice
from ui.look.components import QUIET, live_list
from ui.owners.keys.html import keys_table, made_html, usage_plot, usage_table

_NEW = ""
_PERIODS = (("Today", 1), ("7 days", 7), ("30 days", 30), ("A year", 365))
_FIRST = (
    "Without any key Parley listens on this machine only, and asks nobody for one. The first key is an owner's: from "
    "then on programs need a key, and this page asks you to sign in with yours."
)
_LIMITS = {
    "requests_per_minute": ("Requests a minute", int),
    "tokens_per_minute": ("Tokens a minute", int),
    "daily_tokens": ("Tokens a day", int),
    "daily_usd": ("US$ a day, hosted models", float),
}


@dataclass(frozen=True)
class KeysView:
    """The components that the handlers fill."""

    table: gr.HTML
    line: gr.HTML
    form: gr.Accordion
    which: gr.Dropdown
    name: gr.Textbox
    role: gr.Radio
    models: gr.Dropdown
    ends: gr.Textbox
    limits: tuple[gr.Textbox, ...]
    save: gr.Button
    revoke: gr.Button
    sure: gr.Row
    made: gr.HTML
    plot: gr.Plot
    usage: gr.HTML


class Keys:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: KeysView) -> None:
        self._room = room
        self._view = view

    async def refresh(self, which: str | None, period: int, by: str) -> dict[Any, Any]:
        """Everything as it is now; what was typed stays, what was shown once is gone."""
        try:
            return await asyncio.to_thread(self._everything, which or _NEW, period, by) | {self._view.made: ""}
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return {self._view.line: notice(friendly(error), "bad")}

    async def choose(self, which: str) -> dict[Any, Any]:
        """The form for another key, or for a new one."""
        try:
            form = await asyncio.to_thread(lambda: self._form(self._found(which)))
        except ParleyError as error:
            return {self._view.line: notice(error.message, "bad")}
        return form | {self._view.line: "", self._view.made: ""}

    async def save(
        self,
        which: str,
        name: str,
        role: str,
        models: list[str] | None,
        ends: str,
        period: int,
        by: str,
        *limits: str,
    ) -> dict[Any, Any]:
        """Makes the key, and shows it this once; or changes the one that is chosen."""
        view = self._view
        try:
            said = await asyncio.to_thread(self._save, which, name.strip(), role, models or None, ends.strip(), limits)
            everything = await asyncio.to_thread(self._everything, None, period, by)
        except ParleyError as error:
            return {view.line: notice(error.message, "warn"), view.made: ""}
        except Exception as error:  # as above
            return {view.line: notice(friendly(error), "bad"), view.made: ""}
        return everything | said

    def ask(self) -> dict[Any, Any]:
        """Revoking is asked about once more: it cannot be undone."""
        return {self._view.sure: gr.update(visible=True), self._view.revoke: gr.update(visible=False)}

    def keep(self) -> dict[Any, Any]:
        """No, it stays."""
        return {self._view.sure: gr.update(visible=False), self._view.revoke: gr.update(visible=True)}

    async def revoke(self, which: str, period: int, by: str) -> dict[Any, Any]:
        """The chosen key is useless from now on."""
        try:
            await asyncio.to_thread(revoke_key, self._room.database, which)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "bad")}
        return await self.refresh(which, period, by)

    async def show(self, period: int, by: str) -> dict[Any, Any]:
        """What was used in another span of time, or in other colours."""
        try:
            return await asyncio.to_thread(self._usage, period, by)
        except Exception as error:  # as above
            return {self._view.usage: notice(friendly(error), "bad")}

    def _everything(self, which: str | None, period: int, by: str) -> dict[Any, Any]:
        """All of the tab. The form stays as it is where it is for a key that still is; None: it begins anew."""
        view, now = self._view, utcnow()
        known = list_keys(self._room.database)
        alive = [key for key in known if key.state(now) == "in force"]
        anew = which is None or (which != _NEW and not any(key.id == which for key in alive))
        update: dict[Any, Any] = self._form(None) if anew else {}
        update |= {
            view.table: keys_table(known, daily_totals(self._room.database, now.date()), now),
            view.line: "",
            view.which: gr.update(
                choices=[("a new key", _NEW), *((key.name, key.id) for key in alive)], value=_NEW if anew else which
            ),
        }
        if not anew:
            update[view.models] = gr.update(choices=self._names(self._found(which or _NEW)))
        if not known:
            update |= {
                view.table: notice(_FIRST, "warn"),
                view.form: gr.update(open=True),
                view.role: gr.update(value="owner", interactive=False),
            }
        return update | self._usage(period, by)

    def _usage(self, period: int, by: str) -> dict[Any, Any]:
        view, today = self._view, utcnow().date()
        since = today - timedelta(days=period - 1)
        rows: list[Usage] = read_usage(self._room.database, since=since)
        figure = usage_plot(rows, since, today, by) if rows else None
        return {view.plot: gr.update(value=figure, visible=figure is not None), view.usage: usage_table(rows)}

    def _names(self, key: KeyInfo | None) -> list[str]:
        """The models and aliases that there are, and those of the key that are gone: unseen they would be lost."""
        registry = self._room.registry
        names = [spec.id for spec in registry.list()] + list(registry.aliases())
        return list(dict.fromkeys([*names, *(key.models or () if key else ())]))

    def _found(self, which: str) -> KeyInfo | None:
        return next((key for key in list_keys(self._room.database) if key.id == which), None)

    def _form(self, key: KeyInfo | None) -> dict[Any, Any]:
        """The form as it is for a key; None: for a new one."""
        view = self._view
        ends = f"{key.expires:%Y-%m-%d}" if key and key.expires else ""
        values = [getattr(key.limits, name) if key else None for name in _LIMITS]
        texts = ["" if value is None else f"{value:,}" for value in values]
        return {
            view.name: gr.update(value=key.name if key else "", interactive=key is None),
            view.role: gr.update(value=key.role if key else "client", interactive=key is None),
            view.models: gr.update(choices=self._names(key), value=list(key.models or ()) if key else []),
            view.ends: ends,
            **dict(zip(view.limits, texts, strict=True)),
            view.save: gr.update(value="Save" if key else "Make the key"),
            view.revoke: gr.update(visible=key is not None),
            view.sure: gr.update(visible=False),
        }

    def _save(
        self, which: str, name: str, role: str, models: list[str] | None, ends: str, texts: tuple[str, ...]
    ) -> dict[Any, Any]:
        """Makes or changes the key; returns what is said of it."""
        view, database = self._view, self._room.database
        limits = _limits(texts)
        if which:
            key = self._found(which)
            # A day that was left alone keeps its hour too.
            same = key is not None and key.expires is not None and f"{key.expires:%Y-%m-%d}" == ends
            end = key.expires if key is not None and same else _end(ends)
            changed = change_key(database, which, models=models, limits=limits, expires=end)
            return {view.line: notice(f"{changed.name} is changed.", "good"), view.made: ""}
        if role != "owner" and not keys_configured(database):
            raise Invalid("Make an owner's key first: without one nobody could open this page any more.")
        secret = create_key(
            database, name=name, role=cast(Role, role), expires=_end(ends), models=models, limits=limits
        )
        return {view.line: "", view.made: made_html(name, role, secret)}


def keys_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; it is filled when it is opened. Call inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML("<p class='lead'>Who may call your models, how much, and what was used. Days are UTC’s.</p>")
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="keys-refresh")
    table = gr.HTML(elem_id="keys-table")
    with gr.Accordion("Make or change a key", open=False, elem_classes="fold", elem_id="keys-form") as form:
        with gr.Row(elem_classes="form-row"):
            which = live_list(label="Key", elem_id="keys-which")
            name = gr.Textbox(label="Name", placeholder="shop", max_lines=1, elem_id="keys-name")
            ends = gr.Textbox(label="Ends", placeholder="never; or 30d, 2027-01-31", max_lines=1, elem_id="keys-ends")
        with gr.Row(elem_classes="form-row"):
            roles = [("client: calls models", "client"), ("owner: this page too", "owner")]
            role = gr.Radio(roles, value="client", label="Role", elem_id="keys-role")
            models = live_list(label="Models (none chosen: all)", multiselect=True, elem_id="keys-models")
        with gr.Row(elem_classes="form-row numbers"):
            limits = tuple(
                gr.Textbox(
                    label=label, placeholder="no limit", max_lines=1, min_width=130,
                    elem_id=f"keys-{field.replace('_', '-')}",
                )
                for field, (label, _) in _LIMITS.items()
            )  # fmt: skip
        with gr.Row(elem_classes="under"):
            save = gr.Button("Make the key", variant="primary", size="md", elem_id="keys-save")
            revoke = gr.Button("Revoke this key", size="md", visible=False, elem_id="keys-revoke")
        with gr.Row(visible=False, elem_classes="under", elem_id="keys-sure") as sure:
            yes = gr.Button("Yes, revoke it for good", variant="stop", size="sm", elem_id="keys-yes")
            no = gr.Button("No, keep it", size="sm", elem_id="keys-no")
    line = gr.HTML(elem_id="keys-line")
    made = gr.HTML(elem_id="keys-made")
    gr.HTML("<h3 class='plot-title'>What was used</h3>")
    with gr.Row(elem_classes="under", elem_id="keys-period"):
        period = gr.Radio(list(_PERIODS), value=7, show_label=False, container=False)
        colours = [("by key", "key"), ("by model", "model")]
        by = gr.Radio(colours, value="key", show_label=False, container=False, elem_id="keys-by")
    plot = gr.Plot(show_label=False, container=False, buttons=[], visible=False, elem_id="keys-plot")
    usage = gr.HTML(elem_id="keys-usage")
    view = KeysView(table, line, form, which, name, role, models, ends, limits, save, revoke, sure, made, plot, usage)
    keys = Keys(room, view)
    filled = [line, name, role, models, ends, *limits, save, revoke, sure, made]
    everything = [table, form, which, *filled, plot, usage]
    tab.select(keys.refresh, [which, period, by], everything, **QUIET)
    again.click(keys.refresh, [which, period, by], everything, **QUIET)
    which.input(keys.choose, [which], filled, **QUIET)
    save.click(
        keys.save, [which, name, role, models, ends, period, by, *limits], everything, trigger_mode="once", **QUIET
    )
    revoke.click(keys.ask, None, [revoke, sure], **QUIET)
    no.click(keys.keep, None, [revoke, sure], **QUIET)
    yes.click(keys.revoke, [which, period, by], everything, **QUIET)
    for choice in (period, by):
        choice.input(keys.show, [period, by], [plot, usage], **QUIET)


def _limits(texts: tuple[str, ...]) -> KeyLimits:
    """The four fields as limits; empty is none. Raises Invalid for what is no number."""
    found: dict[str, Any] = {}
    for (name, (label, kind)), text in zip(_LIMITS.items(), texts, strict=True):
        found[name] = _number(text, label, kind)
    return KeyLimits(**found)


def _number(text: str, label: str, kind: Callable[[str], float]) -> float | None:
    plain = (text or "").replace(",", "").replace(" ", "").removeprefix("$")
    if not plain:
        return None
    try:
        return kind(plain)
    except ValueError:
        raise Invalid(f"{label}: {text!r} is no number. Leave it empty for no limit.") from None


def _end(text: str) -> datetime | None:
    return parse_expiry(text, utcnow()) if text and text != "never" else None
