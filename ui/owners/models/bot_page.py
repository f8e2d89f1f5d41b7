"""The form on the Models tab for a model's bot page: title, greeting, examples, hidden system prompt and logo."""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid, ParleyError
from models.files.stored_files import Files
from models.spec import BotProfile
from ui.backend.context import PageContext, error_message
from ui.backend.logos import image_type
from ui.backend.profiles import MAX_EXAMPLES, profile_of
from ui.backend.uploads import LOGO_PURPOSE, LOGO_SUFFIXES
from ui.look.components import QUIET, form_inputs, read_form
from ui.look.markup import notice

_LIMITS = {"title": 120, "greeting": 2_000, "prompt": 8_000}  # characters
_MAX_EXAMPLE = 200  # characters
_DROP = f"""
<label id="bot-drop" class="drop small" for="bot-file" tabindex="0" data-purpose="{LOGO_PURPOSE}"
data-uploaded="bot-uploaded">
<span><b>Drop a logo here</b>, or click to choose one ({", ".join(LOGO_SUFFIXES)}, 1 MB at most).
<em id="bot-sent" role="status"></em></span>
<input id="bot-file" type="file" accept="{",".join(LOGO_SUFFIXES)}"></label>
"""


@dataclass(frozen=True)
class BotForm:
    """The form's values. `which`: the model that is chosen on the tab. `logo`: the id of a stored image, or empty."""

    which: str | None
    title: str
    greeting: str
    examples: str
    prompt: str
    logo: str

    def profile(self) -> BotProfile:
        """The profile.

        Raises:
            Invalid: a text is missing or too long, or there are too many examples.
        """
        for name, limit in _LIMITS.items():
            if len(getattr(self, name) or "") > limit:
                raise Invalid(f"The {name} is too long: use {limit:,} characters at most.", param=name)
        title, greeting = (self.title or "").strip(), (self.greeting or "").strip()
        if not title or not greeting:
            raise Invalid("Enter a title and a greeting.", param="title")
        examples = tuple(line.strip() for line in (self.examples or "").splitlines() if line.strip())
        if len(examples) > MAX_EXAMPLES or any(len(example) > _MAX_EXAMPLE for example in examples):
            raise Invalid(
                f"Use up to {MAX_EXAMPLES} examples of up to {_MAX_EXAMPLE} characters, one per line.", param="examples"
            )
        return BotProfile(
            title=title, greeting=greeting, examples=examples, system_prompt=(self.prompt or "").strip(), logo=self.logo
        )


@dataclass(frozen=True)
class BotPageView:
    """The components that the handlers read and update; the first ones are the fields of `BotForm`."""

    which: gr.Dropdown
    title: gr.Textbox
    greeting: gr.Textbox
    examples: gr.Textbox
    prompt: gr.Textbox
    logo: gr.State
    remove_logo: gr.Button
    line: gr.HTML


class BotPageHandlers:
    """The form's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: BotPageView) -> None:
        self._context, self._view = context, view

    async def show(self, which: str | None) -> dict[Any, Any]:
        """Fills the form with the chosen model's profile."""
        view = self._view
        try:
            profile = profile_of(await asyncio.to_thread(self._context.registry.resolve, which or ""))
        except ParleyError:
            return {view.line: ""}
        return {
            view.title: profile.title,
            view.greeting: profile.greeting,
            view.examples: "\n".join(profile.examples),
            view.prompt: profile.system_prompt,
            view.logo: profile.logo,
            view.remove_logo: gr.update(visible=bool(profile.logo)),
            view.line: "",
        }

    async def choose_uploaded_logo(self) -> dict[Any, Any]:
        """Chooses the image that was uploaded last."""
        try:
            logo = await asyncio.to_thread(self._newest_logo)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "warn")}
        shown = notice("The logo is uploaded. Click Save to show it on the page.", "good")
        return {self._view.logo: logo, self._view.remove_logo: gr.update(visible=True), self._view.line: shown}

    async def remove_logo(self) -> dict[Any, Any]:
        """Chooses no logo."""
        shown = notice("Click Save to remove the logo from the page.", "good")
        return {self._view.logo: "", self._view.remove_logo: gr.update(visible=False), self._view.line: shown}

    async def save(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Stores the profile; the model's page shows it from the next visit on."""
        form = read_form(BotForm, self._view, values)
        try:
            name = await asyncio.to_thread(self._save, form)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {self._view.line: notice(error_message(error), "warn")}
        return {self._view.line: notice(f"Saved. Open the page: /bot/{name}/", "good")}

    def _newest_logo(self) -> str:
        files = Files(self._context.settings, self._context.database).list(LOGO_PURPOSE)
        if not files:
            raise Invalid("Upload an image first.", param="logo")
        image_type(files[0].path)
        return files[0].id

    def _save(self, form: BotForm) -> str:
        if not form.which:
            raise Invalid("Choose a model first.", param="model")
        spec = self._context.registry.resolve(form.which)
        self._context.registry.set_bot(spec.id, form.profile())
        return spec.id


def build_bot_page_form(context: PageContext, which: gr.Dropdown) -> tuple[BotPageHandlers, list[Any]]:
    """Lays out the form for the chosen model and wires its events; returns its handlers and what `show` updates."""
    with gr.Accordion("Bot page: title, logo, greeting, examples", open=False, elem_classes="fold", elem_id="bot-form"):
        with gr.Row(elem_classes="form-row"):
            title = gr.Textbox(label="Title", max_lines=1, elem_id="bot-form-title")
            greeting = gr.Textbox(label="Greeting (first message)", lines=2, elem_id="bot-form-greeting")
        with gr.Row(elem_classes="form-row"):
            examples = gr.Textbox(
                label=f"Example questions, one per line (up to {MAX_EXAMPLES})", lines=4, elem_id="bot-form-examples"
            )
            prompt = gr.Textbox(label="System prompt (hidden)", lines=4, elem_id="bot-form-prompt")
        gr.HTML(_DROP)
        uploaded = gr.Button(elem_id="bot-uploaded", elem_classes="offstage")
        line = gr.HTML(elem_id="bot-form-line")
        with gr.Row(elem_classes="under"):
            save = gr.Button("Save", variant="primary", size="md", elem_id="bot-form-save")
            remove_logo = gr.Button("Remove the logo", size="md", visible=False, elem_id="bot-form-plain")
    view = BotPageView(which, title, greeting, examples, prompt, gr.State(""), remove_logo, line)
    handlers = BotPageHandlers(context, view)
    logo = [view.logo, remove_logo, line]
    save.click(handlers.save, form_inputs(BotForm, view), [line], trigger_mode="once", **QUIET)
    uploaded.click(handlers.choose_uploaded_logo, None, logo, **QUIET)
    remove_logo.click(handlers.remove_logo, None, logo, **QUIET)
    return handlers, [title, greeting, examples, prompt, view.logo, remove_logo, line]
