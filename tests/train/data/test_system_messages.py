"""train/data/system_messages.py: a conversation is folded as for the served model."""

import pytest

from models.chat.system_messages import Folding, fold_dicts
from train.data.conversations import Conversation, Example, Message, TextParts
from train.data.system_messages import fold

PARTS = TextParts(role="user", content="U\nV", parts=("U", "V"))
CONVERSATIONS = (
    (("system", "S"), ("user", "U"), ("assistant", "A"), ("system", "T"), ("user", "V"), ("assistant", "B")),
    (("system", ""), ("user", "U"), ("assistant", "A"), ("system", ""), ("assistant", "B")),
    (("user", "U"), ("system", "S"), ("system", ""), ("assistant", "A"), ("system", "T")),
)


@pytest.mark.parametrize("folding", ["later", "all"])
def test_training_and_serving_fold_alike(folding: Folding) -> None:
    for turns in CONVERSATIONS:
        for user in (Message(role="user", content="U"), PARTS):
            messages = tuple(
                user if turn == ("user", "U") else Message(role=turn[0], content=turn[1])  # type: ignore[arg-type] -- roles as text
                for turn in turns
            )
            folded = fold(Example(1, Conversation(messages)), folding)
            assert isinstance(folded, Example)
            learnt = [(message.role, message.content) for message in folded.conversation.messages]
            chat = [{"role": message.role, "content": message.content} for message in messages]
            assert learnt == [(message["role"], message["content"]) for message in fold_dicts(chat, folding)]
