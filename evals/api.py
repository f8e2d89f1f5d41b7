"""This room's routes: owners create, open, close and read campaigns over HTTP, and run evals (`evals.eval_runs`).

Those of campaigns call the same functions as `parley campaign`. Light to import.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evals.api_operations import OPERATIONS, CampaignCreate
from models.database import Database
from models.files.stored_files import Files
from models.http.bodies import read_body
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, run_in_thread
from models.settings.settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from evals.campaigns.campaign import Campaign

_CAMPAIGNS = "/v1/parley/campaigns"


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `evals`."""
    from starlette.routing import Route

    from evals.campaigns.lifecycle import close_campaign, load_campaign, open_campaign
    from evals.eval_runs.endpoints import eval_routes

    api = _CampaignRoutes(settings, database)
    campaign = f"{_CAMPAIGNS}/{{campaign}}"
    campaign_routes = [
        Route(_CAMPAIGNS, api.all, methods=["GET"]),
        Route(_CAMPAIGNS, api.create, methods=["POST"]),
        Route(campaign, api.handler_of(load_campaign), methods=["GET"]),
        Route(f"{campaign}/open", api.handler_of(open_campaign), methods=["POST"]),
        Route(f"{campaign}/close", api.handler_of(close_campaign), methods=["POST"]),
        Route(f"{campaign}/report", api.report, methods=["GET"]),
    ]
    return attach_operations(campaign_routes, OPERATIONS) + eval_routes(settings, database)


class _CampaignRoutes:
    """`/v1/parley/campaigns`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def all(self, request: "Request") -> "Response":
        from evals.campaigns.lifecycle import list_campaigns

        campaigns = await run_in_thread(list_campaigns, self._database)
        return json_response(list_page([_entry(campaign) for campaign in campaigns], has_more=False))

    async def create(self, request: "Request") -> "Response":
        body = await read_body(request, CampaignCreate)
        key = getattr(request.state, "key", None)
        return json_response(_entry(await run_in_thread(self._create, body, key.id if key else None)))

    def handler_of(self, function: "Callable[[Database, str], Campaign]") -> Callable[["Request"], Any]:
        """A handler that calls a function with the campaign's name and responds with the campaign."""

        async def handler(request: "Request") -> "Response":
            campaign = await run_in_thread(function, self._database, request.path_params["campaign"])
            return json_response(_entry(campaign))

        return handler

    async def report(self, request: "Request") -> "Response":
        from evals.campaigns.report import campaign_report

        verdicts = await run_in_thread(campaign_report, self._database, request.path_params["campaign"])
        return json_response(verdicts.to_json())

    def _create(self, body: CampaignCreate, created_by: str | None) -> "Campaign":
        from evals.campaigns.campaign import NewCampaign, PromptSource
        from evals.campaigns.lifecycle import create_campaign

        source = body.prompts
        path = Files(self._settings, self._database).get(source.file).path if source.file else None
        prompts = PromptSource(path, source.task, source.stored)
        values = {name: value for name, value in body if name != "prompts"}
        new = NewCampaign(**values, prompts=prompts, created_by=created_by)
        return create_campaign(self._database, new, self._settings.runs_dir)


def _entry(campaign: "Campaign") -> dict[str, Any]:
    return {"id": campaign.name} | campaign.to_json()
