"""More examples from a few good ones: a served model is shown some and asked for new ones of the same kind.

The method is Self-Instruct (Wang et al., 2022, arXiv:2212.10560): few-shot prompts drawn by seed. An answer that is no
conversation, or is like a seed or an earlier answer, is counted and discarded. The metadata of each row says that it is
synthetic, and names the model and the prompt. A journal beside the file lets an interrupted run continue. The model is
any `Completer`.
"""

import asyncio
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.chat.messages import Completer, Message
from models.database import utcnow
from models.errors import Conflict, Invalid, ParleyError
from models.likeness import ALIKE, Fingerprint, fingerprint, overlap
from train.data.checks import Data, check
from train.data.conversations import Conversation, Example, Problem
from train.data.example_checks import check_turns
from train.data.readers import Columns, from_rows
from train.data.reports import CheckedData
from train.data.synthesis_prompts import SynthesisOptions, prompt_for, read_examples

__all__ = ["Counted", "Synthesis", "SynthesisOptions", "synthesise"]

Ended = Literal["enough", "nothing new", "failing"]
_CANDIDATES = 3  # a new text is compared with this many earlier ones: those with the most words in common
_DISCARDED = ("copies", "near_copies", "unreadable", "unfit")


@dataclass(frozen=True)
class Counted:
    """The counts of a synthesis. `made` is the number of examples in the file, those of earlier runs included.

    `copies` repeated a seed or an earlier example word for word, `near_copies` almost; `unreadable` answers had no
    example; `unfit` examples had an error that training would refuse; `failed` requests had no answer (`last_error`).
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
    """The result: the file, the counts, and why the run ended.

    "enough": the file has as many examples as wanted. "nothing new": many requests in a row gave nothing usable.
    "failing": many requests in a row had no answer.
    """

    path: Path
    model: str
    wanted: int
    counted: Counted
    ended: Ended

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        made = f"{self.counted.made:,} of {self.wanted:,} examples"
        if self.ended == "enough":
            return f"{made} made."
        if self.ended == "nothing new":
            return f"Stopped at {made}: the model writes nothing new. Add other kinds of seeds or use another model."
        return f"Stopped at {made}: the model does not answer ({self.counted.last_error}). Run it again to continue."

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"path": str(self.path), "summary": self.summary}


async def synthesise(
    seeds: Data | CheckedData,
    completer: Completer,
    out: Path,
    options: SynthesisOptions,
    *,
    columns: Columns | None = None,
    progress: Callable[[Counted], None] = lambda counted: None,
) -> Synthesis:
    """Appends new examples to a chat JSONL file until it has `options.number`, or no new ones come.

    Args:
        seeds: the examples to start from, as `check` takes them.
        completer: asks the model.
        out: the file; its journal is `<out>.journal`. An existing pair is continued.
        columns: names the columns of a CSV.
        progress: called with the counts after each request.

    Raises:
        Invalid: no usable seed. Conflict: the file was made from other seeds or by another model. A failed request is
        counted and raises nothing.
    """
    checked = seeds if isinstance(seeds, CheckedData) else check(seeds, columns)
    examples = tuple(example for example in checked.examples if example.label is not False)  # no bad answers (KTO)
    if not examples:
        raise Invalid("There is no seed without errors. Run `parley data check` to see how to fix them.", param="data")
    run = _Run(examples, completer, out, options, progress)
    run.resume()
    await asyncio.gather(*(run.ask_until_ended() for _ in range(min(options.concurrency, options.number))))
    return Synthesis(out, options.model, options.number, run.counted(), run.ended or "enough")


class _Run:
    """One synthesis: what is known, what is asked next, and the two files. Used by one event loop."""

    def __init__(
        self,
        examples: Sequence[Example],
        completer: Completer,
        out: Path,
        options: SynthesisOptions,
        progress: Callable[[Counted], None],
    ) -> None:
        self._examples, self._completer, self._options = examples, completer, options
        self._out, self._progress = out, progress
        self._journal = out.with_name(out.name + ".journal")
        self._known = _KnownTexts(_text(example.conversation) for example in examples)
        systems = {_system(example.conversation) for example in examples}
        # If all seeds share a system prompt, the new examples get it too, even if the model leaves it out.
        self._system = systems.pop() if len(systems) == 1 else None
        self._tally: dict[str, int] = defaultdict(int)
        self._done: set[int] = set()
        self._next = 0
        self._without_new = self._unanswered = 0
        self._last_error: str | None = None
        self.ended: Ended | None = None

    def counted(self) -> Counted:
        """The counts so far."""
        return Counted(**{"asked": 0, "made": 0} | self._tally, last_error=self._last_error)

    def resume(self) -> None:
        """Reads what an earlier run left, and checks that it had the same model, seeds and prompts."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        head = self._head()
        rows, notes = _read_whole_lines(self._out), _read_whole_lines(self._journal)
        if rows and not notes:
            raise Conflict(f"{self._out} exists and has no journal: choose another file.", param="out")
        if notes and notes[0] != head:
            differs = ", ".join(name for name in head if notes[0].get(name) != head[name]) or "head"
            raise Conflict(
                f"{self._out} was started with another {differs}: choose another file, or remove it and its journal.",
                param="out",
            )
        if not notes:
            _append(self._journal, [head])
        for note in notes[1:]:
            self._done.add(note["request"])
            for name in _DISCARDED:
                self._tally[name] += note.get(name, 0)
        for row in rows:
            # A row whose request is not in the journal: the run was killed between the two writes. It counts as done.
            self._done.add(row["metadata"]["request"])
            self._known.add(_text(next(e for e in from_rows([row]) if isinstance(e, Example)).conversation))
        self._done -= {note["request"] for note in notes[1:] if note.get("failed")}  # failed requests are repeated
        self._tally["made"], self._tally["asked"] = len(rows), len(self._done)
        if len(rows) >= self._options.number:
            self.ended = "enough"

    def _head(self) -> dict[str, Any]:
        seeds = json.dumps([example.conversation.as_dicts() for example in self._examples], ensure_ascii=False)
        prompts = {name: getattr(self._options, name) for name in ("seed", "shots", "each", "instructions")}
        return {"model": self._options.model, "seeds": hashlib.sha256(seeds.encode()).hexdigest(), **prompts}

    async def ask_until_ended(self) -> None:
        """Makes one request after another until the run has ended."""
        options = {"temperature": self._options.temperature, "max_tokens": self._options.max_tokens}
        while self.ended is None:
            request = self._take()
            messages, shown = prompt_for(self._examples, request, self._options)
            try:
                completion = await self._completer(messages, **options)
            except ParleyError as error:
                self._record_failure(request, str(error))
                # A pause after a failure: the model may be starting, or a rate limit may apply.
                await asyncio.sleep(min(5.0, 0.1 * self._unanswered))
            else:
                self._record_answer(request, completion.text, messages, shown)
            self._progress(self.counted())

    def _take(self) -> int:
        while self._next in self._done:
            self._next += 1
        self._next += 1
        return self._next - 1

    def _record_failure(self, request: int, error: str) -> None:
        self._tally["asked"] += 1
        self._tally["failed"] += 1
        self._last_error = error
        self._unanswered += 1
        _append(self._journal, [{"request": request, "failed": 1, "error": error}])
        if self._unanswered >= self._options.patience:
            self.ended = self.ended or "failing"

    def _record_answer(self, request: int, text: str, messages: Sequence[Message], shown: tuple[int, ...]) -> None:
        self._unanswered = 0
        prompt = hashlib.sha256("\x00".join(message.content for message in messages).encode()).hexdigest()
        examples, discarded = self._new_examples(list(read_examples(text)))
        # Rows first: a run that is killed between the two writes knows the request by its rows.
        _append(self._out, [self._row(example, request, prompt, shown) for example in examples])
        _append(self._journal, [{"request": request, "made": len(examples)} | discarded])
        for name, value in discarded.items():
            self._tally[name] += value
        self._tally["asked"] += 1
        self._tally["made"] += len(examples)
        self._without_new = 0 if examples else self._without_new + 1
        if self._tally["made"] >= self._options.number:
            self.ended = "enough"
        elif self._without_new >= self._options.patience:
            self.ended = self.ended or "nothing new"

    def _new_examples(self, items: Sequence[Example | Problem]) -> tuple[list[Example], dict[str, int]]:
        """The new examples of an answer, and how many items were discarded for which reason."""
        discarded: dict[str, int] = defaultdict(int, unreadable=0 if items else 1)
        examples: list[Example] = []
        for item in items:
            if isinstance(item, Problem) or any(problem.severity == "error" for problem in check_turns(item)):
                discarded["unfit"] += 1
                continue
            text = _text(item.conversation)
            if duplicate := self._known.duplicate(text):
                discarded[duplicate] += 1
                continue
            if self._tally["made"] + len(examples) >= self._options.number:
                break
            self._known.add(text)
            examples.append(item)
        return examples, discarded

    def _row(self, example: Example, request: int, prompt: str, shown: tuple[int, ...]) -> dict[str, Any]:
        tools = example.conversation.tool_dicts()
        messages = example.conversation.as_dicts()
        if self._system is not None:
            messages = [message for message in messages if message["role"] != "system"]
            messages = [*([{"role": "system", "content": self._system}] if self._system else []), *messages]
        return {"messages": messages} | ({"tools": tools} if tools else {}) | {
            "metadata": {
                "synthetic": True,
                "model": self._options.model,
                "prompt_sha256": prompt,
                "seed_lines": list(shown),
                "request": request,
                "made": utcnow().isoformat(timespec="seconds"),
            }
        }  # fmt: skip


class _KnownTexts:
    """All texts so far. A new one is compared with those that have the most words in common."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts: list[Fingerprint] = []
        self._with_word: dict[str, list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Adds a text."""
        for word in set(text.casefold().split()):
            self._with_word[word].append(len(self._texts))
        self._texts.append(fingerprint(text))

    def duplicate(self, text: str) -> Literal["copies", "near_copies"] | None:
        """Whether a text is a copy or a near copy of a known one."""
        shared: dict[int, int] = defaultdict(int)
        for word in set(text.casefold().split()):
            for place in self._with_word.get(word, ()):
                shared[place] += 1
        candidates = sorted(shared, key=lambda place: -shared[place])[:_CANDIDATES]
        new = fingerprint(text)
        for place in candidates:
            if (share := overlap(self._texts[place], new)) >= ALIKE:
                return "copies" if share == 1.0 else "near_copies"
        return None


def _system(conversation: Conversation) -> str:
    return next((message.content for message in conversation.messages if message.role == "system"), "")


def _text(conversation: Conversation) -> str:
    """The text that is compared: all messages but the system prompt, which most examples share."""
    return "\n".join(message.content for message in conversation.messages if message.role != "system")


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Appends lines; they are on disk when this returns."""
    if not rows:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def _read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file. An incomplete last line, left by a kill, is removed from the file."""
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
        raise Conflict(f"{path} is not a file of this synthesis: choose another file.", param="out") from error
