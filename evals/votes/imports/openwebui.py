"""Feedback of Open WebUI as votes, as `backend/open_webui/models/feedbacks.py` defines it.

A thumb up beside other answers counts as a win over each, a thumb down as a loss to each, as on its own leaderboard.
Two thumbs on the same two answers are one vote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals.votes.imports.content import text_of
from evals.votes.imports.rows import UNKNOWN_VOTER, ImportedVote, NotAVote, parse_time


def from_openwebui(row: Mapping[str, Any], line: int) -> list[ImportedVote]:
    """One feedback: a vote against each of the other answers to the same message."""
    if row.get("type") != "rating":
        raise NotAVote(f"a feedback of type {row.get('type')!r}")
    data, meta = _part(row, "data"), _part(row, "meta")
    rating = str(data.get("rating"))
    if rating not in ("1", "-1"):
        raise NotAVote("a comment without a thumb")
    model = str(data.get("model_id") or "").strip()
    rivals = [str(rival) for rival in data.get("sibling_model_ids") or [] if rival != model]
    if not rivals:
        raise NotAVote("a thumb on an answer without an alternative")
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


def merge_thumbs(votes: Sequence[ImportedVote]) -> list[ImportedVote]:
    """One person's thumbs on both answers to a question, as one vote.

    With one up and one down, the answer with the up wins; two ups are a tie, two downs are both bad.
    """
    merged: list[ImportedVote] = []
    places: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for vote in votes:
        key = (vote.voter, vote.prompt, tuple(sorted((vote.left, vote.right))))
        first = merged[places[key]] if key in places else None
        if first is None or first.left == vote.left:
            places.setdefault(key, len(merged))
            merged.append(vote)
        elif first.choice == vote.choice:
            merged[places[key]] = replace(first, choice="tie" if first.choice == "left" else "both_bad")
    return merged


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = row.get(name)
    return found if isinstance(found, Mapping) else {}


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
        str(node.get("selectedModelId") or node.get("model")): text_of(node.get("content"))
        for node in nodes.values()
        if isinstance(node, Mapping) and node.get("parentId") == parent and node.get("role") == "assistant"
    } | {"": text_of(rated.get("content"))}
    messages: list[dict[str, str]] = []
    seen: set[Any] = set()
    while isinstance(nodes.get(parent), Mapping) and parent not in seen:
        seen.add(parent)
        node = nodes[parent]
        if not isinstance(node.get("content"), str):
            return (), {}
        messages.insert(0, {"role": str(node.get("role")), "content": node["content"]})
        parent = node.get("parentId")
    return (tuple(messages), answers) if messages and messages[-1]["role"] == "user" else ((), {})
