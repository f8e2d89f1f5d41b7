"""Fetches an account into a folder: first the lists, then what belongs to each object, in several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from models.openai_fetch.account import Record, Refusal
from models.openai_fetch.client import Client
from models.openai_fetch.folder import Folder, read_objects
from models.openai_fetch.kinds import LISTS, OVER, TITLES, content_path, list_path, safe_id
from models.openai_fetch.progress import Progress

PARTS = ("runs", "output_items", "events", "checkpoints", "completions", "files")
_AT_ONCE = 64  # objects handed to the threads together


@dataclass(frozen=True)
class Extent:
    """What to fetch: the kinds of `LISTS`, and of their objects the parts of `PARTS`.

    `ended_only` leaves out the parts of jobs that have not succeeded.
    """

    kinds: tuple[str, ...] = tuple(LISTS)
    parts: tuple[str, ...] = PARTS
    ended_only: bool = False


# The lists, and the checkpoints of the fine-tunes: enough for an inventory, without contents.
INVENTORY = Extent(parts=("checkpoints",), ended_only=True)


@dataclass(frozen=True)
class _Part:
    """One file to fetch: a list (`source`, its path at the API) or the content of `item`. `final`: it cannot change."""

    path: str
    kind: str
    item: Record
    source: str
    final: bool = True


class Fetch:
    """One fetch with a client into a folder. `carry_out` may be repeated; what is here already is not fetched again."""

    def __init__(self, client: Client, folder: Folder, progress: Progress, *, threads: int = 4) -> None:
        self._client, self._folder, self._progress, self._threads = client, folder, progress, threads

    def carry_out(self, extent: Extent) -> None:
        """Fetches. Objects that cannot be fetched are recorded with the reason.

        Raises:
            Stop: the key is refused, the network is down or the disk is full.
        """
        parts: dict[str, Callable[[], Iterator[_Part]]] = {
            "evals": self._runs, "jobs": lambda: self._job_parts(extent), "completions": self._messages,
            "files": self._contents,
        }  # fmt: skip
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for kind in (kind for kind in LISTS if kind in extent.kinds):
                    self._fetch_list(kind, pool)
                    if kind in parts:
                        self._fetch_parts(kind, (one for one in parts[kind]() if one.kind in extent.parts), pool)
                    if kind == "evals" and "output_items" in extent.parts:
                        self._fetch_parts("output_items", self._output_items(), pool)
            except BaseException:
                self._client.halt.set()  # or the threads would go on, and wait before repetitions
                raise

    def _fetch_list(self, kind: str, pool: ThreadPoolExecutor) -> None:
        """The list of a kind. Objects of an earlier list that OpenAI has deleted since stay in it."""
        path, seen, refusals = list_path(kind), set(), []

        def objects() -> Iterator[Record]:
            try:
                for item in self._client.items(LISTS[kind]):
                    seen.add(str(item["id"]))
                    self._progress.add()
                    yield {**item, "id": str(item["id"])}
            except Refusal as refusal:
                refusals.append(refusal)
            if kind == "files":
                yield from self._named_files(seen, pool)
            for item in read_objects(self._folder.path / path):
                if item.get("id") not in seen:
                    yield item

        self._progress.begin(f"list of {TITLES[kind]}")
        written = self._folder.write(path, objects())
        self._progress.end()
        if refusals:
            state = refusals[0].state({})
            self._folder.record(path, "lists", kind, state, **written, reason=str(refusals[0]))
            self._progress.note(f"list of {TITLES[kind]}: {refusals[0]}")
        else:
            self._folder.record(path, "lists", kind, "fetched", **written)

    def _fetch_parts(self, kind: str, parts: Iterable[_Part], pool: ThreadPoolExecutor) -> None:
        fresh = (one for one in parts if not self._is_current(one))
        self._progress.begin(f"details of {TITLES[kind]}" if kind != "files" else "contents of files")
        while batch := list(islice(fresh, _AT_ONCE)):
            for _ in pool.map(self._fetch_part, batch):
                self._progress.add()
        self._progress.end()

    def _is_current(self, part: _Part) -> bool:
        return part.final and bool(self._folder.records.get(part.path, {}).get("final")) and self._folder.has(part.path)

    def _fetch_part(self, part: _Part) -> None:
        name = str(part.item["id"])
        try:
            if part.kind == "files":
                size = part.item.get("bytes")
                target = self._folder.path / part.path
                written = self._client.download(part.source, target, size if isinstance(size, int) else None)
            else:
                written = self._folder.write(part.path, self._client.items(part.source))
        except Refusal as refusal:
            self._folder.record(part.path, part.kind, name, refusal.state(part.item), reason=str(refusal))
        else:
            self._folder.record(part.path, part.kind, name, "fetched", **written, final=part.final)

    def _objects(self, kind: str) -> Iterator[Record]:
        return read_objects(self._folder.path / list_path(kind))

    def _job_parts(self, extent: Extent) -> Iterator[_Part]:
        for job in self._objects("jobs"):
            if extent.ended_only and job.get("status") != "succeeded":
                continue
            for part in ("checkpoints", "events"):
                path, source = f"jobs/{safe_id(job['id'])}/{part}.jsonl", f"{LISTS['jobs']}/{_quoted(job)}/{part}"
                yield _Part(path, part, job, source, job.get("status") in OVER)

    def _messages(self) -> Iterator[_Part]:
        for completion in self._objects("completions"):
            source = f"{LISTS['completions']}/{_quoted(completion)}/messages"
            yield _Part(f"completions/{safe_id(completion['id'])}.jsonl", "completions", completion, source)

    def _contents(self) -> Iterator[_Part]:
        for file in self._objects("files"):
            yield _Part(content_path(file), "files", file, f"/files/{_quoted(file)}/content")

    def _runs(self) -> Iterator[_Part]:
        for one in self._objects("evals"):
            yield _Part(f"evals/{safe_id(one['id'])}/runs.jsonl", "runs", one, f"/evals/{_quoted(one)}/runs", False)

    def _output_items(self) -> Iterator[_Part]:
        for one in self._objects("evals"):
            for run in read_objects(self._folder.path / f"evals/{safe_id(one['id'])}/runs.jsonl"):
                path = f"evals/{safe_id(one['id'])}/{safe_id(str(run['id']))}/output_items.jsonl"
                source = f"/evals/{_quoted(one)}/runs/{_quoted(run)}/output_items"
                yield _Part(path, "output_items", run, source, run.get("status") in OVER)

    def _named_files(self, seen: set[str], pool: ThreadPoolExecutor) -> Iterator[Record]:
        """The files that other objects name and the list of files lacks, if OpenAI still has them."""
        here = {
            one["id"] for one in self._folder.records.values() if one["kind"] == "files" and one["state"] == "fetched"
        }
        names = iter(sorted(set(self._file_names()) - seen - here))
        while batch := list(islice(names, _AT_ONCE)):
            for file in pool.map(self._named_file, batch):
                if file is not None:
                    seen.add(file["id"])
                    self._progress.add()
                    yield file

    def _named_file(self, name: str) -> Record | None:
        try:
            return {**self._client.get(f"/files/{_quoted({'id': name})}"), "id": name}
        except Refusal as refusal:
            self._folder.record(f"files/{safe_id(name)}", "files", name, refusal.state({}), reason=str(refusal))
            return None

    def _file_names(self) -> Iterator[str]:
        named: list[Any] = []
        for job in self._objects("jobs"):
            named += [job.get("training_file"), job.get("validation_file"), *(job.get("result_files") or [])]
        for batch in self._objects("batches"):
            named += [batch.get(f"{use}_file_id") for use in ("input", "output", "error")]
        for one in self._objects("evals"):
            for run in read_objects(self._folder.path / f"evals/{safe_id(one['id'])}/runs.jsonl"):
                named.append(((run.get("data_source") or {}).get("source") or {}).get("id"))
        return (name for name in named if isinstance(name, str) and name)


def _quoted(item: Record) -> str:
    return quote(str(item["id"]), safe="", errors="replace")
