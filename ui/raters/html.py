"""The raters' page before anything is loaded: its sections and English buttons. The script fills and translates it."""

from collections.abc import Mapping
from html import escape

_CHOICES = (
    ("left", "vote-left", "pick pick-a"),
    ("right", "vote-right", "pick pick-b"),
    ("tie", "vote-tie", "pick"),
    ("both_bad", "vote-bad", "pick"),
)
_REASONS = ("not_my_topic", "unclear", "broken", "other")


def page_html(texts: Mapping[str, str]) -> str:
    """The page's sections: start, pair, pause and end. Only one of them is visible at a time."""
    return (
        "<div class='vote' id='rater' data-screen='loading'>"
        "<div><div class='intro'><h1 id='vote-title' tabindex='-1'></h1>"
        "<div class='count' id='vote-count' aria-live='polite'></div></div><p class='lead' id='vote-lead'></p></div>"
        "<div class='line' id='vote-line' role='status' aria-live='polite'></div>"
        f"{_start(texts)}{_pair(texts)}"
        "<section id='vote-stopped' hidden><h2 tabindex='-1'></h2><div></div></section>"
        "<section id='vote-end' hidden><h2 tabindex='-1'></h2><div></div></section></div>"
    )


def _start(texts: Mapping[str, str]) -> str:
    return (
        "<section id='vote-start' hidden><div class='welcome' id='vote-welcome'></div>"
        "<p class='about' id='vote-wanted'></p>"
        f"<button type='button' class='go' id='vote-begin'>{_label(texts, 'start')}</button></section>"
    )


def _pair(texts: Mapping[str, str]) -> str:
    sides = "".join(
        f"<article class='card card-{side}' aria-labelledby='vote-head-{side}'>"
        f"<h2 class='side side-{side}' id='vote-head-{side}'></h2>"
        f"<div class='answer prose' id='vote-answer-{side}'></div></article>"
        for side in "ab"
    )
    buttons = "".join(
        f"<button type='button' id='{name}' class='{classes}' data-choice='{choice}'>{_label(texts, choice)}</button>"
        for choice, name, classes in _CHOICES
    )
    return (
        "<section id='vote-pair' hidden><div class='question' id='vote-question' tabindex='-1'></div>"
        f"<div class='sides'>{sides}</div><div id='vote-criteria' hidden></div>"
        f"<div class='dock'><div class='ballot' id='vote-ballot' role='group' hidden>{buttons}</div>"
        "<div class='after' id='vote-after' hidden><div id='vote-reveal' role='status'></div>"
        f"<button type='button' class='go' id='vote-next'>{_label(texts, 'next')}</button></div></div>"
        f"<p class='keys'>{_label(texts, 'keys')}</p><p class='swipe'>{_label(texts, 'swipe')}</p>"
        f"{_more(texts)}</section>"
    )


def _more(texts: Mapping[str, str]) -> str:
    """Less frequent actions: a comment, a skip, undo, a pause, the rater's own question."""
    reasons = "".join(
        f"<button type='button' class='small' data-reason='{reason}'>{_label(texts, reason)}</button>"
        for reason in _REASONS
    )
    return (
        "<div class='more'>"
        f"<details id='vote-comment'><summary>{_label(texts, 'comment')}</summary>"
        "<textarea rows='2' maxlength='2000' data-label='comment'></textarea>"
        f"<p class='about'>{_label(texts, 'comment_hint')}</p></details>"
        f"<details id='vote-skip'><summary>{_label(texts, 'skip')}</summary><p>{_label(texts, 'skip_why')}</p>"
        f"<div class='reasons'>{reasons}</div></details>"
        f"<details id='vote-own' hidden><summary>{_label(texts, 'own')}</summary><form>"
        "<textarea rows='2' maxlength='8000' data-label='own' data-hint='own_hint'></textarea>"
        f"<button type='submit' class='go'>{_label(texts, 'own_send')}</button></form></details>"
        f"<button type='button' class='small' id='vote-undo' hidden>{_label(texts, 'undo')}</button>"
        f"<button type='button' class='small' id='vote-stop'>{_label(texts, 'stop')}</button></div>"
    )


def _label(texts: Mapping[str, str], key: str) -> str:
    """A text that the script replaces with the campaign's language."""
    return f"<span data-text='{key}'>{escape(texts[key])}</span>"
