"""Folds the system messages of training data into user turns, as the gateway does for the trained model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from models.chat.messages import Message
from models.chat.system_messages import SEPARATOR, Folding, plan_folding
from models.quantities import count_noun
from train.data.conversations import ChatMessage, Conversation, Example, Preference, Problem


def fold_later(items: Iterable[Example | Preference | Problem]) -> Iterator[Example | Preference | Problem]:
    """Each item with the system messages after its first message folded; at the end a warning with their number."""
    number = 0
    for item in items:
        number += 0 if isinstance(item, Problem) else count_folded(item, "later")
        yield item if isinstance(item, Problem) else fold(item, "later")
    if number:
        yield folded_problem(number, "in the middle of a conversation")


def fold(item: Example | Preference, folding: Folding) -> Example | Preference:
    """A conversation or pair with its system messages folded into user turns."""
    if not count_folded(item, folding):
        return item
    if isinstance(item, Preference):
        return replace(item, prompt=_fold(item.prompt, folding))
    messages = item.conversation.messages
    folded = Conversation(_fold(messages, folding), item.conversation.tools)
    plan = plan_folding(_roles(messages), folding)
    unweighted = frozenset(place for place, turn in enumerate(plan) if turn[0] in item.unweighted)
    return replace(item, conversation=folded, unweighted=unweighted)


def count_folded(item: Example | Preference, folding: Folding) -> int:
    """The number of system messages that folding makes part of a user turn."""
    roles = _roles(item.prompt if isinstance(item, Preference) else item.conversation.messages)
    return roles[0 if folding == "all" else 1 :].count("system") if folding != "none" else 0


def folded_problem(number: int, where: str) -> Problem:
    """The warning that system messages were folded."""
    verb, turns = ("is", "a user turn") if number == 1 else ("are", "user turns")
    message = f"{count_noun(number, 'system message')} {where} {verb} folded into {turns}"
    mend = "nothing to do: the trained model is served in the same way"
    return Problem(0, "warning", message, mend, "system-folded")


def _roles(messages: Sequence[ChatMessage]) -> list[str]:
    return [message.role for message in messages]


def _fold(messages: Sequence[ChatMessage], folding: Folding) -> tuple[ChatMessage, ...]:
    folded: list[ChatMessage] = []
    for turn in plan_folding(_roles(messages), folding):
        first = messages[turn[0]]
        unchanged = first.role != "system" or (turn[0] == 0 and folding == "later")
        if len(turn) == 1 and unchanged:
            folded.append(first)
        else:
            texts = [messages[place].content for place in turn]
            folded.append(Message(role="user", content=SEPARATOR.join(filter(None, texts))))
    return tuple(folded)
