"""Names of models in answers: detected before an answer is shown, and masked.

The names are the ids, aliases, bases and upstream names of all models in the campaign. A name with a digit or a
separator is detected anywhere, also with other separators. A plain word ("base"), the words of an id, a bot's title and
makers' names count only if the answer refers to itself: an answer about OpenAI is not a leak, "I was made by OpenAI"
is. The stored answer never changes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.recordings.recorded_models import parse_recorded_name
from models.tables import AliasRow, ModelRow

MASK = "[name hidden]"
_MAKERS = (
    "OpenAI", "ChatGPT", "GPT", "GPT-4o", "GPT-4", "GPT-3.5", "Anthropic", "Claude", "Google DeepMind", "DeepMind",
    "Google", "Gemini", "Gemma", "Alibaba Cloud", "Alibaba", "Qwen", "Tongyi", "Meta AI", "Meta", "Llama", "Mistral AI",
    "Mistral", "Mixtral", "DeepSeek", "Microsoft", "Copilot", "Phi", "Hugging Face", "HuggingFace", "SmolLM", "xAI",
    "Grok", "Cohere", "Command R", "Ai2", "OLMo", "IBM", "Granite", "NVIDIA", "Nemotron", "Together AI", "Moonshot",
    "Kimi", "Zhipu", "GLM", "01.AI", "TII", "Falcon", "Aleph Alpha",
)  # fmt: skip
# What precedes a name if an answer refers to itself, and the words that may stand in between.
_LINK = (
    r"(?:\bi\s+am|\bi['’]m|\bname(?:['’]s|\s+is)|\bcall\s+me|\bknown\s+as|\bspeaking\s+(?:is|with|to)|\bthis\s+is"
    r"|(?:^|[.!?,;]\s*)as|\b(?:made|created|developed|trained|built|provided|powered|designed|tuned)\s+(?:by|on|from)"
    r"|\bbased\s+on|\bich\s+(?:bin|heiße)|\bname\s+ist|\b(?:entwickelt|trainiert|erstellt|betrieben)\s+(?:von|durch))"
)
_FILLER = (
    r"(?:an?|the|actually|just|called|named|known|as|your|our|ai|artificial|intelligence|large|language|model|assistant"
    r"|chatbot|bot|helper|virtual|team|researchers|people|company|at|from|of|by|made|created|developed|trained|built|and"
    r"|was|eine?|einem|einer|der|die|das|dem|von|ki|sprachmodell|assistent|firma|wurde|entwickelt|trainiert)"
)
_BETWEEN = rf"[\s,:*_\"'“„(]+(?:{_FILLER}[\s,:*_\"'“„(]+){{0,8}}"
_FIRST_PERSON = re.compile(r"\b(?:i|my|me|ich|mein\w*|mir|this\s+(?:assistant|model|bot|is)|as)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?=\S)[^.!?\n]*)*[.!?\n]?")
_SHORTEST = 3  # the least letters of a word in a name
_TITLE = "title:"  # before a bot's title, which is no identifier
_FILLERS = {"model", "assistant", "chatbot", "bot", "helper", "language", "chat", "instruct", "support", "team"}


@dataclass(frozen=True)
class ShownAnswer:
    """An answer as it is shown, and how many names were hidden in it."""

    text: str
    leaks: int


def campaign_names(session: Session, models: Sequence[str]) -> tuple[str, ...]:
    """Every name by which the models of a campaign could be recognised, sorted; two queries."""
    ids = {recorded.model if (recorded := parse_recorded_name(model)) else model for model in models}
    specs: dict[str, Mapping[str, Any]] = dict(
        session.execute(select(ModelRow.id, ModelRow.spec).where(ModelRow.id.in_(ids))).all()
    )
    names = set(ids)
    for spec in specs.values():
        names |= {spec.get("base"), spec.get("parent"), (spec.get("upstream") or {}).get("model")}
        if title := (spec.get("bot") or {}).get("title"):
            names.add(_TITLE + title)
        path = spec.get("path")
        if path and not path.startswith("/"):
            names.add(path)
    names |= set(session.scalars(select(AliasRow.name).where(AliasRow.target.in_(ids))))
    return tuple(sorted(name for name in names if name))


def hide_names(text: str, names: tuple[str, ...]) -> ShownAnswer:
    """The answer with every name hidden. `names`: from `campaign_names`."""
    anywhere, of_itself = _patterns(names)
    shown, leaks = anywhere.subn(MASK, text) if anywhere else (text, 0)

    def in_sentence(match: re.Match[str]) -> str:
        nonlocal leaks
        sentence = match[0]
        # Each pass hides the next name of "I am Qwen, made by Alibaba".
        while _FIRST_PERSON.search(sentence):
            sentence, count = of_itself.subn(rf"\1{MASK}", sentence)
            leaks += count
            if not count:
                break
        return sentence

    return ShownAnswer(_SENTENCE.sub(in_sentence, shown), leaks)


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """The patterns of names that are leaks anywhere, and of those that are leaks after the words in `_LINK`."""
    distinctive, plain = set(), set(_MAKERS)
    for name in names:
        if name.startswith(_TITLE):
            plain.add(name.removeprefix(_TITLE))
            continue
        (plain if name.isalpha() else distinctive).add(name)
        if not (short := name.rpartition("/")[2]).isalpha():
            distinctive.add(short)
        plain |= {word for word in re.findall(r"[^\W\d_]+", name) if len(word) >= _SHORTEST} - _FILLERS
    anywhere = re.compile(_bounded(distinctive), re.IGNORECASE) if distinctive else None
    return anywhere, re.compile(f"({_LINK}{_BETWEEN}){_bounded(plain)}", re.IGNORECASE | re.MULTILINE)


def _bounded(names: set[str]) -> str:
    # The longest first, so that "GPT-4o" is hidden as a whole.
    parts = [_tolerant(name) for name in sorted(names, key=lambda name: (-len(name), name))]
    return rf"(?<![^\W_])(?:{'|'.join(part for part in parts if part)})(?![^\W_])"


def _tolerant(name: str) -> str:
    """A pattern for the name with other separators and Markdown marks; with spaces if it has a digit or a space."""
    spaced = any(letter.isdigit() or letter == " " for letter in name)
    between = r"[\W_]{0,4}?" if spaced else r"(?:[^\w\s]|_){1,4}?"
    return between.join(re.escape(word) for word in re.findall(r"[^\W_]+", name))
