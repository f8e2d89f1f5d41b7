"""The raters' app: two anonymous answers, a vote, the names, the next pair.

Nothing may put a model's id into anything that a browser receives before the vote is stored: components start empty,
the battle's opaque id stays in `gr.State` on the server, and errors are reported in fixed sentences. The voter comes
from the signed cookie that `ui.access.router` has verified, never from the browser's input.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from evals.campaigns.ballots import Reveal, cast_vote, votes_by
from evals.campaigns.battles import Battle, BattleOptions, next_battle
from evals.campaigns.campaign import OPEN
from models.messages import Message
from ui.backend.context import PageContext
from ui.look.components import QUIET
from ui.look.markup import notice
from ui.look.theme import header
from ui.raters.html import NO_COOKIE, WAITING, count_html, error_text, question_html, reveal_html, side_html
from ui.raters.open_battles import OpenBattles

_log = logging.getLogger("parley.page")
# For each choice: the button's label, its element id and its class.
_CHOICES = {
    "left": ("A is better", "vote-left", "pick pick-a"),
    "right": ("B is better", "vote-right", "pick pick-b"),
    "tie": ("Tie", "vote-tie", "pick"),
    "both_bad": ("Both are bad", "vote-bad", "pick"),
}


@dataclass(frozen=True)
class VoteView:
    """The components that the handlers update."""

    battle: gr.State
    question: gr.HTML
    heads: tuple[gr.HTML, gr.HTML]
    texts: tuple[gr.Markdown, gr.Markdown]
    ballot: gr.Row
    after: gr.Row
    reveal: gr.HTML
    line: gr.HTML
    count: gr.HTML
    own: gr.Textbox

    def outputs(self) -> list[Any]:
        """All components."""
        rest = [self.battle, self.question, self.ballot, self.after, self.reveal, self.line, self.count, self.own]
        return [*rest, *self.heads, *self.texts]


class VoteApp:
    """The handlers of the raters' app. One instance serves every browser."""

    def __init__(self, context: PageContext, view: VoteView) -> None:
        self._context = context
        self._view = view
        self._open = OpenBattles()

    async def load(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """On page load: shows the voter's open battle, or starts one."""
        voter = voter_of(request)
        battle = self._open.get(voter) if voter else None
        if voter is None or battle is None:
            async for update in self._next(voter):
                yield update
            return
        yield self._show(battle) | {self._view.count: await self._count(voter)}

    async def forward(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Starts the next battle."""
        async for update in self._next(voter_of(request)):
            yield update

    async def ask_own(self, prompt: str, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Starts a battle on the rater's own question."""
        if not prompt or not prompt.strip():
            yield {self._view.line: notice("Type a question first.", "warn")}
            return
        yield {self._view.own: ""}  # only here: a battle that arrives must not erase what the rater is typing
        async for update in self._next(voter_of(request), prompt.strip()):
            yield update

    def vote_handler(self, choice: str) -> Callable[..., Awaitable[dict[Any, Any]]]:
        """The handler of one choice's button."""

        # Not a partial: Gradio finds the request by the annotation of a function.
        async def vote(battle: str | None, request: gr.Request) -> dict[Any, Any]:
            return await self._vote(choice, battle, request)

        return vote

    async def _vote(self, choice: str, battle: str | None, request: gr.Request) -> dict[Any, Any]:
        """Stores the vote and reveals the models."""
        voter = voter_of(request)
        if not battle or voter is None:
            # The page was restarted while the tab was open, so the server no longer knows this battle.
            return {
                self._view.line: notice("This comparison has expired. Go on to the next one.", "warn"),
                self._view.ballot: gr.update(visible=False),
                self._view.after: gr.update(visible=True),
            }
        try:
            reveal = await asyncio.to_thread(cast_vote, self._context.database, battle, voter, choice)  # type: ignore[arg-type] -- the buttons send these four words only
        except Exception as error:  # until the vote is stored, raters read fixed sentences only
            _log.warning("a vote was not stored: %s", error)
            message = "Your vote was not saved. Please try again, or go on to the next one."
            return {self._view.line: notice(message, "bad")}
        self._open.close(voter, battle)
        return self._revealed(reveal)

    async def _next(self, voter: str | None, prompt: str | None = None) -> AsyncIterator[dict[Any, Any]]:
        view = self._view
        if voter is None:
            yield self._failed(NO_COOKIE)
            return
        waiting = question_html([Message(role="user", content=prompt)] if prompt else [])
        yield self._blank() | {view.question: waiting, view.count: await self._count(voter)}
        try:
            models = await asyncio.to_thread(self._context.models, judges=False)
            battle = await next_battle(
                self._context.database,
                voter,
                self._context.answering,
                OPEN,
                BattleOptions(
                    prompt,
                    repeat_share=self._context.settings.vote_repeat_share,
                    ready=[model.id for model in models if model.ready],
                ),
            )
        except Exception as error:  # as above
            _log.warning("no battle for a rater: %s", error)
            yield self._failed(error_text(error))
            return
        self._open.put(voter, battle)
        yield self._show(battle)

    async def _count(self, voter: str) -> str:
        return count_html(await asyncio.to_thread(votes_by, self._context.database, voter))

    def _blank(self) -> dict[Any, Any]:
        view = self._view
        return {
            view.battle: None,
            view.heads[0]: side_html("A"),
            view.heads[1]: side_html("B"),
            view.texts[0]: WAITING,
            view.texts[1]: WAITING,
            view.ballot: gr.update(visible=False),
            view.after: gr.update(visible=False),
            view.reveal: "",
            view.line: "",
        }

    def _show(self, battle: Battle) -> dict[Any, Any]:
        view = self._view
        return self._blank() | {
            view.battle: battle.id,
            view.question: question_html(battle.messages),
            view.texts[0]: battle.left,
            view.texts[1]: battle.right,
            view.ballot: gr.update(visible=True),
        }

    def _failed(self, text: str) -> dict[Any, Any]:
        view = self._view
        return self._blank() | {
            view.texts[0]: "",
            view.texts[1]: "",
            view.line: notice(text, "warn"),
            view.after: gr.update(visible=True),
        }

    def _revealed(self, reveal: Reveal) -> dict[Any, Any]:
        view = self._view
        return {
            view.heads[0]: side_html("A", reveal.left_model or "", reveal.choice == "left"),
            view.heads[1]: side_html("B", reveal.right_model or "", reveal.choice == "right"),
            view.ballot: gr.update(visible=False),
            view.after: gr.update(visible=True),
            view.reveal: reveal_html(reveal),
            view.line: "",
            view.count: count_html(reveal.votes_by_voter),
        }


def voter_of(request: gr.Request) -> str | None:
    """The voter's id that `ui.access.router` read from this request's signed cookie."""
    inner = getattr(request, "request", None)
    return inner.scope.get("parley_voter") if inner is not None else None


def build_rater_app(context: PageContext) -> gr.Blocks:
    """The raters' app: its layout and events."""
    with gr.Blocks(title="Parley: which answer is better?", analytics_enabled=False) as blocks:
        gr.HTML(header("which answer is better?"))
        with gr.Column(elem_classes="vote"):
            with gr.Row(elem_classes="intro"):
                gr.HTML(
                    "<p class='lead'>Read both answers and choose the one you would rather get. After your vote you "
                    "see which AI model wrote which answer.</p>"
                )
                count = gr.HTML(elem_classes="tally", elem_id="vote-count")
            question = gr.HTML(question_html([]), elem_id="vote-question")
            line = gr.HTML(elem_id="vote-line")
            heads, texts = _sides()
            with gr.Column(elem_classes="dock"):
                with gr.Row(visible=False, elem_classes="ballot", elem_id="vote-ballot") as ballot:
                    buttons = {
                        choice: gr.Button(label, elem_id=name, elem_classes=classes, min_width=120)
                        for choice, (label, name, classes) in _CHOICES.items()
                    }
                with gr.Row(visible=False, elem_classes="after") as after:
                    reveal = gr.HTML(elem_id="vote-reveal")
                    onward = gr.Button("Next →", variant="primary", elem_id="vote-next", scale=0, min_width=160)
            gr.HTML(
                "<p class='keys'>Shortcuts: <kbd>A</kbd> or <kbd>B</kbd> to vote, <kbd>T</kbd> for a tie, "
                "<kbd>X</kbd> if both are bad, <kbd>→</kbd> for the next pair</p>"
            )
            with gr.Accordion("Ask your own question", open=False, elem_classes="fold own"):
                own = gr.Textbox(
                    placeholder="Type a question. Two models will answer it.",
                    show_label=False,
                    container=False,
                    lines=1,
                    max_lines=6,
                    max_length=8000,
                    submit_btn=True,
                    elem_id="vote-own",
                    elem_classes="composer",
                )
        battle = gr.State(None)
        view = VoteView(battle, question, heads, texts, ballot, after, reveal, line, count, own)
        app = VoteApp(context, view)
        outputs = view.outputs()
        blocks.load(app.load, None, outputs, trigger_mode="once", **QUIET)
        onward.click(app.forward, None, outputs, js="() => parley.top()", trigger_mode="once", **QUIET)
        own.submit(app.ask_own, [own], outputs, trigger_mode="once", **QUIET)
        for choice, button in buttons.items():
            button.click(app.vote_handler(choice), [battle], outputs, trigger_mode="once", **QUIET)
    return blocks


def _sides() -> tuple[tuple[gr.HTML, gr.HTML], tuple[gr.Markdown, gr.Markdown]]:
    """The two answers side by side: their heads and their texts."""
    heads, texts = [], []
    with gr.Row(elem_classes="sides", equal_height=True):
        for side in ("A", "B"):
            with gr.Column(min_width=280, elem_classes=f"card card-{side.lower()}"):
                heads.append(gr.HTML(side_html(side), elem_id=f"vote-head-{side.lower()}"))
                texts.append(gr.Markdown(WAITING, elem_classes="answer", elem_id=f"vote-answer-{side.lower()}"))
    return (heads[0], heads[1]), (texts[0], texts[1])
