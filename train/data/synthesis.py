"""More examples from a few good ones: a served model is shown some of them and asked for new ones of the same kind.

The way of Self-Instruct (Wang et al., 2022, arXiv:2212.10560): few-shot prompts drawn by seed; an answer that is no
conversation, or is like a seed or an earlier answer, is counted and thrown away. Every row says in its metadata that
it is synthetic, by which model and from which prompt. What was asked is journalled beside the file, so that a run that
was stopped goes on where it was. The model is any `Completer`; nothing of training is known here.
"""

import asyncio
import hashlib
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.database import utcnow
from models.errors import Conflict, Invalid, ParleyError
from models.messages import Completer, Message
from train.data.checks import Data, check
from train.data.conversations import Conversation, Example, Problem
from train.data.duplicates import ALIKE, likeness
from train.data.readers import Columns, from_rows
from train.data.reports import CheckedData
from train.data.turn_checks import check_turns

Ended = Literal["enough", "nothing new", "failing"]
_CANDIDATES = 3  # earlier texts with the most words in common that a new one is held against
# One of these goes into each prompt, drawn by seed: without it a model writes the likeliest example again and again.
_TURNS = (
    "Let the new ones be about other details than the examples.",
    "Let the users be brief, with a slip of the pen or two.",
    "Let the users be polite and explain their case at length.",
    "Let the users be impatient or upset.",
    "Let the users be unsure of the right words for what they want.",
    "Let the new ones be rarer cases that the examples do not show.",
    "Let the users ask for two things at once.",
    "Let the users be new to all this.",
)


@dataclass(frozen=True)
class Counted:
    """How a synthesis stands. `made` counts the new examples of this run and of those before it, in the same file.

    `copies` were word for word a seed or an earlier one, `near_copies` nearly; `unreadable` answers held no example,
    `unfit` examples had an error that training would refuse; `failed` requests had no answer, `last_error` says why.
    """

    asked: int
    made: int
    copies: int = 0
    near_copies: int = 0
    unreadable: int = 0
    unfit: int = 0
    failed: int = 0
    last_error: str | None = None


@dataclass(frozen=True)
class Synthesis:
    """What came of it: the file, the counts, and why it ended.

    "enough": as many as were wanted. "nothing new": many requests in a row gave only copies or nothing that could be
    used. "failing": as many had no answer at all.
    """

    path: Path
    model: str
    wanted: int
    counted: Counted
    ended: Ended

    @property
    def summary(self) -> str:
        """In one sentence."""
        made = f"{self.counted.made:,} of {self.wanted:,} examples"
        if self.ended == "enough":
            return f"{made} made."
        if self.ended == "nothing new":
            return f"Stopped at {made}: the model gives nothing new. Add seeds of other kinds, or ask another model."
        return f"Stopped at {made}: the model does not answer ({self.counted.last_error}). Start it again to go on."

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"path": str(self.path), "summary": self.summary}


async def synthesise(
    seeds: Data | CheckedData,
    completer: Completer,
    *,
    model: str,
    number: int,
    out: Path,
    columns: Columns | None = None,
    seed: int = 0,
    shots: int = 4,
    each: int = 2,
    concurrency: int = 8,
    patience: int = 20,
    instructions: str = "",
    temperature: float = 1.0,
    max_tokens: int = 2048,
    progress: Callable[[Counted], None] = lambda counted: None,
) -> Synthesis:
    """Writes new examples into a chat JSONL file until there are `number`, or no new ones come.

    Args:
        seeds: the examples to begin from, as `check` takes them.
        completer: asks the model. model: its name, for the metadata.
        number: how many the file shall hold in the end.
        out: the file; its journal lies beside it as `<out>.journal`. What they hold already is gone on with.
        columns: names the columns of a CSV.
        seed: draws the prompts: request n shows the same examples each time.
        shots: seeds in a prompt. each: new examples that a prompt asks for.
        concurrency: requests at once.
        patience: requests in a row without anything new after which it ends.
        instructions: what else the model should heed.
        temperature, max_tokens: of each request.
        progress: told after each request.

    Raises:
        Invalid: no usable seed, or a number that makes no sense. Conflict: the file was made from other seeds or by
        another model. A request that fails is counted, and raises nothing.
    """
    checked = seeds if isinstance(seeds, CheckedData) else check(seeds, columns)
    examples = checked.examples
    if not examples:
        raise Invalid("There is no seed without errors: `parley data check` says what to mend.", param="data")
    for name, value in (("number", number), ("shots", shots), ("each", each), ("concurrency", concurrency)):
        if value < 1:
            raise Invalid(f"{name} is {value}: use 1 or more.", param=name)
    work = _Work(examples, completer, model, out, number, patience, progress, seed, shots, each, instructions)
    work.take_up()
    options = {"temperature": temperature, "max_tokens": max_tokens}
    await asyncio.gather(*(work.ask_on(options) for _ in range(min(concurrency, number))))
    return Synthesis(out, model, number, work.counted(), work.ended or "enough")


def prompt_for(
    examples: Sequence[Example], request: int, *, seed: int, shots: int, each: int, instructions: str = ""
) -> tuple[list[Message], tuple[int, ...]]:
    """The messages of request number `request`, and the lines of the seeds that it shows. The same each time."""
    chance = random.Random(f"{seed}:{request}")  # noqa: S311 -- a draw, not a secret
    shown = chance.sample(list(examples), min(shots, len(examples)))
    turn = _TURNS[request % len(_TURNS)] if request else _TURNS[0]
    lines = "\n".join(json.dumps({"messages": e.conversation.as_dicts()}, ensure_ascii=False) for e in shown)
    told = (
        "You write training examples for a chat assistant. Each is one JSON object on a line of its own, in just the "
        "form of those you are shown. The assistant's answers keep the manner, the length and the format of those "
        "shown. A system message is copied word for word. Invent no facts that the examples do not support. "
        "Write the JSON lines and nothing else."
    )
    ask = f"Examples:\n{lines}\n\nWrite {each} new, different {'example' if each == 1 else 'examples'}. {turn}"
    if instructions:
        ask += f" {instructions}"
    return [Message(role="system", content=told), Message(role="user", content=ask)], tuple(e.line for e in shown)


def read_examples(text: str) -> Iterator[Example | Problem]:
    """The conversations in a model's answer: JSON lines, a JSON list, or either of them in a code fence."""
    decoder = json.JSONDecoder()
    place, rows = 0, []
    while (place := _next_json(text, place)) >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except RecursionError:  # a model that got stuck in brackets
            break
        except ValueError:
            place += 1
            continue
        rows += value if isinstance(value, list) else [value]
        place = end
    for item in from_rows([row for row in rows if isinstance(row, dict) and isinstance(row.get("messages"), list)]):
        if isinstance(item, Example | Problem):
            yield item


def _next_json(text: str, start: int) -> int:
    found = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(found, default=-1)


class _Work:
    """One synthesis: what is known, what is asked next, and the two files. Used by one event loop."""

    def __init__(
        self,
        examples: Sequence[Example],
        completer: Completer,
        model: str,
        out: Path,
        number: int,
        patience: int,
        progress: Callable[[Counted], None],
        seed: int,
        shots: int,
        each: int,
        instructions: str,
    ) -> None:
        self._examples, self._completer, self._model, self._out = examples, completer, model, out
        self._number, self._patience, self._progress = number, patience, progress
        self._prompting = {"seed": seed, "shots": shots, "each": each, "instructions": instructions}
        self._journal = out.with_name(out.name + ".journal")
        self._heard = _Heard(_text(example.conversation) for example in examples)
        systems = {_system(example.conversation) for example in examples}
        # What all seeds begin with, the new ones do too, whatever the writer made of it.
        self._system = systems.pop() if len(systems) == 1 else None
        self._tally: dict[str, int] = defaultdict(int)
        self._done: set[int] = set()
        self._next = 0
        self._fruitless = self._unanswered = 0
        self._last_error: str | None = None
        self.ended: Ended | None = None

    def counted(self) -> Counted:
        """How it stands."""
        return Counted(**{"asked": 0, "made": 0} | self._tally, last_error=self._last_error)

    def take_up(self) -> None:
        """Reads what an earlier run left, mends a line that was cut off, and sees that it is the same work."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        head = self._head()
        rows, notes = _whole_lines(self._out), _whole_lines(self._journal)
        if rows and not notes:
            raise Conflict(f"{self._out} is there and has no journal beside it: choose another file.", param="out")
        if notes and notes[0] != head:
            differs = ", ".join(name for name in head if notes[0].get(name) != head[name]) or "head"
            raise Conflict(
                f"{self._out} was begun with another {differs}: choose another file, or remove it and its journal.",
                param="out",
            )
        if not notes:
            _append(self._journal, [head])
        for note in notes[1:]:
            self._done.add(note["request"])
            for name in ("copies", "near_copies", "unreadable", "unfit", "failed"):
                self._tally[name] += note.get(name, 0)
        for row in rows:
            # A row whose request is not in the journal: the run was killed between the two. It counts as asked.
            self._done.add(row["metadata"]["request"])
            self._heard.add(_text(next(e for e in from_rows([row]) if isinstance(e, Example)).conversation))
        # Requests that failed are asked again.
        self._done -= {note["request"] for note in notes[1:] if note.get("failed")}
        self._tally["failed"] = 0
        self._tally["made"], self._tally["asked"] = len(rows), len(self._done)
        if len(rows) >= self._number:
            self.ended = "enough"

    def _head(self) -> dict[str, Any]:
        seeds = json.dumps([example.conversation.as_dicts() for example in self._examples], ensure_ascii=False)
        return {"model": self._model, "seeds": hashlib.sha256(seeds.encode()).hexdigest(), **self._prompting}

    async def ask_on(self, options: dict[str, Any]) -> None:
        """Asks one request after another until it has ended."""
        while self.ended is None:
            request = self._take()
            messages, shown = prompt_for(self._examples, request, **self._prompting)
            try:
                completion = await self._completer(messages, **options)
            except ParleyError as error:
                self._failed(request, str(error))
                # Between two failures: a model that is starting, or a limit, is not hammered.
                await asyncio.sleep(min(5.0, 0.1 * self._unanswered))
            else:
                self._answered(request, completion.text, messages, shown)
            self._progress(self.counted())

    def _take(self) -> int:
        while self._next in self._done:
            self._next += 1
        self._next += 1
        return self._next - 1

    def _failed(self, request: int, error: str) -> None:
        self._tally["asked"] += 1
        self._tally["failed"] += 1
        self._last_error = error
        self._unanswered += 1
        _append(self._journal, [{"request": request, "failed": 1, "error": error}])
        if self._unanswered >= self._patience:
            self.ended = self.ended or "failing"

    def _answered(self, request: int, text: str, messages: Sequence[Message], shown: tuple[int, ...]) -> None:
        self._unanswered = 0
        note: dict[str, int] = defaultdict(int)
        prompt = hashlib.sha256("\x00".join(message.content for message in messages).encode()).hexdigest()
        made = []
        found = list(read_examples(text))
        note["unreadable"] = 0 if found else 1
        for item in found:
            if isinstance(item, Problem) or any(problem.severity == "error" for problem in check_turns(item)):
                note["unfit"] += 1
                continue
            twin = self._heard.twin(_text(item.conversation))
            if twin:
                note[twin] += 1
                continue
            if self._tally["made"] + len(made) >= self._number:
                break
            self._heard.add(_text(item.conversation))
            made.append(self._row(item, request, prompt, shown))
        # Rows first: a run that is killed between the two knows the request by its rows.
        _append(self._out, made)
        _append(self._journal, [{"request": request, "made": len(made)} | note])
        for name, value in note.items():
            self._tally[name] += value
        self._tally["asked"] += 1
        self._tally["made"] += len(made)
        self._fruitless = 0 if made else self._fruitless + 1
        if self._tally["made"] >= self._number:
            self.ended = "enough"
        elif self._fruitless >= self._patience:
            self.ended = self.ended or "nothing new"

    def _row(self, example: Example, request: int, prompt: str, shown: tuple[int, ...]) -> dict[str, Any]:
        tools = example.conversation.tool_dicts()
        messages = example.conversation.as_dicts()
        if self._system is not None:
            messages = [message for message in messages if message["role"] != "system"]
            messages = [*([{"role": "system", "content": self._system}] if self._system else []), *messages]
        return {"messages": messages} | ({"tools": tools} if tools else {}) | {
            "metadata": {
                "synthetic": True,
                "model": self._model,
                "prompt_sha256": prompt,
                "seed_lines": list(shown),
                "request": request,
                "made": utcnow().isoformat(timespec="seconds"),
            }
        }  # fmt: skip


class _Heard:
    """All texts so far. A new one is held, by `duplicates.likeness`, against those with the most words in common."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts: list[str] = []
        self._with: dict[str, list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """From now on, known."""
        for word in set(text.casefold().split()):
            self._with[word].append(len(self._texts))
        self._texts.append(text)

    def twin(self, text: str) -> Literal["copies", "near_copies"] | None:
        """Whether it is a copy of a known text, or nearly."""
        shared: dict[int, int] = defaultdict(int)
        for word in set(text.casefold().split()):
            for place in self._with.get(word, ()):
                shared[place] += 1
        nearest = sorted(shared, key=lambda place: -shared[place])[:_CANDIDATES]
        for place in nearest:
            for twin in likeness([self._texts[place], text], ALIKE).twins:
                return "copies" if twin.exact else "near_copies"
        return None


def _system(conversation: Conversation) -> str:
    return next((message.content for message in conversation.messages if message.role == "system"), "")


def _text(conversation: Conversation) -> str:
    """What is compared: what was said, without the system prompt, which all have in common."""
    return "\n".join(message.content for message in conversation.messages if message.role != "system")


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Adds lines, on the disk when it returns."""
    if not rows:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """A file's rows. A last line that was cut off by a kill is taken out of the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines() if line.strip()]
    except ValueError as error:
        raise Conflict(f"{path} is no file of this synthesis: choose another file.", param="out") from error
