"""How many of a model's prompts are recorded, for models that their provider shuts down."""

from evals.recordings.recording_store import list_recordings
from models.database import Database
from models.registry.registry import Registry


def shutdown_coverage(database: Database) -> dict[str, str]:
    """For each model with a shutdown date, as text: "120 of 200 prompts recorded, 3 samples"; or "not recorded".

    Of several recordings the one with the most complete prompts counts; recordings of training prompts do not.
    """
    specs = Registry(database).list(include_candidates=True, include_retired=True)
    off = [spec.id for spec in specs if spec.shutdown_date is not None]
    if not off:
        return {}
    best = {}
    for recording in list_recordings(database):
        known = best.get(recording.model)
        if not recording.training and (known is None or recording.complete > known.complete):
            best[recording.model] = recording
    return {model: best[model].coverage if model in best else "not recorded" for model in off}
