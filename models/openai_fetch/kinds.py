"""What an account holds: the kinds of objects, the states of their copies, and where the copies are in the folder."""

from __future__ import annotations

import hashlib
import re

from models.openai_fetch.account import Record

# Kind → path of its list. The most urgent first; files last, because the other lists name files that theirs may lack.
LISTS = {
    "evals": "/evals", "jobs": "/fine_tuning/jobs", "batches": "/batches", "completions": "/chat/completions",
    "models": "/models", "files": "/files",
}  # fmt: skip
# The kinds of records: those of the lists, and what belongs to one object.
TITLES = {
    "models": "models", "jobs": "fine-tuning jobs", "events": "event lists of jobs",
    "checkpoints": "checkpoint lists of jobs", "files": "files", "completions": "stored completions",
    "batches": "batches", "evals": "evals", "runs": "run lists of evals", "output_items": "output item lists of runs",
    "lists": "lists",
}  # fmt: skip
STATES = {
    "fetched": "fetched", "missing": "not at OpenAI any more", "expired": "too old: OpenAI has deleted it",
    "forbidden": "this key may not read it", "failed": "failed",
}  # fmt: skip
OVER = ("succeeded", "failed", "cancelled", "canceled", "completed")  # statuses of jobs and runs that do not change
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 100


def list_path(kind: str) -> str:
    """Where the list of a kind is."""
    return f"{kind}/{kind}.jsonl"


def content_path(file: Record) -> str:
    """Where the content of a file is. `parley import openai-evals` reads the files of evals from `evals/files`."""
    name = safe_id(file["id"])
    if file.get("purpose") == "evals":
        return f"evals/files/{name}.jsonl"
    return f"files/{name}/{_safe_filename(str(file.get('filename') or 'content'))}"


def safe_id(name: str) -> str:
    """An id as the name of a file or folder: itself, or letters of it with a hash if it has other characters."""
    if _SAFE.fullmatch(name) and name not in LISTS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{_UNSAFE.sub('_', name).strip('._-')[:40] or 'id'}-{digest}"


def _safe_filename(name: str) -> str:
    """A client's file name without folders, control characters and leading dots, with its suffix."""
    plain = _UNSAFE.sub("_", re.split(r"[/\\]", name)[-1]).lstrip(".-") or "content"
    return plain[-_LONGEST_NAME:].lstrip(".-").removesuffix(".part") or "content"
