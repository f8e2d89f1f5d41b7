"""The raters' app: two anonymous answers, one vote, the reveal, the next. Blind until the vote is stored.

Nothing here may put a model's id into anything that a browser gets before that: components start empty, the battle's
opaque id stays in `gr.State` on the server, and what goes wrong is told in words of this file alone. Who votes is
read from the signed cookie by `ui.doors`, never from what the browser fills in.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.votes.blind_battles import Battle, BattleOptions, Reveal, cast_vote, next_battle, votes_by
from models.errors import Invalid, NotFound, Unavailable
from models.messages import Message
from ui.choices import notice
from ui.room import Room
from ui.theme import header
from ui.wiring import QUIET

_log = logging.getLogger("parley.page")
_OPEN_BATTLES = 5000  # how many unfinished battles are remembered for people who reload
_CHOICES = {"left": "A is better", "right": "B is better", "tie": "Tie", "both_bad": "Both bad"}
_WAITING = (
    "<div class='pending' aria-live='polite'><span></span><span></span><span></span>"
    "<em>both are being prepared</em></div>"
)


@dataclass(frozen=True)
class VoteView:
    """The components that the handlers fill."""

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

    def everything(self) -> list[Any]:
        """All of them, as outputs."""
        rest = [self.battle, self.question, self.ballot, self.after, self.reveal, self.line, self.count, self.own]
        return [*rest, *self.heads, *self.texts]


class OpenBattles:
    """The battle that each voter has before them, so that a reload shows it again. In memory: a loss costs little."""

    def __init__(self, limit: int = _OPEN_BATTLES) -> None:
        self._limit = limit
        self._battles: OrderedDict[str, Battle] = OrderedDict()

    def get(self, voter: str) -> Battle | None:
        """The unfinished battle of this voter."""
        return self._battles.get(voter)

    def put(self, voter: str, battle: Battle) -> None:
        """Remember it; the oldest ones go where there are too many."""
        self._battles[voter] = battle
        self._battles.move_to_end(voter)
        while len(self._battles) > self._limit:
            self._battles.popitem(last=False)

    def close(self, voter: str, battle_id: str) -> None:
        """It has been voted on."""
        if (battle := self._battles.get(voter)) is not None and battle.id == battle_id:
            del self._battles[voter]


class Vote:
    """What the raters' app does. One instance serves every browser."""

    def __init__(self, room: Room, view: VoteView) -> None:
        self._room = room
        self._view = view
        self._open = OpenBattles()

    async def arrive(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """The page has loaded: go on with the unfinished battle, or start one."""
        voter = voter_of(request)
        if voter is None:
            yield self._trouble(
                "Your browser sent no cookie, so a vote could not be counted. Allow cookies and reload."
            )
            return
        battle = self._open.get(voter)
        if battle is None:
            async for update in self._next(voter, None):
                yield update
            return
        yield self._show(battle) | {self._view.count: await self._count(voter)}

    async def forward(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """The next battle."""
        async for update in self._next(voter_of(request), None):
            yield update

    async def ask_own(self, prompt: str, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """A battle on what the rater typed."""
        if not prompt or not prompt.strip():
            yield {self._view.line: notice("Write a question first.", "warn")}
            return
        yield {self._view.own: ""}  # here and nowhere else: a battle that arrives must not erase what is being typed
        async for update in self._next(voter_of(request), prompt.strip()):
            yield update

    async def left(self, battle: str | None, request: gr.Request) -> dict[Any, Any]:
        """A is better."""
        return await self._vote(battle, "left", request)

    async def right(self, battle: str | None, request: gr.Request) -> dict[Any, Any]:
        """B is better."""
        return await self._vote(battle, "right", request)

    async def tie(self, battle: str | None, request: gr.Request) -> dict[Any, Any]:
        """As good as each other."""
        return await self._vote(battle, "tie", request)

    async def both_bad(self, battle: str | None, request: gr.Request) -> dict[Any, Any]:
        """Neither will do."""
        return await self._vote(battle, "both_bad", request)

    async def _next(self, voter: str | None, prompt: str | None) -> AsyncIterator[dict[Any, Any]]:
        view = self._view
        if voter is None:
            yield self._trouble(
                "Your browser sent no cookie, so a vote could not be counted. Allow cookies and reload."
            )
            return
        waiting = _question([Message(role="user", content=prompt)]) if prompt else _question([])
        yield self._blank() | {view.question: waiting, view.count: await self._count(voter)}
        try:
            models = await asyncio.to_thread(self._room.models, judges=False)
            battle = await next_battle(
                self._room.database,
                voter,
                self._room.completer,
                [model.id for model in models if model.ready],
                BattleOptions(prompt, repeat_share=self._room.settings.vote_repeat_share),
            )
        except Exception as error:  # whatever it is, a rater gets our words and no others
            _log.warning("no battle for a rater: %s", error)
            yield self._trouble(_told(error))
            return
        self._open.put(voter, battle)
        yield self._show(battle)

    async def _vote(self, battle: str | None, choice: str, request: gr.Request) -> dict[Any, Any]:
        voter = voter_of(request)
        if not battle or voter is None:
            # The page was restarted under an open tab: what the tab shows is forgotten here.
            return {
                self._view.line: notice("This comparison is not open any more. Go on to the next.", "warn"),
                self._view.ballot: gr.update(visible=False),
                self._view.after: gr.update(visible=True),
            }
        try:
            reveal = await asyncio.to_thread(cast_vote, self._room.database, battle, voter, choice)  # type: ignore[arg-type] -- the buttons send these four words only
        except Exception as error:  # as above: until the vote is on disk, no words but ours
            _log.warning("a vote was not stored: %s", error)
            return {self._view.line: notice("Your vote was not stored. Try once more, or go on to the next.", "bad")}
        self._open.close(voter, battle)
        return self._revealed(reveal)

    async def _count(self, voter: str) -> str:
        return _count(await asyncio.to_thread(votes_by, self._room.database, voter))

    def _blank(self) -> dict[Any, Any]:
        view = self._view
        return {
            view.battle: None,
            view.heads[0]: _head("A"),
            view.heads[1]: _head("B"),
            view.texts[0]: _WAITING,
            view.texts[1]: _WAITING,
            view.ballot: gr.update(visible=False),
            view.after: gr.update(visible=False),
            view.reveal: "",
            view.line: "",
        }

    def _show(self, battle: Battle) -> dict[Any, Any]:
        view = self._view
        return self._blank() | {
            view.battle: battle.id,
            view.question: _question(battle.messages),
            view.texts[0]: battle.left,
            view.texts[1]: battle.right,
            view.ballot: gr.update(visible=True),
        }

    def _trouble(self, text: str) -> dict[Any, Any]:
        view = self._view
        return self._blank() | {
            view.texts[0]: "",
            view.texts[1]: "",
            view.line: notice(text, "warn"),
            view.after: gr.update(visible=True),
        }

    def _revealed(self, reveal: Reveal) -> dict[Any, Any]:
        view = self._view
        won = {"left": 0, "right": 1}.get(reveal.choice)
        names = (reveal.left_model, reveal.right_model)
        return {
            view.heads[0]: _head("A", names[0], won == 0),
            view.heads[1]: _head("B", names[1], won == 1),
            view.ballot: gr.update(visible=False),
            view.after: gr.update(visible=True),
            view.reveal: _reveal(reveal),
            view.line: "",
            view.count: _count(reveal.votes_by_voter),
        }


def voter_of(request: gr.Request) -> str | None:
    """Who votes, as `ui.doors` read it from the signed cookie of this very request."""
    inner = getattr(request, "request", None)
    return inner.scope.get("parley_voter") if inner is not None else None


def _told(error: BaseException) -> str:
    match error:
        case Invalid(param="prompt"):
            return "That question is too long. Shorten it and ask again."
        case Invalid():
            return "There is nothing to compare yet: two answers need two models that are ready. Try again soon."
        case NotFound():
            return "There are no questions yet. Write one of your own below."
        case Unavailable():
            return "One of the two did not answer. Try again in a moment."
        case _:
            return "Something went wrong here. Try again in a moment."


def _question(messages: Sequence[Message]) -> str:
    if not messages:
        return "<div class='question faint'><small>Question</small><p>…</p></div>"
    parts = []
    for message in messages:
        if message.role == "system":
            continue  # how a model was told to behave is not the rater's to judge
        who = "Question" if message.role == "user" else "Answer so far"
        parts.append(f"<small>{who}</small><p>{escape(message.content)}</p>")
    return f"<div class='question'>{''.join(parts)}</div>"


def _head(side: str, model: str = "", won: bool = False) -> str:
    name = f"<span class='who'>{escape(model)}</span>" if model else ""
    crown = "<span class='won'>your choice</span>" if won else ""
    return f"<div class='side side-{side.lower()}'><b>{side}</b>{name}{crown}</div>"


def _reveal(reveal: Reveal) -> str:
    said = {
        "left": "You chose A",
        "right": "You chose B",
        "tie": "You called it a tie",
        "both_bad": "You found both bad",
    }
    return (
        f"<div class='reveal' role='status'><span>{said[reveal.choice]}.</span> "
        f"<span>A was <b>{escape(reveal.left_model)}</b></span>"
        f"<span>B was <b>{escape(reveal.right_model)}</b></span></div>"
    )


def _count(votes: int) -> str:
    text = "no votes yet" if votes == 0 else "1 vote so far" if votes == 1 else f"{votes} votes so far"
    return f"<div class='count'>{text}</div>"


def vote_blocks(room: Room) -> gr.Blocks:
    """The raters' app."""
    with gr.Blocks(title="Parley: which answer is better?", analytics_enabled=False) as blocks:
        gr.HTML(header("which answer is better?"))
        with gr.Column(elem_classes="vote"):
            with gr.Row(elem_classes="intro"):
                gr.HTML(
                    "<p class='lead'>Read both answers and say which one you would rather get. You learn who wrote "
                    "them after your vote.</p>"
                )
                count = gr.HTML(elem_classes="tally", elem_id="vote-count")
            question = gr.HTML(_question([]), elem_id="vote-question")
            line = gr.HTML(elem_id="vote-line")
            with gr.Row(elem_classes="sides", equal_height=True):
                heads, texts = [], []
                for side in ("A", "B"):
                    with gr.Column(min_width=280, elem_classes=f"card card-{side.lower()}"):
                        heads.append(gr.HTML(_head(side), elem_id=f"vote-head-{side.lower()}"))
                        texts.append(
                            gr.Markdown(_WAITING, elem_classes="answer", elem_id=f"vote-answer-{side.lower()}")
                        )
            with gr.Column(elem_classes="dock"):
                with gr.Row(visible=False, elem_classes="ballot", elem_id="vote-ballot") as ballot:
                    a = gr.Button(_CHOICES["left"], elem_id="vote-left", elem_classes="pick pick-a", min_width=120)
                    b = gr.Button(_CHOICES["right"], elem_id="vote-right", elem_classes="pick pick-b", min_width=120)
                    tie = gr.Button(_CHOICES["tie"], elem_id="vote-tie", elem_classes="pick", min_width=120)
                    bad = gr.Button(_CHOICES["both_bad"], elem_id="vote-bad", elem_classes="pick", min_width=120)
                with gr.Row(visible=False, elem_classes="after") as after:
                    reveal = gr.HTML(elem_id="vote-reveal")
                    onward = gr.Button("Next →", variant="primary", elem_id="vote-next", scale=0, min_width=160)
            gr.HTML(
                "<p class='keys'><kbd>A</kbd> <kbd>B</kbd> vote · <kbd>T</kbd> tie · <kbd>X</kbd> both bad · "
                "<kbd>→</kbd> next · or <kbd>1</kbd>–<kbd>4</kbd></p>"
            )
            with gr.Accordion("Ask a question of your own", open=False, elem_classes="fold own"):
                own = gr.Textbox(
                    placeholder="Both answer what you write here",
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
        view = VoteView(
            battle, question, (heads[0], heads[1]), (texts[0], texts[1]), ballot, after, reveal, line, count, own
        )
        vote = Vote(room, view)
        blocks.load(vote.arrive, None, view.everything(), trigger_mode="once", **QUIET)
        onward.click(vote.forward, None, view.everything(), js="() => parley.top()", trigger_mode="once", **QUIET)
        own.submit(vote.ask_own, [own], view.everything(), trigger_mode="once", **QUIET)
        for button, handler in ((a, vote.left), (b, vote.right), (tie, vote.tie), (bad, vote.both_bad)):
            button.click(handler, [battle], view.everything(), trigger_mode="once", **QUIET)
    return blocks
