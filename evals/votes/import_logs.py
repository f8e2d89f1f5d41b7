"""Rows of FastChat and Open WebUI as votes, as those projects' sources define them.

FastChat: `serve/gradio_block_arena_anony.py` writes its log, `serve/monitor/clean_battle_data.py` its battles;
MT-Bench's human votes have the same form. Open WebUI: `backend/open_webui/models/feedbacks.py`; a thumb up beside other
answers counts as a win over each, a thumb down as a loss to each, as on its own leaderboard.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from evals.votes.import_rows import UNKNOWN_VOTER, ImportedVote, NotAVote, RowError, choice_of, parse_time

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
    turns = [_turns([{"role": role, "content": text} for role, text in _pairs(state)]) for state in states]
    ids = [state.get("conv_id") for state in states]
    messages, answers = _common_prompt(turns)
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice=choice_of(kind, left, right),
        voter="ip-" + hashlib.sha256(str(row["ip"]).encode()).hexdigest()[:16] if row.get("ip") else UNKNOWN_VOTER,
        prompt="/".join(map(str, ids)),
        messages=messages,
        left_answer=answers[0],
        right_answer=answers[1],
        id="/".join([*map(str, ids), str(len(turns[0]))]) if all(ids) else None,
        when=parse_time(row.get("tstamp")),
    )


def from_fastchat_battle(row: Mapping[str, Any], line: int) -> ImportedVote:
    """A cleaned battle, or one of MT-Bench's human votes; `turn` is then the last turn that was judged."""
    left, right = str(row.get("model_a") or ""), str(row.get("model_b") or "")
    turn = row.get("turn")
    judged = [_turns(row.get(side) or [])[: 2 * turn if isinstance(turn, int) and turn > 0 else None]
              for side in ("conversation_a", "conversation_b")]  # fmt: skip
    messages, answers = _common_prompt(judged)
    judge = row.get("judge")
    if not messages and row.get("question_id") is None:
        raise RowError("it has no prompt")
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice=choice_of(row.get("winner"), left, right),
        voter=str(judge[0] if isinstance(judge, list) and judge else judge or UNKNOWN_VOTER),
        prompt=f"{row.get('question_id')}/{turn or 1}",
        messages=messages,
        left_answer=answers[0],
        right_answer=answers[1],
        when=parse_time(row.get("tstamp")),
    )


def from_openwebui(row: Mapping[str, Any], line: int) -> list[ImportedVote]:
    """One feedback: a vote against each of the other answers to the same message."""
    if row.get("type") != "rating":
        raise NotAVote(f"a feedback of type {row.get('type')!r}")
    data, meta = _part(row, "data"), _part(row, "meta")
    rating = str(data.get("rating"))
    if rating not in ("1", "-1"):
        raise NotAVote("a comment without a thumb")
    model = str(data.get("model_id") or "")
    rivals = [str(rival) for rival in data.get("sibling_model_ids") or [] if rival != model]
    if not rivals:
        raise NotAVote("a thumb on a single answer")
    messages, answers = _snapshot(row.get("snapshot"), meta.get("message_id"))
    return [
        ImportedVote(
            line=line,
            left=model,
            right=rival,
            choice="left" if rating == "1" else "right",
            voter=str(row.get("user_id") or UNKNOWN_VOTER),
            prompt=f"{meta.get('chat_id') or row.get('id') or line}/{meta.get('message_index') or 1}",
            messages=messages,
            left_answer=answers.get("", "") if answers.get(rival) else "",
            right_answer=answers.get(rival, "") if answers.get("") else "",
            id=None if row.get("id") is None else str(row["id"]),
            when=parse_time(row.get("created_at")),
        )
        for rival in dict.fromkeys(rivals)
    ]


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}


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


def _turns(conversation: Any) -> list[dict[str, str]]:
    if not isinstance(conversation, Sequence) or not all(isinstance(message, Mapping) for message in conversation):
        raise RowError("a conversation is a list of messages")
    return [
        {"role": str(message.get("role")), "content": str(message.get("content") or "")} for message in conversation
    ]


def _common_prompt(turns: Sequence[list[dict[str, str]]]) -> tuple[tuple[dict[str, str], ...], tuple[str, str]]:
    """The messages that both models got, and both answers.

    Over several turns each model has its own history, so the last answers have no common prompt: then the user's
    messages identify the prompt, and the answers are dropped.
    """
    questions = [tuple(turn for turn in side if turn["role"] == "user" and turn["content"]) for side in turns]
    if not questions[0] or questions[0] != questions[1]:
        return (), ("", "")
    last = [side[-1]["content"] if side[-1]["role"] == "assistant" else "" for side in turns]
    return questions[0], (last[0], last[1]) if len(questions[0]) == 1 else ("", "")


def _snapshot(snapshot: Any, message_id: Any) -> tuple[tuple[dict[str, str], ...], dict[str, str]]:
    """The conversation up to the question, and its answers by model; "" is the one that was rated."""
    chat = snapshot.get("chat") if isinstance(snapshot, Mapping) else None
    chat = chat.get("chat", chat) if isinstance(chat, Mapping) else None  # the row of the chat, or the chat itself
    history = chat.get("history") if isinstance(chat, Mapping) else None
    nodes = history.get("messages") if isinstance(history, Mapping) else None
    if not isinstance(nodes, Mapping) or not isinstance(nodes.get(message_id), Mapping):
        return (), {}
    rated = nodes[message_id]
    parent = rated.get("parentId")
    answers = {
        str(node.get("selectedModelId") or node.get("model")): str(node.get("content") or "")
        for node in nodes.values()
        if isinstance(node, Mapping) and node.get("parentId") == parent and node.get("role") == "assistant"
    } | {"": str(rated.get("content") or "")}
    messages: list[dict[str, str]] = []
    visited: set[Any] = set()
    while isinstance(nodes.get(parent), Mapping) and parent not in visited:
        visited.add(parent)
        node = nodes[parent]
        if not isinstance(node.get("content"), str):
            return (), {}
        messages.insert(0, {"role": str(node.get("role")), "content": node["content"]})
        parent = node.get("parentId")
    return (tuple(messages), answers) if messages and messages[-1]["role"] == "user" else ((), {})
