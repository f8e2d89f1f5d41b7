"""Answers that name their model: found before they are shown, and masked.

A name is a model's id, its aliases, its base, its name upstream, and its bot's title, of every model in the campaign.
A name with a digit or a separator is found anywhere, also with other separators. One that is a plain word ("base"), the
distinctive words of an id, and makers' names count only in a sentence in which the answer speaks of itself: an answer
about OpenAI is not a leak, "I was made by OpenAI" is. The stored answer never changes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaigns.campaign import base_name
from models.tables import AliasRow, ModelRow

MASK = "[name hidden]"
_MAKERS = (
    "OpenAI", "ChatGPT", "GPT", "GPT-4o", "GPT-4", "GPT-3.5", "Anthropic", "Claude", "Google DeepMind", "DeepMind",
    "Google", "Gemini", "Gemma", "Alibaba Cloud", "Alibaba", "Qwen", "Tongyi", "Meta AI", "Meta", "Llama", "Mistral AI",
    "Mistral", "Mixtral", "DeepSeek", "Microsoft", "Copilot", "Phi", "Hugging Face", "HuggingFace", "SmolLM", "xAI",
    "Grok", "Cohere", "Command R", "Ai2", "OLMo", "IBM", "Granite", "NVIDIA", "Nemotron", "Together AI", "Moonshot",
    "Kimi", "Zhipu", "GLM", "01.AI", "TII", "Falcon", "Aleph Alpha",
)  # fmt: skip
_GENERIC = {
    "adapter", "assistant", "base", "bot", "chat", "default", "demo", "fine", "final", "instruct", "judge", "large",
    "latest", "live", "merged", "mini", "model", "new", "nano", "old", "prod", "production", "small", "support", "team",
    "test", "tuned", "turbo", "version",
}  # fmt: skip
_OF_ITSELF = re.compile(
    r"\b(?:i\s*(?:am|['’]m)\b|my\s+(?:name|model|makers?|creators?|developers?)\b|call\s+me\b|known\s+as\b|this\s+is\b"
    r"|as\s+(?:an?\s+)?(?:ai|language|large)\b|(?:made|created|developed|trained|built|provided|powered|tuned)\s+by\b"
    r"|(?:based|trained)\s+on\b|speaking\s+(?:is|with)\b|your\s+assistant\b|ich\s+(?:bin|heiße)\b|mein\s+name\b"
    r"|(?:entwickelt|trainiert|erstellt|betrieben)\b|hier\s+(?:ist|spricht)\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?=\S)[^.!?\n]*)*[.!?\n]?")
_SHORTEST = 3  # letters of a name's word


@dataclass(frozen=True)
class ShownAnswer:
    """An answer as it is shown, and how many names were hidden in it."""

    text: str
    leaks: int


def campaign_names(session: Session, models: Sequence[str]) -> tuple[str, ...]:
    """Every name by which the models of a campaign could be recognised, sorted; two queries."""
    ids = {base_name(model) for model in models}
    specs: dict[str, Mapping[str, Any]] = dict(
        session.execute(select(ModelRow.id, ModelRow.spec).where(ModelRow.id.in_(ids))).all()
    )
    names = set(ids)
    for spec in specs.values():
        names |= {spec.get("base"), spec.get("parent"), (spec.get("upstream") or {}).get("model")}
        names.add((spec.get("bot") or {}).get("title"))
        path = spec.get("path")
        if path and not path.startswith("/"):
            names.add(path)
    names |= set(session.scalars(select(AliasRow.name).where(AliasRow.target.in_(ids))))
    return tuple(sorted(name for name in names if name))


def hide_names(text: str, names: tuple[str, ...]) -> ShownAnswer:
    """The answer with every name hidden. `names`: from `campaign_names`."""
    anywhere, of_itself = _patterns(names)
    shown, leaks = anywhere.subn(MASK, text) if anywhere else (text, 0)
    if not _OF_ITSELF.search(shown):
        return ShownAnswer(shown, leaks)

    def in_sentence(match: re.Match[str]) -> str:
        nonlocal leaks
        sentence = match[0]
        if not _OF_ITSELF.search(sentence):
            return sentence
        hidden, count = of_itself.subn(MASK, sentence)
        leaks += count
        return hidden

    return ShownAnswer(_SENTENCE.sub(in_sentence, shown), leaks)


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """What is a leak anywhere, and what is one where the answer speaks of itself."""
    distinctive, plain = set(), set(_MAKERS)
    for name in names:
        (plain if name.isalpha() else distinctive).add(name)
        if "/" in name:
            distinctive.add(name.rpartition("/")[2])
        words = re.findall(r"[^\W\d_]+", name)
        plain |= {word for word in words if len(word) >= _SHORTEST and word.lower() not in _GENERIC}
    return _alternatives(distinctive) if distinctive else None, _alternatives(plain)


def _alternatives(names: set[str]) -> re.Pattern[str]:
    # The longest first, so that "GPT-4o" is hidden as a whole.
    parts = [_tolerant(name) for name in sorted(names, key=lambda name: (-len(name), name))]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(part for part in parts if part)})(?![^\W_])", re.IGNORECASE)


def _tolerant(name: str) -> str:
    """A pattern for the name with any separators and Markdown marks between its words."""
    return r"[\W_]{0,4}?".join(re.escape(word) for word in re.findall(r"[^\W_]+", name))
