"""The Keys tab: API keys, their limits and their usage. The rules are in `models.keys`.

A key's secret is only in the response to the click that created it, as HTML that no handler reads again.
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
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, confirm_row, form_inputs, live_dropdown, read_form
from ui.look.markup import heading, notice
from ui.owners.keys.html import keys_table, new_key_html, usage_plot, usage_table

_NEW = ""
_PERIODS = (("Today", 1), ("7 days", 7), ("30 days", 30), ("1 year", 365))
_NO_KEYS = (
    "There are no keys yet, so Parley accepts requests from this machine only, without a key. Create an owner’s key "
    "first. From then on clients need a key, and you sign in to this page with yours."
)
_LIMITS = {
    "requests_per_minute": ("Requests per minute", int),
    "tokens_per_minute": ("Tokens per minute", int),
    "daily_tokens": ("Tokens per day", int),
    "daily_usd": ("US$ per day (hosted models)", float),
}


@dataclass(frozen=True)
class KeyForm:
    """What the form holds when a key is saved, and the period and grouping of the usage below it."""

    which: str
    name: str
    role: str
    models: list[str] | None
    ends: str
    limits: tuple[str, ...]
    period: int
    by: str


@dataclass(frozen=True)
class KeysView:
    """The components that the handlers read and update; the first ones are the fields of `KeyForm`."""

    which: gr.Dropdown
    name: gr.Textbox
    role: gr.Radio
    models: gr.Dropdown
    ends: gr.Textbox
    limits: tuple[gr.Textbox, ...]
    period: gr.Radio
    by: gr.Radio
    table: gr.HTML
    line: gr.HTML
    form: gr.Accordion
    save: gr.Button
    revoke: gr.Button
    sure: gr.Row
    made: gr.HTML
    plot: gr.Plot
    usage: gr.HTML


class KeysTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: KeysView) -> None:
        self._context = context
        self._view = view

    async def refresh(self, which: str | None, period: int, by: str) -> dict[Any, Any]:
        """Updates everything; keeps what was typed, and hides a new key's secret."""
        try:
            return await asyncio.to_thread(self._everything, which or _NEW, period, by) | {self._view.made: ""}
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {self._view.line: notice(error_message(error), "bad")}

    async def choose(self, which: str) -> dict[Any, Any]:
        """Shows the form for another key, or for a new one."""
        try:
            form = await asyncio.to_thread(lambda: self._form(self._find(which)))
        except ParleyError as error:
            return {self._view.line: notice(error.message, "bad")}
        return form | {self._view.line: "", self._view.made: ""}

    async def save(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Creates the key and shows its secret this once; or changes the chosen key."""
        view, form = self._view, read_form(KeyForm, self._view, values)
        try:
            result = await asyncio.to_thread(self._save, form)
            everything = await asyncio.to_thread(self._everything, None, form.period, form.by)
        except ParleyError as error:
            return {view.line: notice(error.message, "warn"), view.made: ""}
        except Exception as error:  # as above
            return {view.line: notice(error_message(error), "bad"), view.made: ""}
        return everything | result

    async def revoke(self, which: str, period: int, by: str) -> dict[Any, Any]:
        """Revokes the chosen key."""
        try:
            await asyncio.to_thread(revoke_key, self._context.database, which)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "bad")}
        return await self.refresh(which, period, by)

    async def show_usage(self, period: int, by: str) -> dict[Any, Any]:
        """Shows the usage of another period, or in another grouping."""
        try:
            return await asyncio.to_thread(self._usage, period, by)
        except Exception as error:  # as above
            return {self._view.usage: notice(error_message(error), "bad")}

    def _everything(self, which: str | None, period: int, by: str) -> dict[Any, Any]:
        """The whole tab. The form is kept while its key is valid; with None, or another key, it is emptied."""
        view, now = self._view, utcnow()
        keys = list_keys(self._context.database)
        valid = [key for key in keys if key.state(now) == "in force"]
        is_reset = which is None or (which != _NEW and not any(key.id == which for key in valid))
        options = [("a new key", _NEW), *((key.name, key.id) for key in valid)]
        update: dict[Any, Any] = self._form(None) if is_reset else {}
        update |= {
            view.table: keys_table(keys, daily_totals(self._context.database, now.date()), now),
            view.line: "",
            view.which: gr.update(choices=options, value=_NEW if is_reset else which),
        }
        if not is_reset:
            update[view.models] = gr.update(choices=self._model_names(self._find(which or _NEW)))
        if not keys:
            update |= {
                view.table: notice(_NO_KEYS, "warn"),
                view.form: gr.update(open=True),
                view.role: gr.update(value="owner", interactive=False),
            }
        return update | self._usage(period, by)

    def _usage(self, period: int, by: str) -> dict[Any, Any]:
        view, today = self._view, utcnow().date()
        since = today - timedelta(days=period - 1)
        rows: list[Usage] = read_usage(self._context.database, since=since)
        figure = usage_plot(rows, since, today, by) if rows else None
        return {view.plot: gr.update(value=figure, visible=figure is not None), view.usage: usage_table(rows)}

    def _model_names(self, key: KeyInfo | None) -> list[str]:
        """All models and aliases, and the key's own that no longer exist: not offered, they would be lost on save."""
        registry = self._context.registry
        names = [spec.id for spec in registry.list()] + list(registry.aliases())
        return list(dict.fromkeys([*names, *(key.models or () if key else ())]))

    def _find(self, which: str) -> KeyInfo | None:
        return next((key for key in list_keys(self._context.database) if key.id == which), None)

    def _form(self, key: KeyInfo | None) -> dict[Any, Any]:
        """The form filled with a key; with None, the empty form for a new one."""
        view = self._view
        ends = f"{key.expires:%Y-%m-%d}" if key and key.expires else ""
        limits = [getattr(key.limits, name) if key else None for name in _LIMITS]
        texts = ["" if value is None else f"{value:,}" for value in limits]
        return {
            view.name: gr.update(value=key.name if key else "", interactive=key is None),
            view.role: gr.update(value=key.role if key else "client", interactive=key is None),
            view.models: gr.update(choices=self._model_names(key), value=list(key.models or ()) if key else []),
            view.ends: ends,
            **dict(zip(view.limits, texts, strict=True)),
            view.save: gr.update(value="Save" if key else "Create key"),
            view.revoke: gr.update(visible=key is not None),
            view.sure: gr.update(visible=False),
        }

    def _save(self, form: KeyForm) -> dict[Any, Any]:
        """Creates or changes the key; returns the message about it."""
        view, database = self._view, self._context.database
        name, models, ends, limits = form.name.strip(), form.models or None, form.ends.strip(), _limits(form.limits)
        if form.which:
            key = self._find(form.which)
            # The form shows the day only. An unchanged day keeps its hour.
            is_same = key is not None and key.expires is not None and f"{key.expires:%Y-%m-%d}" == ends
            end = key.expires if key is not None and is_same else _end(ends)
            changed = change_key(database, form.which, models=models, limits=limits, expires=end)
            return {view.line: notice(f"Saved {changed.name}.", "good"), view.made: ""}
        if form.role != "owner" and not keys_configured(database):
            raise Invalid("Create an owner’s key first. Without one, nobody could open this page any more.")
        secret = create_key(
            database, name=name, role=cast(Role, form.role), expires=_end(ends), models=models, limits=limits
        )
        return {view.line: "", view.made: new_key_html(name, form.role, secret)}


def build_keys_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events; it is filled when it is opened. Call it inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML("<p class='lead'>API keys: who may call your models, and how much. Days start at midnight UTC.</p>")
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="keys-refresh")
    table = gr.HTML(elem_id="keys-table")
    parts, yes = _form()
    line = gr.HTML(elem_id="keys-line")
    made = gr.HTML(elem_id="keys-made")
    gr.HTML(heading("Usage"))
    with gr.Row(elem_classes="under", elem_id="keys-period"):
        period = gr.Radio(list(_PERIODS), value=7, show_label=False, container=False)
        groups = [("by key", "key"), ("by model", "model")]
        by = gr.Radio(groups, value="key", show_label=False, container=False, elem_id="keys-by")
    plot = gr.Plot(show_label=False, container=False, buttons=[], visible=False, elem_id="keys-plot")
    usage = gr.HTML(elem_id="keys-usage")
    view = KeysView(**parts, period=period, by=by, table=table, line=line, made=made, plot=plot, usage=usage)
    keys = KeysTab(context, view)
    filled = [
        line, view.name, view.role, view.models, view.ends, *view.limits, view.save, view.revoke, view.sure, made,
    ]  # fmt: skip
    everything = [table, view.form, view.which, *filled, plot, usage]
    state = [view.which, period, by]
    tab.select(keys.refresh, state, everything, **QUIET)
    again.click(keys.refresh, state, everything, **QUIET)
    view.which.input(keys.choose, [view.which], filled, **QUIET)
    view.save.click(keys.save, form_inputs(KeyForm, view), everything, trigger_mode="once", **QUIET)
    yes.click(keys.revoke, state, everything, **QUIET)
    for choice in (period, by):
        choice.input(keys.show_usage, [period, by], [plot, usage], **QUIET)


def _form() -> tuple[dict[str, Any], gr.Button]:
    """The form's components by their names in `KeysView`, and the button that confirms revoking."""
    with gr.Accordion("Create or change a key", open=False, elem_classes="fold", elem_id="keys-form") as form:
        with gr.Row(elem_classes="form-row"):
            which = live_dropdown(label="Key", elem_id="keys-which")
            name = gr.Textbox(label="Name", placeholder="shop", max_lines=1, elem_id="keys-name")
            ends = gr.Textbox(label="Expires", placeholder="never, 30d or 2027-01-31", max_lines=1, elem_id="keys-ends")
        with gr.Row(elem_classes="form-row"):
            roles = [("client: calls models", "client"), ("owner: also opens this page", "owner")]
            role = gr.Radio(roles, value="client", label="Role", elem_id="keys-role")
            models = live_dropdown(label="Models (none selected: all)", multiselect=True, elem_id="keys-models")
        with gr.Row(elem_classes="form-row numbers"):
            limits = tuple(
                gr.Textbox(
                    label=label, placeholder="no limit", max_lines=1, min_width=130,
                    elem_id=f"keys-{field.replace('_', '-')}",
                )
                for field, (label, _) in _LIMITS.items()
            )  # fmt: skip
        with gr.Row(elem_classes="under"):
            save = gr.Button("Create key", variant="primary", size="md", elem_id="keys-save")
            revoke = gr.Button("Revoke this key", size="md", visible=False, elem_id="keys-revoke")
        sure, yes = confirm_row(revoke, "Yes, revoke it for good", "No, keep it", "keys")
    parts = {
        "which": which, "name": name, "role": role, "models": models, "ends": ends, "limits": limits, "form": form,
        "save": save, "revoke": revoke, "sure": sure,
    }  # fmt: skip
    return parts, yes


def _limits(texts: tuple[str, ...]) -> KeyLimits:
    """The four fields as limits; an empty field is no limit.

    Raises:
        Invalid: a text is not a number.
    """
    values: dict[str, Any] = {}
    for (name, (label, kind)), text in zip(_LIMITS.items(), texts, strict=True):
        values[name] = _number(text, label, kind)
    return KeyLimits(**values)


def _number(text: str, label: str, kind: Callable[[str], float]) -> float | None:
    plain = (text or "").replace(",", "").replace(" ", "").removeprefix("$")
    if not plain:
        return None
    try:
        return kind(plain)
    except ValueError:
        raise Invalid(f"{label} is {text!r}: use a number, or leave it empty for no limit.") from None


def _end(text: str) -> datetime | None:
    return parse_expiry(text, utcnow()) if text and text != "never" else None
