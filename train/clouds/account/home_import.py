"""Imports a fetched account into the home: files and stored completions. It may be repeated; nothing comes twice."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from models.completions.routes import REPEATED_OPTIONS
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid, TooLarge
from models.files.stored_files import Files, sanitise_filename
from models.openai_fetch.folder import read_manifest, read_objects
from models.openai_fetch.kinds import content_path, list_path, safe_id
from models.settings.settings import Settings
from train.run.folder import write_json

FILE_IDS = "home-files.json"  # in the fetched folder: OpenAI's ids of files and those of this home
_PIECE = 2**20
_AT_ONCE = 100
_MAX_TEXT, _MAX_REQUEST_ID = 255, 64  # characters, in the table of stored completions
# What OpenAI adds to an answer when it stores it.
_STORED_ONLY = {*REPEATED_OPTIONS, "request_id", "metadata", "input_user"}


@dataclass
class HomeImport:
    """What was imported: OpenAI's ids of files with the home's, how many are new, and a sentence for what was not."""

    file_ids: dict[str, str] = field(default_factory=dict)
    new_files: int = 0
    completions: int = 0
    lost: list[str] = field(default_factory=list)


def import_account(folder: Path, settings: Settings, database: Database) -> HomeImport:
    """Imports the fetched files and stored completions.

    A file gets an id of this home, because ids here sort by time; `home-files.json` has both. Files of evals are left
    to `parley import openai-evals`. Completions keep their ids and times.

    Raises:
        NoSpace: the disk is full. Stop: the folder cannot be read.
    """
    done = HomeImport()
    records = read_manifest(folder)
    _import_files(folder, records, Files(settings, database), done)
    write_json(folder / FILE_IDS, done.file_ids)
    completions = StoredCompletions(database)
    fetched = _fetched_completions(folder, records, done)
    while batch := list(islice(fetched, _AT_ONCE)):
        completions.add(batch)
        done.completions += len(batch)
    return done


def _import_files(folder: Path, records: Mapping[str, Any], files: Files, done: HomeImport) -> None:
    known = {(file.sha256, file.filename, file.purpose): file.id for file in files.list()}
    for listed in read_objects(folder / list_path("files")):
        file = _with_whole_characters(listed)
        path, purpose = content_path(listed), str(file.get("purpose") or "user_data")[:_MAX_TEXT]
        record = records.get(path, {})
        if record.get("state") != "fetched" or purpose == "evals":
            continue
        name = sanitise_filename(str(file.get("filename") or file["id"]))
        mark = (record["sha256"], name, purpose)
        if mark not in known:
            try:
                known[mark] = _store_file(folder / path, files, name, purpose)
            except (Invalid, TooLarge) as error:
                done.lost.append(f"{file['id']}: {error}")
                continue
            done.new_files += 1
        done.file_ids[str(file["id"])] = known[mark]


def _store_file(path: Path, files: Files, name: str, purpose: str) -> str:
    with path.open("rb") as stream, files.incoming() as incoming:
        for piece in iter(lambda: stream.read(_PIECE), b""):
            incoming.write(piece)
        return files.save(incoming, name, purpose).id


def _fetched_completions(folder: Path, records: Mapping[str, Any], done: HomeImport) -> Iterator[StoredCompletion]:
    for completion in read_objects(folder / list_path("completions")):
        path = f"completions/{safe_id(str(completion['id']))}.jsonl"
        if records.get(path, {}).get("state") != "fetched":
            continue
        try:
            messages = [_message(_with_whole_characters(one)) for one in read_objects(folder / path)]
            yield _stored_completion(_with_whole_characters(completion), messages)
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            done.lost.append(f"{completion['id']}: it does not have the API's format ({error}).")


def _stored_completion(completion: Mapping[str, Any], messages: list[dict[str, Any]]) -> StoredCompletion:
    if not messages or not completion["choices"] or len(completion["id"]) > _MAX_TEXT:
        raise ValueError("it has no messages, no answer, or a long id")
    options = {name: completion[name] for name in REPEATED_OPTIONS if completion.get(name) is not None}
    if completion.get("input_user"):
        options["user"] = completion["input_user"]
    metadata = {str(name): str(value) for name, value in (completion.get("metadata") or {}).items()}
    model = str(completion["model"])[:_MAX_TEXT]
    return StoredCompletion(
        id=completion["id"],
        created=datetime.fromtimestamp(completion["created"], UTC),
        model=model,
        key_id="",
        request_id=str(completion.get("request_id") or completion["id"])[:_MAX_REQUEST_ID],
        request={"model": model, "messages": messages, **options},
        answer={name: value for name, value in completion.items() if name not in _STORED_ONLY},
        metadata=metadata,
    )


def _with_whole_characters(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object without halves of surrogate pairs, which no database stores."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _message(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it was sent: without the id that OpenAI gave it, and with its parts as the content."""
    kept = {name: value for name, value in stored.items() if name not in ("id", "content_parts") and value is not None}
    parts = stored.get("content_parts")
    return {**kept, "content": parts or stored.get("content")}
