"""Prompts that are training data of a model or of its replacement: votes on recorded answers to them never count.

A recording of training prompts has a mark among its parameters. Live models' votes are not touched.
"""

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from evals.campaign_tables import RecordedAnswerRow, RecordingRow
from evals.tables import PairRow, PromptRow

TRAINING_PARAMETER = "training_prompts"  # in a recording's parameters; it is not sent to the model
_RECORDED_MODEL = "%@recorded%"


def no_training_record(session: Session) -> ColumnElement[bool]:
    """A condition on `PairRow` and `PromptRow`: the pair has no recorded answer to a training prompt."""
    recordings = _training_recordings(session)
    if not recordings:
        return true()
    taught = select(RecordedAnswerRow.prompt_id).where(RecordedAnswerRow.recording_id.in_(recordings))
    is_recorded = or_(PairRow.model_1.like(_RECORDED_MODEL), PairRow.model_2.like(_RECORDED_MODEL))
    return ~(is_recorded & PromptRow.id.in_(taught))


def _training_recordings(session: Session) -> list[str]:
    # There are few rows, and databases differ in their JSON functions.
    rows = session.execute(select(RecordingRow.id, RecordingRow.parameters))
    return [recording_id for recording_id, parameters in rows if parameters.get(TRAINING_PARAMETER)]
