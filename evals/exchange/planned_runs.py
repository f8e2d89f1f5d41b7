"""The runs that an imported configuration describes: a prompt, a model and its sampling, over the eval's rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from evals.api_tables import EvalRow
from evals.eval_runs.evals import Caller
from evals.eval_runs.requests import RunCreate
from evals.eval_runs.runs import create_run
from evals.served_models import find_models
from models.database import Database
from models.errors import Invalid, NotFound
from models.settings.settings import Settings

PLANNED = "planned_runs"  # in an eval's content: requests for runs


def start_runs(
    settings: Settings, database: Database, eval_id: str, models: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Creates the planned runs of an eval, and returns the API's objects.

    Args:
        models: these instead of the models in the configuration.

    Raises:
        NotFound: there is no such eval, or a model is not registered. Invalid: the eval plans no runs.
    """
    with database.read() as session:
        row = session.scalar(select(EvalRow).where(EvalRow.id == eval_id))
        if row is None:
            raise NotFound(f"There is no eval {eval_id[:80]!r}: `parley import` prints the ids.", param="eval")
        plans = list(row.content.get(PLANNED) or ())
    if not plans:
        raise Invalid(f"{eval_id} has no prompts: only imported promptfoo configurations have them.", param="eval")
    requests = []
    for plan in plans:
        for model in models or [plan["data_source"]["model"]]:
            request = plan | {"data_source": plan["data_source"] | {"model": model}}
            if models:
                request |= {"name": f"{model}, {plan['metadata']['prompt']}"}
            if request not in requests:
                requests.append(request)
    # Before the first run is created: either all of them start, or none.
    find_models(settings, database, *{request["data_source"]["model"] for request in requests})
    checked = [RunCreate.model_validate(request) for request in requests]
    return [create_run(settings, database, eval_id, request, Caller()) for request in checked]
