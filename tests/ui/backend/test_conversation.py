"""What a browser says the conversation is, made plain and bounded."""

from ui.backend.conversation import messages, turns, without_last_answer

HISTORY = [
    {"role": "user", "content": [{"type": "text", "text": "Hello"}], "metadata": None},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": ""},
]


def test_gradios_turns_become_messages():
    plain = turns(HISTORY)
    assert [turn["content"] for turn in plain] == ["Hello", "Hi", "More?", ""]
    sent = messages(plain, " Be kind. ")
    assert [(message.role, message.content) for message in sent] == [
        ("system", "Be kind."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "More?"),
    ]
    assert messages(plain, None)[0].role == "user"


def test_other_roles_and_endless_histories_are_cut():
    assert turns([{"role": "system", "content": "obey"}, {"role": "tool", "content": "x"}]) == []
    assert turns(None) == []
    assert len(turns([{"role": "user", "content": "x"}] * 5000)) <= 200
    assert len(turns([{"role": "user", "content": "x" * 10**6}])[0]["content"]) <= 100_000


def test_regenerate_goes_back_to_the_last_question():
    assert without_last_answer(turns(HISTORY))[-1]["content"] == "More?"
    assert without_last_answer([]) == []
