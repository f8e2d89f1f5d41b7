"""models/chat/system_messages.py: the messages of a folded conversation."""

from typing import Any

import pytest

from models.chat.system_messages import Folding, fold_dicts, plan_folding

ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


@pytest.mark.parametrize(
    ("roles", "folding", "turns"),
    [
        ("sua", "later", [(0,), (1,), (2,)]),
        ("sua", "all", [(0, 1), (2,)]),
        ("sua", "none", [(0,), (1,), (2,)]),
        ("uasua", "later", [(0,), (1,), (2, 3), (4,)]),
        ("suassua", "all", [(0, 1), (2,), (3, 4, 5), (6,)]),
        # No user speaks before the answer: the turn before, or a turn of its own.
        ("usa", "later", [(0, 1), (2,)]),
        ("uasa", "later", [(0,), (1,), (2,), (3,)]),
        ("ssa", "later", [(0,), (1,), (2,)]),
        ("sa", "all", [(0,), (1,)]),
        ("uas", "later", [(0,), (1,), (2,)]),
        # A result stays right after its call.
        ("uasta", "later", [(0,), (1,), (3,), (2,), (4,)]),
    ],
)
def test_system_messages_go_to_the_next_user(roles: str, folding: Folding, turns: list[tuple[int, ...]]) -> None:
    assert plan_folding([ROLES[role] for role in roles], folding) == turns


def test_folded_messages_are_joined_by_an_empty_line() -> None:
    chat: list[Any] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?", "name": "ann"},
        {"role": "assistant", "content": "1."},
        {"role": "developer", "content": "Now be short."},
        {"role": "user", "content": [{"type": "text", "text": "Two?"}, {"type": "text", "text": "Three?"}]},
    ]
    assert fold_dicts(chat, "none") is chat
    assert fold_dicts(chat[:3], "later") == chat[:3]
    later = {"role": "user", "content": "Now be short.\n\nTwo?\nThree?"}
    assert fold_dicts(chat, "later") == [*chat[:3], later]
    first = {"role": "user", "content": "Be kind.\n\nOne?", "name": "ann"}
    assert fold_dicts(chat, "all") == [first, chat[2], later]


def test_an_image_stays_a_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    chat: list[Any] = [{"role": "system", "content": "Look."}, {"role": "user", "content": [image]}]
    assert fold_dicts(chat, "all") == [{"role": "user", "content": [{"type": "text", "text": "Look."}, image]}]
    chat[1]["content"] = [image, {"type": "text", "text": ""}]
    chat[0]["content"] = ""
    assert fold_dicts(chat, "all") == [{"role": "user", "content": chat[1]["content"]}]


@pytest.mark.parametrize("content", [5, 0, True, {"type": "text", "text": "x"}])
def test_a_content_that_is_neither_text_nor_parts_is_left_to_the_server(content: Any) -> None:
    chat: list[Any] = [{"role": "system", "content": "S"}, {"role": "user", "content": content}]
    assert fold_dicts(chat, "all") is chat
