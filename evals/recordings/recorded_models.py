"""`MODEL@recorded`: a model's recorded answers under the name of a model, for evaluations, judges and votes.

`MODEL@recorded` takes its answer to a prompt from the newest finished recording that has it, `MODEL@recorded:ID` from
that one. Nothing is sent to the model. Recordings of training prompts are used only under their id.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import RecordedAnswerRow, RecordingRow
from evals.recordings.recording_store import Recording, list_recordings
from evals.tables import PromptRow
from evals.votes.prompts import prompt_digest
from evals.votes.training_prompts import TRAINING_PARAMETER
from models.chat.completer import read_tokens
from models.chat.messages import Completion, Message, last_question
from models.database import Database
from models.errors import Invalid, NotFound
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream, is_recorded_name

SUFFIX = "@recorded"
_QUOTED = 60  # characters of a prompt in an error


@dataclass(frozen=True)
class RecordedName:
    """A recorded model: the id of the model, and that of a recording if the name has one."""

    model: str
    recording_id: str | None = None

    def __str__(self) -> str:
        return f"{self.model}{SUFFIX}" + (f":{self.recording_id}" if self.recording_id else "")


def parse_recorded_name(name: str) -> RecordedName | None:
    """The recorded model that a name refers to; None for any other name."""
    if not is_recorded_name(name):
        return None
    model, _, recording_id = name.rpartition(SUFFIX)
    return RecordedName(model, recording_id.removeprefix(":") or None)


class RecordedCompleter:
    """Answers from recordings alone. Implements the `Completer` protocol.

    Of K samples, the prompt and the option `seed` (0 by default) choose one: the seeds 0 to K − 1 give each sample
    once. Other options have no effect: the recording has its own parameters.
    """

    def __init__(self, database: Database, name: RecordedName) -> None:
        self._database, self._name = database, name

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion:
        """The recorded answer.

        Raises:
            NotFound: the prompt is not recorded.
        """
        return await asyncio.to_thread(self._answer, messages, int(options.get("seed") or 0))

    async def close(self) -> None:
        """Does nothing: a recording has no connection."""

    def _answer(self, messages: Sequence[Message], seed: int) -> Completion:
        try:
            digest = prompt_digest(messages)
        except UnicodeEncodeError:  # a lone surrogate, which is in no stored prompt
            digest = ""
        with self._database.read() as session:
            samples = _samples(session, self._name, digest)
        if not samples:
            question = last_question(messages)[:_QUOTED]
            raise NotFound(
                f"{self._name} has no recorded answer to {question!r}: record it while the model still answers.",
                code="not_recorded",
                param="model",
            )
        sample = samples[(int(digest[:8], 16) + seed) % len(samples)]
        return Completion(
            text=sample.text or "",
            prompt_tokens=sample.prompt_tokens,
            completion_tokens=sample.completion_tokens,
            seconds=sample.seconds or 0.0,
            finish_reason=sample.finish_reason,
            tokens=read_tokens(sample.logprobs),
        )


def _samples(session: Session, name: RecordedName, digest: str) -> list[RecordedAnswerRow]:
    """The answers to a prompt in the newest finished recording that has any, by sample."""
    query = (
        select(RecordedAnswerRow, RecordingRow.parameters)
        .join(RecordingRow, RecordingRow.id == RecordedAnswerRow.recording_id)
        .join(PromptRow, PromptRow.id == RecordedAnswerRow.prompt_id)
        .where(PromptRow.digest == digest, RecordingRow.model == name.model, RecordingRow.finished.is_not(None))
        .where(RecordedAnswerRow.text.is_not(None))
        .order_by(RecordingRow.id.desc(), RecordedAnswerRow.sample)
    )
    if name.recording_id:
        query = query.where(RecordingRow.id == name.recording_id)
    rows = [
        row for row, parameters in session.execute(query) if name.recording_id or not parameters.get(TRAINING_PARAMETER)
    ]
    return [row for row in rows if row.recording_id == rows[0].recording_id]


def usable_recordings(database: Database, name: RecordedName) -> list[Recording]:
    """The recordings that a name refers to, newest first."""
    return [
        recording
        for recording in list_recordings(database, name.model)
        if recording.finished and (recording.id == name.recording_id if name.recording_id else not recording.training)
    ]


def resolve_recorded(database: Database, registry: Registry, name: RecordedName) -> ModelSpec:
    """A recorded model as a spec whose id is its name. The model may be retired or an alias; its upstream is not used.

    Raises:
        NotFound: there is no finished recording. Invalid: several recordings' ids have this ending.
    """
    model = registry.aliases().get(name.model, name.model)
    recorded = RecordedName(model, name.recording_id)
    if name.recording_id:
        ids = [
            recording.id
            for recording in list_recordings(database, model)
            if recording.finished and recording.id.endswith(name.recording_id.upper())
        ]
        if len(ids) > 1:
            raise Invalid(f"{len(ids)} recordings of {model} end in {name.recording_id!r}: use more characters.")
        recorded = RecordedName(model, ids[0] if ids else name.recording_id)
    if not usable_recordings(database, recorded):
        raise NotFound(
            f"There is no finished recording for {name}. `parley recordings list` shows them; "
            f"`parley record {model} --prompts held-out` makes one.",
            code="not_recorded",
            param="model",
        )
    known = {spec.id: spec for spec in registry.list(include_candidates=True, include_retired=True)}
    spec = known.get(model)
    if spec is None:  # the recording came from another machine
        return ModelSpec(
            id=str(recorded), kind="hosted", upstream=Upstream(base_url="https://recorded.invalid", model=model)
        )
    return spec.model_copy(update={"id": str(recorded), "fallbacks": ()})


def recorded_prompt_ids(database: Database, names: Iterable[RecordedName]) -> list[str]:
    """The prompts that all these recorded models can answer, held-out ones first, then in the order of their ids."""
    prompt_ids: list[set[str]] = []
    with database.read() as session:
        for name in names:
            ids = [recording.id for recording in usable_recordings(database, name)]
            query = select(RecordedAnswerRow.prompt_id).where(
                RecordedAnswerRow.recording_id.in_(ids), RecordedAnswerRow.text.is_not(None)
            )
            prompt_ids.append(set(session.scalars(query)))
        common = set.intersection(*prompt_ids) if prompt_ids else set()
        rows = session.execute(select(PromptRow.id, PromptRow.held_out).where(PromptRow.id.in_(common)))
        return [prompt_id for prompt_id, held_out in sorted(rows, key=lambda row: (not row[1], row[0]))]


def recorded_on(database: Database, names: Iterable[str]) -> list[str]:
    """For the reader of a result: when and how the answers of the recorded models among these names were recorded."""
    notes = []
    for text in names:
        name = parse_recorded_name(text)
        for recording in usable_recordings(database, name) if name else ():
            options = ", ".join(f"{key} {value}" for key, value in recording.parameters.items())
            note = f"{text}: recorded on {recording.finished:%Y-%m-%d} ({recording.coverage}; {options})."
            notes.append(note + (" Its prompts are training data." if recording.training else ""))
    return notes


def recording_notes(database: Database, specs: Iterable[ModelSpec]) -> list[str]:
    """Like `recorded_on`, for a run that asks models: its own options have no effect on recorded answers."""
    notes = recorded_on(database, [spec.id for spec in specs])
    return [f"{note} This run's own options do not apply to recorded answers." for note in notes]
