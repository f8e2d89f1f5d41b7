"""Campaigns created, opened, closed, listed and loaded; models that join or leave an open-ended one.

Models, prompts, criteria, sizes and margin are fixed once a campaign has opened. Only the open-ended campaign `open`
changes its models later, and only if an owner does so.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPromptRow, CampaignRow, RecordedAnswerRow
from evals.campaigns.campaign import OPEN, Campaign, NewCampaign, as_campaign
from evals.campaigns.campaign_prompts import source_prompt_ids
from evals.recordings.recorded_models import parse_recorded_name, resolve_recorded, usable_recordings
from evals.tables import insert_once
from evals.votes.prompts import set_prompt_ids
from models.audit import record_change
from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.jobs.jobs import enqueue_in
from models.registry.registry import Registry

PREPARE = "prepare-campaign"  # the kind of the job that asks for all answers of a campaign


def create_campaign(database: Database, new: NewCampaign, runs: Path) -> Campaign:
    """Creates a campaign as a draft, with its prompts.

    Args:
        runs: the folder of the training runs, for prompts from a task.

    Raises:
        Conflict: there is a campaign with this name.
        NotFound: a model, recording, task or file does not exist.
        Invalid: a prompt is wrong.
    """
    models = resolved_models(database, new.models)
    with database.read() as session:
        if session.get(CampaignRow, new.name) is not None:
            raise Conflict(f"There is a campaign {new.name!r} already: choose another name.", param="name")
    prompt_ids = source_prompt_ids(database, new.prompts, runs)
    values = {
        name: getattr(new, name) for name in NewCampaign.__dataclass_fields__ if name not in ("prompts", "models")
    }
    row = CampaignRow(**values | {"title": new.title or new.name, "criteria": list(new.criteria), "models": models})
    with database.write() as session:
        if not insert_once(session, row):
            raise Conflict(f"There is a campaign {new.name!r} already: choose another name.", param="name")
        session.add_all(
            CampaignPromptRow(campaign=new.name, prompt_id=prompt_id, place=place)
            for place, prompt_id in enumerate(prompt_ids)
        )
        record_change(session, "campaign.create", new.name, models=models, prompts=len(prompt_ids))
    return load_campaign(database, new.name)


def open_campaign(database: Database, name: str) -> Campaign:
    """Opens a draft, now or at its planned time; the worker then requests all answers. An open campaign stays as it is.

    Raises:
        NotFound: there is no such campaign, or a recording is missing.
        Conflict: it is closed, or its planned end has passed.
        Invalid: it has fewer than two models, or no prompts.
    """
    recordings = _recordings(database, name)
    with database.write() as session:
        row = locked_row(session, name)
        if row.closed is not None or as_campaign(row, 0).state == "closed":
            raise Conflict(f"The campaign {name!r} is closed. Create another one.", code="closed")
        if row.opened is None:
            if row.closes is not None and row.closes <= utcnow():
                raise Conflict(
                    f"The planned end of the campaign {name!r} has passed. Create another one.", code="closed"
                )
            if len(row.models) < 2:
                raise Invalid(f"The campaign {name!r} needs at least two models.", param="models")
            if not row.open_ended and not _count_prompts(session, row):
                raise Invalid(f"The campaign {name!r} has no prompts.", param="prompts")
            row.recordings = {model: recordings[model] for model in row.models if model in recordings}
            row.opened = utcnow()
            record_change(session, "campaign.open", name, models=row.models)
            if not row.open_ended:
                enqueue_in(session, PREPARE, {"campaign": name})
        return as_campaign(row, _count_prompts(session, row))


def close_campaign(database: Database, name: str) -> Campaign:
    """Ends a campaign: no more votes. The planned verdict is computed from the votes so far.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it has not opened yet, or it has no end.
    """
    with database.write() as session:
        row = locked_row(session, name)
        if row.open_ended:
            raise Conflict(
                f"The campaign {name!r} has no end. To stop it, remove its models: "
                f"`parley campaign remove-model {name} MODEL`.",
                code="open_ended",
            )
        if row.opened is None:
            raise Conflict(f"The campaign {name!r} has not opened yet.", code="not_open")
        if row.closed is None:
            row.closed = utcnow()
            record_change(session, "campaign.close", name)
        return as_campaign(row, _count_prompts(session, row))


def list_campaigns(database: Database) -> list[Campaign]:
    """All campaigns, the newest first."""
    counted = select(CampaignPromptRow.campaign, func.count()).group_by(CampaignPromptRow.campaign)
    with database.read() as session:
        prompts: dict[str, int] = dict(session.execute(counted).all())
        rows = list(session.scalars(select(CampaignRow).order_by(CampaignRow.created.desc(), CampaignRow.name)))
        return [
            as_campaign(row, len(set_prompt_ids(session)) if row.open_ended else prompts.get(row.name, 0))
            for row in rows
        ]


def load_campaign(database: Database, name: str) -> Campaign:
    """One campaign.

    Raises:
        NotFound: there is none with this name.
    """
    with database.read() as session:
        return load_in(session, name)


def load_in(session: Session, name: str) -> Campaign:
    """Like `load_campaign`, in the caller's transaction."""
    row = session.get(CampaignRow, name)
    if row is None:
        raise NotFound(f"There is no campaign {name!r}. `parley campaign list` lists them.", param="campaign")
    return as_campaign(row, _count_prompts(session, row))


def add_model(database: Database, name: str, model: str) -> Campaign:
    """A model joins an open-ended campaign or a draft. The campaign `open` opens with its second model.

    Raises:
        NotFound: there is no such campaign or model.
        Conflict: the campaign's models are fixed.
    """
    (reference,) = resolved_models(database, [model])
    with database.write() as session:
        row = _changeable_row(session, name)
        if reference not in row.models:
            row.models = [*row.models, reference]
            record_change(session, "campaign.add-model", name, model=reference)
    _fix_recordings(database, name)
    campaign = load_campaign(database, name)
    if name == OPEN and campaign.state == "draft" and len(campaign.models) >= 2:
        return open_campaign(database, name)
    return campaign


def remove_model(database: Database, name: str, model: str) -> Campaign:
    """A model leaves an open-ended campaign or a draft; its votes stay.

    Raises:
        NotFound: there is no such campaign, or the model is not in it.
        Conflict: the campaign's models are fixed.
    """
    with database.write() as session:
        row = _changeable_row(session, name)
        if model not in row.models:
            raise NotFound(f"{model!r} is not in the campaign {name!r}.", param="model")
        row.models = [each for each in row.models if each != model]
        record_change(session, "campaign.remove-model", name, model=model)
    return load_campaign(database, name)


def resolved_models(database: Database, names: Sequence[str]) -> list[str]:
    """The references to store: an alias becomes its model's id, and a recorded model keeps `@recorded`.

    Raises:
        NotFound: a model is not registered, or nothing is recorded of it.
        Invalid: two names mean one model, or one is a judge.
    """
    registry = Registry(database)
    references: list[str] = []
    for name in names:
        recorded = parse_recorded_name(name)
        spec = resolve_recorded(database, registry, recorded) if recorded else registry.resolve(name)
        if spec.judge:
            raise Invalid(f"{spec.id} is a judge: judges do not answer prompts.", param="models")
        references.append(spec.id)
    if len(set(references)) < len(references):
        raise Invalid("Two of the names refer to the same model.", param="models")
    return references


def locked_row(session: Session, name: str) -> CampaignRow:
    """The campaign's row, locked until the transaction ends, so that its limits hold with many raters.

    Raises:
        NotFound: there is none with this name.
    """
    # Not FOR UPDATE, which would wait for every insert that refers to the campaign.
    row = session.get(CampaignRow, name, with_for_update={"key_share": True})
    if row is None:
        raise NotFound(f"There is no campaign {name!r}. `parley campaign list` lists them.", param="campaign")
    return row


def _changeable_row(session: Session, name: str) -> CampaignRow:
    row = locked_row(session, name)
    if row.closed is not None or (row.opened is not None and not row.open_ended):
        raise Conflict(f"The models of the campaign {name!r} are fixed since it opened.", code="fixed")
    return row


def _count_prompts(session: Session, row: CampaignRow) -> int:
    if row.open_ended:
        return len(set_prompt_ids(session))
    query = select(func.count()).select_from(CampaignPromptRow).where(CampaignPromptRow.campaign == row.name)
    return session.scalar(query) or 0


def _fix_recordings(database: Database, name: str) -> None:
    """Fixes the recordings of an open campaign's models, after one has joined."""
    recordings = _recordings(database, name)
    with database.write() as session:
        row = locked_row(session, name)
        if row.opened is not None:
            row.recordings = recordings | row.recordings


def _recordings(database: Database, name: str) -> dict[str, str]:
    """The recording of each recorded model: the one with most of the campaign's prompts, or the newest of several such.

    Raises:
        NotFound: a recorded model has no finished recording.
    """
    with database.read() as session:
        row = session.get(CampaignRow, name)
        models = [] if row is None else list(row.models)
        prompt_ids = [] if row is None else _prompt_ids(session, row)
    recordings = {}
    for model in models:
        recorded = parse_recorded_name(model)
        if recorded is None:
            continue
        ids = [recording.id for recording in usable_recordings(database, recorded)]
        counted = (
            select(RecordedAnswerRow.recording_id, RecordedAnswerRow.prompt_id)
            .where(RecordedAnswerRow.recording_id.in_(ids), RecordedAnswerRow.text.is_not(None))
            .distinct()
        )
        wanted, has = set(prompt_ids), Counter[str]()
        with database.read() as session:
            for recording_id, prompt_id in session.execute(counted):
                has[recording_id] += prompt_id in wanted
        if not ids:
            raise NotFound(
                f"There is no finished recording for {model}: make one with `parley record`.",
                code="not_recorded",
                param="models",
            )
        recordings[model] = max(ids, key=lambda each: (has[each], each))
    return recordings


def _prompt_ids(session: Session, row: CampaignRow) -> list[str]:
    if row.open_ended:
        return set_prompt_ids(session)
    return list(session.scalars(select(CampaignPromptRow.prompt_id).where(CampaignPromptRow.campaign == row.name)))
