"""The prompts of a recording, from a command's argument: stored prompts, a file, or a task.

New prompts of a file or task are stored outside of the comparison set, so that nothing changes for raters. They count
as held out, unless the file says otherwise or they are training data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evals.tasks.task import Task
from evals.tasks.task_sources import open_task
from evals.votes.prompts import Prompt, prompts, recorded_prompts
from models.chat.messages import as_dicts
from models.database import Database
from models.errors import Invalid, NotFound
from models.quantities import count_noun

ALL, HELD_OUT = "all", "held-out"


@dataclass(frozen=True)
class PromptSet:
    """The prompts to record, held-out ones first, and notes on what was left out."""

    name: str
    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()

    def first(self, limit: int | None) -> "PromptSet":
        """The set with at most `limit` prompts."""
        return replace(self, prompts=self.prompts[:limit])


def open_prompt_set(database: Database, runs: Path, typed: str, *, training: bool = False) -> PromptSet:
    """The prompts that `typed` refers to; each prompt once.

    Args:
        typed: `all` or `held-out` for stored prompts; a category or source of stored prompts; or a task as
            `parley eval run` takes it, such as a file, `run:ID`, or a folder or hub id for `datasets`.
        runs: the folder of the training runs.
        training: the prompts are training data.

    Raises:
        NotFound: there are no such prompts.
        Invalid: the task has only conversations of several turns, or stored prompts are declared to be training data.
    """
    if training:
        return _training_set(database, runs, typed)
    if typed in (ALL, HELD_OUT):
        return _stored_set(typed, prompts(database, held_out=True if typed == HELD_OUT else None))
    if not _is_task(typed):
        stored = prompts(database)
        named = [prompt for prompt in stored if prompt.category == typed]
        named = named or [prompt for prompt in stored if prompt.source == typed]
        if named:
            return _stored_set(typed, named)
        if not Path(typed).exists():
            groups = sorted({name for prompt in stored for name in (prompt.category, prompt.source) if name})
            raise NotFound(
                f"There are no prompts {typed!r}. Use {ALL}, {HELD_OUT}, a file or task"
                + (f", or one of: {', '.join(groups[:12])}." if groups else "."),
                param="prompts",
            )
    return _task_set(database, open_task(typed, database, runs), training=False)


def _training_set(database: Database, runs: Path, typed: str) -> PromptSet:
    if typed in (ALL, HELD_OUT) or typed.startswith("prompts"):
        raise Invalid("Name the training file: --training is not for stored prompts.", param="prompts")
    prompt_set = _task_set(database, open_task(typed, database, runs), training=True)
    overlap = sum(prompt.held_out for prompt in prompt_set.prompts)
    if not overlap:
        return prompt_set
    marked = count_noun(overlap, "prompt is", "prompts are")
    note = f"{marked} marked as held out but used for training: votes on such prompts do not count."
    return replace(prompt_set, notes=(*prompt_set.notes, note))


def _is_task(typed: str) -> bool:
    stored = typed == "prompts" or typed.startswith(("prompts:", "run:"))
    return stored or "/" in typed or Path(typed).suffix.lower() in (".jsonl", ".json", ".csv", ".tsv")


def _stored_set(name: str, stored: Sequence[Prompt]) -> PromptSet:
    if not stored:
        raise NotFound("There are no such prompts yet: add some with `parley prompts add FILE`.", param="prompts")
    rest = sum(not prompt.held_out for prompt in stored)
    verb = "is" if rest == 1 else "are"
    note = (
        f"{rest:,} of {count_noun(len(stored), 'prompt')} {verb} not marked as held out: keep such prompts out of "
        "training data."
    )
    return PromptSet(name, _held_out_first(stored), (note,) if rest else ())


def _task_set(database: Database, task: Task, *, training: bool) -> PromptSet:
    single = [
        sample
        for place, sample in enumerate(task.samples)
        if sample.turn == 1 and not (place + 1 < len(task.samples) and task.samples[place + 1].turn > 1)
    ]
    if not single:
        raise Invalid(
            f"{task.name} has only conversations whose later turns depend on the model's own answers, which cannot be "
            "recorded. Use rows with `messages` instead.",
            param="prompts",
        )
    rows = [
        {
            "messages": as_dicts(sample.messages),
            "category": sample.sample.category,
            "topics": [list(group) for group in sample.sample.topics],
            "held_out": not training and sample.sample.metadata.get("held_out") is not False,
        }
        for sample in single
    ]
    stored = recorded_prompts(database, rows)
    notes = [f"{count_noun(len(task.bad), 'row was', 'rows were')} left out. {task.bad[0]}"] if task.bad else []
    if turns := len(task.samples) - len(single):
        notes.append(
            f"{count_noun(turns, 'later turn of a conversation was', 'later turns of conversations were')} left out: "
            "such turns depend on the model's own answers."
        )
    return PromptSet(task.name, _held_out_first(stored), tuple(notes))


def _held_out_first(stored: Sequence[Prompt]) -> tuple[Prompt, ...]:
    return tuple(sorted(stored, key=lambda prompt: not prompt.held_out))
