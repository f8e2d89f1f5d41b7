"""Rubrics as Markdown files: parsed, found by name, file or hash, and stored once used.

A file has YAML front matter and then the instructions for the judge. `criteria` is a list of names, or names with a
`weight` and `anchors` (what a score of 1 to 5 means):

    ---
    name: support
    version: 2
    criteria:
      relevance: {weight: 2, anchors: {1: another question's answer, 5: answers just this}}
      tone: {}
    ---
    Judge answers of a support team. …

`models.chat.judge_prompt.Rubric` turns it into the judge's prompt.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.tables import RubricRow, insert_once
from evals.votes.prompts import prompts, read_jsonl
from models.chat.judge_prompt import Criterion, Rubric
from models.chat.messages import Message
from models.database import Database
from models.errors import Invalid, NotFound

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*\n(.*)\Z", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KNOWN = {"name", "version", "criteria"}
IMPORTED_RUBRIC = Rubric(
    name="imported",
    text="Verdicts of an outside judge, imported from a file: what it was asked is not known here.",
    criteria=("overall",),
)
LIKELIHOOD_RUBRIC = Rubric(
    name="likelihood",
    text=(
        "The judge sees no rubric and writes no verdict. The answer with the higher mean log-probability of its tokens "
        "wins."
    ),
    criteria=("log-probability",),
)


def shipped_rubrics() -> list[Rubric]:
    """The rubrics that come with Parley, by name."""
    folder = files("evals") / "rubrics"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".md")), key=lambda path: path.name)
    return [parse_rubric(path.read_text("utf-8"), path.name) for path in paths]


def find_rubric(name: str, database: Database | None = None) -> Rubric:
    """A rubric by its file, by a shipped rubric's name, or by the hash of one that was used before.

    "imported" is what imported verdicts of an outside judge are stored under, and "likelihood" judges without a rubric
    (`evals.judges.likelihood`).

    Raises:
        NotFound: there is no such rubric.
        Invalid: the file is not a rubric; the message says what is wrong.
    """
    path = Path(name).expanduser()
    if name.endswith(".md") or path.is_file():
        try:
            return parse_rubric(path.read_text("utf-8-sig"), str(path))
        except FileNotFoundError as error:
            raise NotFound(f"There is no rubric file {path}.", param="rubric") from error
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.", param="rubric") from error
    shipped = shipped_rubrics()
    for rubric in (*shipped, IMPORTED_RUBRIC, LIKELIHOOD_RUBRIC):
        if name in (rubric.name, rubric.hash):
            return rubric
    if database is not None:
        with database.read() as session:
            row = session.get(RubricRow, name)
            if row is not None:
                return parse_rubric(row.content, f"the stored rubric {name}")
    names = ", ".join(rubric.name for rubric in shipped)
    raise NotFound(f"There is no rubric {name!r}. Use a Markdown file, a hash, or one of: {names}.", param="rubric")


def store_rubric(database: Database, rubric: Rubric) -> str | None:
    """Stores a rubric under its hash; returns a warning if another text has the same name and version."""
    with database.write() as session:
        same = select(RubricRow.hash).where(RubricRow.name == rubric.name, RubricRow.version == rubric.version)
        other_hashes = [stored for stored in session.scalars(same) if stored != rubric.hash]
        insert_once(
            session,
            RubricRow(hash=rubric.hash, name=rubric.name, version=rubric.version, content=write_rubric(rubric)),
        )
    if not other_hashes:
        return None
    return (
        f"The rubric {rubric.name} changed but is still version {rubric.version}. Results by the new text "
        f"({rubric.hash}) are separate from those by the old text ({', '.join(other_hashes)}). Raise its version."
    )


def used_rubrics(database: Database) -> list[Rubric]:
    """The rubrics that judges have used, oldest first."""
    with database.read() as session:
        rows = list(session.scalars(select(RubricRow).order_by(RubricRow.created)))
        return [parse_rubric(row.content, row.hash) for row in rows]


def parse_rubric(content: str, where: str) -> Rubric:
    """The rubric in a Markdown text.

    Args:
        where: the name of the text in errors.

    Raises:
        Invalid: it is not a rubric; the message says how to fix it.
    """
    import yaml

    match = _FRONT.match(content.replace("\r\n", "\n"))
    if match is None:
        raise Invalid(f"{where}: a rubric must begin with front matter between two lines of ---.", param="rubric")
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise Invalid(
            f"{where}: its front matter is not YAML ({' '.join(str(error).split())}).", param="rubric"
        ) from error
    text = match[2].strip()
    if not isinstance(front, dict) or not isinstance(front.get("name"), str) or not _NAME.fullmatch(front["name"]):
        raise Invalid(f"{where}: it needs a `name` of at most 64 lower-case letters, digits, - and _.", param="rubric")
    if unknown := set(front) - _KNOWN:
        raise Invalid(f"{where}: unknown key {min(map(str, unknown))!r}: use name, version, criteria.", param="rubric")
    if not text:
        raise Invalid(f"{where}: the text for the judge is missing after the front matter.", param="rubric")
    details = _criteria(front.get("criteria"), where)
    plain = all(criterion == Criterion(criterion.name) for criterion in details)
    names = tuple(criterion.name for criterion in details)
    return Rubric(front["name"], text, names, () if plain else details, str(front.get("version", 1))[:32])


def check_gradable(rubric: Rubric) -> None:
    """Raises Invalid for a rubric by which a judge can compare two answers but not grade one."""
    if rubric.hash == LIKELIHOOD_RUBRIC.hash:
        raise Invalid(
            "The rubric likelihood compares two answers and grades none: choose another rubric.", param="rubric"
        )


def write_rubric(rubric: Rubric) -> str:
    """A rubric as the Markdown that `parse_rubric` reads back to the same."""
    import yaml

    criteria: Any = list(rubric.criteria)
    if rubric.details:
        criteria = {
            criterion.name: {"weight": criterion.weight, "anchors": dict(criterion.anchors)}
            for criterion in rubric.details
        }
    front = {"name": rubric.name, "version": rubric.version, "criteria": criteria}
    written = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{written}---\n{rubric.text}\n"


def _criteria(criteria: Any, where: str) -> tuple[Criterion, ...]:
    if isinstance(criteria, list) and all(isinstance(name, str) for name in criteria):
        criteria = dict.fromkeys(criteria) if len(set(criteria)) == len(criteria) else None
    if not isinstance(criteria, dict) or not criteria or not all(isinstance(name, str) and name for name in criteria):
        raise Invalid(
            f"{where}: `criteria` must be a list of unique names, or names with weight and anchors.", param="rubric"
        )
    return tuple(_criterion(name, settings or {}, where) for name, settings in criteria.items())


def _criterion(name: str, settings: Any, where: str) -> Criterion:
    if not isinstance(settings, Mapping) or set(settings) - {"weight", "anchors"}:
        raise Invalid(f"{where}: the criterion {name} may only have a `weight` and `anchors`.", param="rubric")
    weight = settings.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e6:
        raise Invalid(f"{where}: the weight of {name} must be a number above 0.", param="rubric")
    anchors = settings.get("anchors") or {}
    if not isinstance(anchors, Mapping) or not all(score in (1, 2, 3, 4, 5) for score in anchors):
        raise Invalid(f"{where}: the anchors of {name} must be texts for scores from 1 to 5.", param="rubric")
    if not all(isinstance(text, str) and text.strip() for text in anchors.values()):
        raise Invalid(f"{where}: an anchor of {name} has no text.", param="rubric")
    return Criterion(name, float(weight), tuple(sorted((int(score), text.strip()) for score, text in anchors.items())))


def read_references(database: Database, path: Path) -> dict[str, str]:
    """Right answers by prompt id, from JSONL rows of `prompt` (or `messages`) and `reference`.

    Raises:
        NotFound: there is no such file. Invalid: a row has no reference, or none of them is to a stored prompt.
    """
    ids = {prompt.messages: prompt.id for prompt in prompts(database)}
    references: dict[str, str] = {}
    for number, row in read_jsonl(path):
        reference = row.get("reference") if isinstance(row, dict) else None
        if not isinstance(reference, str) or not reference.strip():
            raise Invalid(f"{path}, line {number}: a row needs a `prompt` and a `reference`.", param="references")
        content = row.get("messages") or [{"role": "user", "content": row.get("prompt") or ""}]
        try:
            messages = tuple(Message.model_validate(message) for message in content)
        except (ValueError, TypeError) as error:
            raise Invalid(
                f"{path}, line {number}: each message needs a role and a text.", param="references"
            ) from error
        if messages in ids:
            references[ids[messages]] = reference
    if not references:
        raise Invalid(f"{path}: no row matches a stored prompt. `parley prompts list` shows them.", param="references")
    return references
