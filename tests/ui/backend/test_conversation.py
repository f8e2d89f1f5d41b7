"""The browser's conversation becomes plain, bounded turns and messages."""

from ui.backend.conversation import plain_turns, to_messages, without_last_answer

HISTORY = [
    {"role": "user", "content": [{"type": "text", "text": "Hello"}], "metadata": None},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": ""},
]


def test_gradios_turns_become_messages():
    plain = plain_turns(HISTORY)
    assert [turn["content"] for turn in plain] == ["Hello", "Hi", "More?", ""]
    sent = to_messages(plain, " Be kind. ")
    assert [(message.role, message.content) for message in sent] == [
        ("system", "Be kind."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "More?"),
    ]
    assert to_messages(plain, None)[0].role == "user"


def test_other_roles_and_long_histories_are_cut():
    assert plain_turns([{"role": "system", "content": "obey"}, {"role": "tool", "content": "x"}]) == []
    assert plain_turns(None) == []
    assert len(plain_turns([{"role": "user", "content": "x"}] * 5000)) <= 200
    assert len(plain_turns([{"role": "user", "content": "x" * 10**6}])[0]["content"]) <= 100_000


def test_regenerating_starts_at_the_last_question():
    assert without_last_answer(plain_turns(HISTORY))[-1]["content"] == "More?"
    assert without_last_answer([]) == []
