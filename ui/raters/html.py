"""The raters' app's HTML and sentences. Model names appear only in the arguments of `reveal_html` and `side_html`."""

from collections.abc import Sequence
from html import escape

from evals.campaigns.ballots import Reveal
from models.errors import Invalid, NotFound, Unavailable
from models.messages import Message

WAITING = (
    "<div class='pending' aria-live='polite'><span></span><span></span><span></span>"
    "<em>Preparing both answers…</em></div>"
)
NO_COOKIE = "Your browser blocks cookies, so your vote cannot be counted. Allow cookies for this page and reload it."
_CHOICES = {
    "left": "You chose A.",
    "right": "You chose B.",
    "tie": "You chose a tie.",
    "both_bad": "You chose “Both are bad”.",
}


def error_text(error: BaseException) -> str:
    """The sentence that a rater reads about an error. It never quotes the error, which could name a model."""
    match error:
        case Invalid(param="prompt"):
            return "Your question is too long. Shorten it and ask again."
        case Invalid():
            return "There is nothing to compare yet. Please come back later."
        case NotFound():
            return "There are no questions yet. You can ask your own below."
        case Unavailable():
            return "One of the two did not answer. Please try again in a moment."
        case _:
            return "Something went wrong. Please try again in a moment."


def question_html(messages: Sequence[Message]) -> str:
    """The question, or the conversation up to it; a placeholder while there is none."""
    if not messages:
        return "<div class='question faint'><small>Question</small><p>…</p></div>"
    parts = []
    for message in messages:
        if message.role == "system":
            continue  # instructions to the model are not part of what raters judge
        label = "Question" if message.role == "user" else "Answer so far"
        parts.append(f"<small>{label}</small><p>{escape(message.content)}</p>")
    return f"<div class='question'>{''.join(parts)}</div>"


def side_html(side: str, model: str = "", chosen: bool = False) -> str:
    """The head of an answer: A or B, and after the vote the model's name."""
    name = f"<span class='who'>{escape(model)}</span>" if model else ""
    mark = "<span class='won'>your choice</span>" if chosen else ""
    return f"<div class='side side-{side.lower()}'><b>{side}</b>{name}{mark}</div>"


def reveal_html(reveal: Reveal) -> str:
    """The vote, and which model wrote which answer."""
    return (
        f"<div class='reveal' role='status'><span>{_CHOICES[reveal.choice]}</span> "
        f"<span>A was <b>{escape(reveal.left_model or '')}</b></span>"
        f"<span>B was <b>{escape(reveal.right_model or '')}</b></span></div>"
    )


def count_html(votes: int) -> str:
    """How many votes this rater has cast."""
    text = "No votes yet" if votes == 0 else "1 vote so far" if votes == 1 else f"{votes} votes so far"
    return f"<div class='count'>{text}</div>"
