"""Rows of FastChat as votes, as its sources define them.

`serve/gradio_block_arena_anony.py` writes its log, `serve/monitor/clean_battle_data.py` its battles; MT-Bench's human
votes and Chatbot Arena's public sets have the same form.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.votes.imports.choices import WinnerNames, choice_of
from evals.votes.imports.content import decoded, text_of
from evals.votes.imports.rows import UNKNOWN_VOTER, ImportedVote, NotAVote, RowError, Texts, parse_time

_LOG_VOTES = ("leftvote", "rightvote", "tievote", "bothbad_vote")
_HEADINGS = ("### Model A: ", "### Model B: ")


def from_fastchat_log(row: Mapping[str, Any], line: int) -> ImportedVote:
    """A line of a conversation log: a vote with its two conversations.

    An IP address is stored as a hash, to identify voters.
    """
    kind = row.get("type")
    if kind not in _LOG_VOTES:
        raise NotAVote(f"a log line of type {kind!r}")
    states = row.get("states")
    if not isinstance(states, list) or len(states) != 2 or not all(isinstance(state, Mapping) for state in states):
        raise RowError("a vote needs its two states")
    shown = row.get("models") or ["", ""]
    # A blind battle's `models` are empty; the states have the names.
    left, right = (str(state.get("model_name") or _plain(name)) for state, name in zip(states, shown, strict=True))
    turns = [[{"role": role, "content": text} for role, text in _pairs(state)] for state in states]
    ids = [state.get("conv_id") for state in states]
    texts, former = _texts(turns)
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice=choice_of(kind, left, right),
        voter="ip-" + hashlib.sha256(str(row["ip"]).encode()).hexdigest()[:16] if row.get("ip") else UNKNOWN_VOTER,
        prompt="/".join(map(str, ids)),
        messages=texts.messages,
        left_answer=texts.left,
        right_answer=texts.right,
        former=former,
        id="/".join([*map(str, ids), str(len(turns[0]))]) if all(ids) else None,
        when=parse_time(row.get("tstamp")),
    )


def from_fastchat_battle(row: Mapping[str, Any], line: int, names: WinnerNames) -> ImportedVote:
    """A cleaned battle, or one of MT-Bench's human votes, where `turn` is the last turn that was judged."""
    left, right = (str(row.get(side) or "").strip() for side in ("model_a", "model_b"))
    turn = _whole(row.get("turn"))
    judged = [
        _messages(row.get(side))[: 2 * turn if turn > 0 else None] for side in ("conversation_a", "conversation_b")
    ]
    texts, former = _texts(judged)
    judge = row.get("judge")
    if not texts.messages and row.get("question_id") is None:
        raise RowError("it has no prompt")
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice=choice_of(row.get("winner"), left, right, names),
        voter=str(judge[0] if isinstance(judge, list) and judge else judge or UNKNOWN_VOTER),
        prompt=f"{row.get('question_id')}/{turn or 1}",
        messages=texts.messages,
        left_answer=texts.left,
        right_answer=texts.right,
        former=former,
        when=parse_time(row.get("tstamp")),
    )


def _plain(name: Any) -> str:
    text = str(name or "")
    return next((text.removeprefix(heading) for heading in _HEADINGS if text.startswith(heading)), text).strip()


def _pairs(state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    messages = state.get("messages") or []
    first = int(state.get("offset") or 0)  # examples that the template puts before the conversation
    if not all(
        isinstance(message, Sequence) and not isinstance(message, str) and len(message) == 2 for message in messages
    ):
        raise RowError("its messages are not pairs of role and text")
    return [("user" if i % 2 == 0 else "assistant", message[1]) for i, message in enumerate(messages[first:])]


def _messages(conversation: Any) -> list[Mapping[str, Any]]:
    conversation = decoded(conversation) or []
    if not isinstance(conversation, Sequence) or not all(isinstance(message, Mapping) for message in conversation):
        raise RowError("a conversation is a list of messages")
    return list(conversation)


def _whole(turn: Any) -> int:
    try:
        return int(turn or 0)
    except (TypeError, ValueError):
        return 0


def _texts(sides: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Texts, Texts | None]:
    """The texts of both conversations, and as release 0a467a6 read them if a content is a list of parts."""
    plain = all(isinstance(message.get("content"), str | type(None)) for side in sides for message in side)
    return _shared_texts(sides, text_of), None if plain else _shared_texts(sides, lambda content: str(content or ""))


def _shared_texts(sides: Sequence[Sequence[Mapping[str, Any]]], text: Callable[[Any], str]) -> Texts:
    """The messages that both models received, and both answers.

    Over several turns each model has its own history, so the last answers have no common prompt: then the user's
    messages identify the prompt, and the answers are dropped.
    """
    turns = [
        [{"role": str(message.get("role")), "content": text(message.get("content"))} for message in side]
        for side in sides
    ]
    questions = [tuple(turn for turn in side if turn["role"] == "user" and turn["content"]) for side in turns]
    if not questions[0] or questions[0] != questions[1]:
        return Texts((), "", "")
    last = [side[-1]["content"] if side[-1]["role"] == "assistant" else "" for side in turns]
    return Texts(questions[0], *(last if len(questions[0]) == 1 else ("", "")))
