"""The keys of imported votes, pairs and prompts: the same vote has the same key in every import.

A battle's id is "imported-" and a hash of the vote's id in the other tool, or else of its content and its place among
equal rows of the file. The forms that release 0a467a6 wrote are still derived, so that its imports are recognised.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring, encode_basestring_ascii

from evals.votes.imports.rows import ImportedVote, Texts

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs
_DIGITS = [first + second for first in _CROCKFORD for second in _CROCKFORD]  # two digits of 5 bits at once
_SHIFTS = range(120, -1, -10)
PREFIX = "imported-"
_ID_MAX = 64  # characters of a battle's id


@dataclass(frozen=True)
class VoteKeys:
    """The battle ids that a vote may have.

    Attributes:
        by_id: from the other tool's id; the first is a vote exported from here, which keeps its id.
        by_row: from its content; the first is the one to store it under.
        kept: where an equal row of another file counts as well.
        digests: the hashes of its prompt, now and as release 0a467a6 read it.
    """

    by_id: tuple[str, ...]
    by_row: tuple[str, ...]
    kept: str
    digests: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every id."""
        return (*self.by_id, *self.by_row, self.kept)


@dataclass
class KeyMaker:
    """Makes the keys of a file's votes, in the file's order. `sha256`: the file's."""

    sha256: str
    _places: Counter[str] = field(default_factory=Counter)

    def keys(self, vote: ImportedVote, *, by_row: bool) -> VoteKeys:
        """The next vote's keys; those from its content only if they are needed, because they take longest."""
        rows = _row_identities(vote) if by_row else []
        for row in rows:
            self._places[row] += 1
        contents = [vote.content, *([_content(vote, vote.former)] if vote.former else [])]
        return VoteKeys(
            by_id=() if vote.id is None else (vote.id[:_ID_MAX], battle_key(_id_identity(vote))),
            by_row=tuple(battle_key(f"{row}#{self._places[row]}") for row in rows),
            kept=battle_key(f"{rows[0]}#{self.sha256}:{self._places[rows[0]]}") if rows else "",
            digests=tuple(map(prompt_digest, contents)) if by_row and vote.id is not None else (),
        )


def id_column(votes: Sequence[ImportedVote]) -> tuple[bool, str | None]:
    """Whether an id column names votes; if not, also a sentence on what it seems to name.

    It names votes only where all rows that share an id agree.
    """
    groups: dict[str, list[ImportedVote]] = defaultdict(list)
    for vote in votes:
        if vote.id is not None:
            groups[vote.id].append(vote)
    shared = {id_: rows for id_, rows in groups.items() if len(rows) > 1}
    differing = {id_: rows for id_, rows in shared.items() if len({row_identity(row) for row in rows}) > 1}
    if not differing:
        return True, None
    kinds: dict[str, Callable[[ImportedVote], Hashable]] = {
        "pairs of answers": lambda vote: (*sorted((vote.left, vote.right)), json.dumps(vote.content)),
        "prompts": lambda vote: json.dumps(vote.content),
        "voters": lambda vote: vote.voter,
    }
    if len({(*sorted((vote.left, vote.right)),) for vote in votes}) == 1:
        del kinds["pairs of answers"]  # they are the prompts
    kind = next(
        (name for name, part in kinds.items() if all(len(set(map(part, rows))) == 1 for rows in shared.values())),
        "something other than votes",
    )
    id_, rows = next(iter(differing.items()))
    lines = ", ".join(str(row.line) for row in rows[:4])
    return False, (
        f"The id column seems to name {kind}: {sum(map(len, differing.values()))} rows share an id and differ "
        f"(lines {lines} have {id_[:40]!r}). Each row counts as a vote."
    )


def row_identity(vote: ImportedVote) -> str:
    """A vote's whole content, apart from its id."""
    return _row_identities(vote)[0]


def battle_key(identity: str) -> str:
    """The battle's id for an identity."""
    return PREFIX + hashlib.sha256(identity.encode()).hexdigest()[:48]


def prompt_digest(messages: Sequence[dict[str, str]]) -> str:
    """The hash that makes a prompt unique."""
    return hashlib.sha256(_messages_json(messages, encode_basestring).encode()).hexdigest()


def pair_key(prompt_id: str, models: Sequence[str], answers: Sequence[str]) -> str:
    """The pair's id for a prompt, two models and their answers."""
    parts = ", ".join(map(encode_basestring_ascii, (prompt_id, *models, *answers)))
    return as_ulid(f"[{parts}]")


def as_ulid(text: str) -> str:
    """26 characters derived from the content, in the alphabet of ULIDs."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    return "".join([_DIGITS[number >> shift & 1023] for shift in _SHIFTS])


def _id_identity(vote: ImportedVote) -> str:
    quote = encode_basestring_ascii
    left, right = sorted((vote.left, vote.right))
    return f'["id", {quote(str(vote.id))}, [{quote(left)}, {quote(right)}]]'


def _row_identities(vote: ImportedVote) -> list[str]:
    """The identity of a row, then those that release 0a467a6 gave it."""
    now = Texts(vote.messages, vote.left_answer, vote.right_answer)
    contents: list[tuple[list[dict[str, str]], Texts]] = [(vote.content, now)]
    if vote.own_prompt:  # the prompt's name has the file's name and the line, which another file does not share
        contents.insert(0, ([], now))
    if vote.former is not None:
        contents.append((_content(vote, vote.former), vote.former))
    when = f'"{vote.when.isoformat()}"' if vote.when else "null"
    quote = encode_basestring_ascii
    return [
        f'["row", {quote(vote.left)}, {quote(vote.right)}, {quote(texts.left)}, {quote(texts.right)}, '
        f"{_messages_json(content, quote)}, {quote(vote.voter)}, {quote(vote.choice)}, {when}]"
        for content, texts in contents
    ]


def _messages_json(messages: Sequence[dict[str, str]], quote: Callable[[str], str]) -> str:
    """Like `json.dumps`, which takes several times as long for small objects."""
    parts = (f'{{"role": {quote(one["role"])}, "content": {quote(one["content"])}}}' for one in messages)
    return f"[{', '.join(parts)}]"


def _content(vote: ImportedVote, texts: Texts) -> list[dict[str, str]]:
    return list(texts.messages) or [{"role": "user", "content": f"[{vote.prompt}]"}]
