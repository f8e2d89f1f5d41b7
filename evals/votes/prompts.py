"""The stored prompts that models are compared on: added from JSONL or rows, and listed.

A row is `{"messages": [...], "category": "…", "topics": [["refund", "money back"], …], "held_out": true}`; instead
of messages, `"prompt": "…"` is one user turn. The same conversation is stored once.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.tables import PromptRow, insert_once
from models.chat.messages import Message, as_dicts, last_question
from models.database import Database, new_ulid
from models.errors import Invalid, NotFound

TYPED = "typed"  # the source of prompts that raters wrote: never shown to another rater
IMPORTED = "imported"  # the source of prompts from imported votes: not in the set until they are added
RECORDED = "recorded"  # the source of prompts that came with a recording: likewise
CAMPAIGN = "campaign"  # the source of prompts that came with a campaign: likewise
_OUTSIDE_SET = (TYPED, IMPORTED, RECORDED, CAMPAIGN)
_TYPED_LIMIT = 8_000  # characters
_SOURCE_LIMIT, _CATEGORY_LIMIT = 64, 255  # characters, as the table has them


@dataclass(frozen=True)
class Prompt:
    """One stored prompt. Each topic is a group of keywords, of which any one covers it."""

    id: str
    messages: tuple[Message, ...]
    category: str | None
    topics: tuple[tuple[str, ...], ...]
    held_out: bool
    source: str

    @property
    def question(self) -> str:
        """The last user turn."""
        return last_question(self.messages)


def add_prompts(database: Database, rows: str | Path | Iterable[Mapping[str, Any]], source: str) -> int:
    """Stores prompts from a JSONL file or from rows; returns how many are new.

    A prompt that a rater typed, or that came with an import or a recording, joins the set, with its new category,
    topics and held-out mark.

    Raises:
        Invalid: a row is not a prompt (the message has its number), or `source` is reserved or too long;
            nothing is stored.
        NotFound: there is no such file.
    """
    if source in _OUTSIDE_SET:
        raise Invalid(f"The source {source!r} is reserved: choose another.", param="source")
    if not 0 < len(source) <= _SOURCE_LIMIT:
        raise Invalid(f"A source must have 1 to {_SOURCE_LIMIT} characters.", param="source")
    numbered = read_jsonl(Path(rows)) if isinstance(rows, str | Path) else enumerate(rows, start=1)
    new = [_row(row, number, source) for number, row in numbered]
    with database.write() as session:
        return sum(insert_once(session, row) or _promote(session, row) for row in new)


def _promote(session: Session, row: PromptRow) -> bool:
    """Adds a prompt from outside of the set; False if it is in the set already."""
    stored = session.scalars(select(PromptRow).where(PromptRow.digest == row.digest)).one()
    if stored.source not in _OUTSIDE_SET:
        return False
    stored.category, stored.topics, stored.held_out, stored.source = row.category, row.topics, row.held_out, row.source
    return True


def prompts(
    database: Database,
    *,
    ids: Sequence[str] | None = None,
    category: str | None = None,
    held_out: bool | None = None,
    typed: bool = False,
) -> list[Prompt]:
    """Stored prompts, oldest first; typed, imported and recorded ones only with `typed`.

    Raises:
        NotFound: one of `ids` is unknown.
    """
    query = select(PromptRow).order_by(PromptRow.created, PromptRow.id)
    if ids is not None:
        query = query.where(PromptRow.id.in_(ids))
    elif not typed:
        query = query.where(PromptRow.source.not_in(_OUTSIDE_SET))
    if category is not None:
        query = query.where(PromptRow.category == category)
    if held_out is not None:
        query = query.where(PromptRow.held_out == held_out)
    with database.read() as session:
        stored = [as_prompt(row) for row in session.scalars(query)]
    if ids is not None and (missing := set(ids) - {prompt.id for prompt in stored}):
        raise NotFound(f"There is no prompt {min(missing)!r}.", param="prompts")
    return stored


def recorded_prompts(database: Database, rows: Iterable[Mapping[str, Any]]) -> list[Prompt]:
    """The prompts in these rows, each once and in order. New ones are stored outside of the set.

    Raises:
        Invalid: a row is not a prompt; nothing is stored.
    """
    new = {row.digest: row for row in (_row(row, number, RECORDED) for number, row in enumerate(rows, start=1))}
    with database.write() as session:
        stored = []
        for row in new.values():
            insert_once(session, row)
            stored.append(as_prompt(session.scalars(select(PromptRow).where(PromptRow.digest == row.digest)).one()))
        return stored


def typed_prompt(database: Database, text: str) -> Prompt:
    """A rater's own prompt, stored under the source "typed" if it is new.

    Raises:
        Invalid: the text is empty or over 8,000 characters.
    """
    if not text.strip():
        raise Invalid("Write a question first.", param="prompt")
    if len(text) > _TYPED_LIMIT:
        raise Invalid(f"The question is over {_TYPED_LIMIT:,} characters: shorten it.", param="prompt")
    row = _row({"prompt": text.strip()}, 1, TYPED)
    with database.write() as session:
        insert_once(session, row)
        return as_prompt(session.scalars(select(PromptRow).where(PromptRow.digest == row.digest)).one())


def prompt_digest(messages: Sequence[Message]) -> str:
    """The SHA-256 of a conversation, by which it is stored once."""
    return hashlib.sha256(json.dumps(as_dicts(messages), ensure_ascii=False).encode()).hexdigest()


def prompt_ids_of(database: Database, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the prompts in these rows, each once and in order. New ones are stored outside of the set.

    Raises:
        Invalid: a row is not a prompt; nothing is stored.
    """
    new = {row.digest: row for row in (_row(row, number, CAMPAIGN) for number, row in enumerate(rows, start=1))}
    with database.write() as session:
        for row in new.values():
            insert_once(session, row)
        return [session.scalars(select(PromptRow.id).filter_by(digest=digest)).one() for digest in new]


def set_prompt_ids(session: Session) -> list[str]:
    """The ids of the stored prompts, without those from outside of the set."""
    return list(session.scalars(select(PromptRow.id).where(PromptRow.source.not_in(_OUTSIDE_SET))))


def as_prompt(row: PromptRow) -> Prompt:
    """The prompt in a row."""
    return Prompt(
        id=row.id,
        messages=tuple(Message.model_validate(message) for message in row.messages),
        category=row.category,
        topics=tuple((group,) if isinstance(group, str) else tuple(group) for group in row.topics),
        held_out=row.held_out,
        source=row.source,
    )


def read_jsonl(path: Path) -> Iterable[tuple[int, Any]]:
    """Each line's number, from 1, and value; blank lines are skipped.

    Raises:
        NotFound: there is no such file.
        Invalid: it is not UTF-8, or a line is not JSON.
    """
    try:
        # Not splitlines(), which also splits at U+2028 and U+0085, which a JSON string may contain.
        lines = path.read_text("utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"{path}, line {number}: it is not JSON ({error}).") from error


def _row(row: Any, number: int, source: str) -> PromptRow:
    if not isinstance(row, Mapping):
        raise Invalid(f"Prompt {number}: expected an object with `messages` or `prompt`.")
    given = row.get("messages") or [{"role": "user", "content": row.get("prompt") or ""}]
    try:
        messages = [Message.model_validate(message) for message in given]
    except (ValidationError, TypeError) as error:
        raise Invalid(
            f"Prompt {number}: each message needs a role (system, user, assistant) and a text `content`."
        ) from error
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise Invalid(f"Prompt {number}: the last message must be a user message with text.")
    topics = row.get("topics") or []
    if not isinstance(topics, list) or not all(_is_topic(topic) for topic in topics):
        raise Invalid(f"Prompt {number}: topics must be a list of words, or of lists of synonyms.")
    category = row.get("category")
    if category is not None and not (isinstance(category, str) and len(category) <= _CATEGORY_LIMIT):
        raise Invalid(f"Prompt {number}: the category must be a text of at most {_CATEGORY_LIMIT} characters.")
    held_out = row.get("held_out")
    if held_out is not None and not isinstance(held_out, bool):
        raise Invalid(f"Prompt {number}: held_out must be true or false, without quotation marks.")
    stored = as_dicts(messages)
    try:
        digest = prompt_digest(messages)
    except UnicodeEncodeError as error:
        raise Invalid(f"Prompt {number}: it contains a lone surrogate (\\ud800 to \\udfff): fix the export.") from error
    return PromptRow(
        id=new_ulid(),
        digest=digest,
        messages=stored,
        category=category,
        topics=topics,
        held_out=bool(held_out),
        source=source,
    )


def _is_topic(topic: Any) -> bool:
    if isinstance(topic, list):
        return bool(topic) and all(isinstance(word, str) and word for word in topic)
    return isinstance(topic, str) and bool(topic)
