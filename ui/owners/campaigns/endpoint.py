"""Plain addresses of campaigns beside the tab: `GET /campaigns/export` and the report that viewers read."""

import asyncio
import tempfile
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import ParleyError
from ui.backend.context import PageContext
from ui.look.static_page import static_page
from ui.owners.campaigns.actions import CampaignActions
from ui.owners.campaigns.html import report_html, state_badge

_WIDE = """<style>
main{max-width:860px}.verdict b{font-weight:640}.verdict p{margin:4px 0}figure{margin:8px 0}.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:15px}th,td{text-align:left;padding:7px 10px;
border-bottom:1px solid var(--line)}summary{cursor:pointer;color:var(--soft);margin:8px 0}
.interval svg{width:100%;max-width:620px}.allowed{fill:rgba(44,138,126,.14)}.scale,.even{stroke:var(--line);
stroke-width:3}.span{stroke:var(--pine);stroke-width:7}.rate{fill:var(--pine)}text{font-size:22px;fill:var(--soft)}
figcaption,.faint,.notice{color:var(--soft);font-size:14px}.badge{font-size:13px;color:var(--pine)}
</style>"""


class CampaignExport:
    """`GET …/export?campaign=NAME`: the campaign's bundle as a zip. A manager's campaign is in the scope."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        managed = scope.get("parley_managed")
        name = managed or request.query_params.get("campaign", "")
        try:
            response: Response = Response(
                await asyncio.to_thread(self._bundle, name),
                media_type="application/zip",
                headers={"content-disposition": f'attachment; filename="{name}.zip"', "cache-control": "no-store"},
            )
        except ParleyError as error:
            response = static_page("Export", f"<h1>Export</h1><p>{escape(error.message)}</p>", error.status)
        await response(scope, receive, send)

    def _bundle(self, name: str) -> bytes:
        from evals.campaigns.bundle import write_bundle  # loads scipy.stats: a second of the page's start

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "campaign.zip"
            write_bundle(self._context.database, name, path)
            return path.read_bytes()


class CampaignReportPage:
    """The report of the campaign in the scope, as a page without scripts, for viewers and managers."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["parley_campaign"]
        actions = CampaignActions(self._context.database, self._context.settings, name)
        try:
            report, _ = await asyncio.to_thread(actions.report, name, True)
        except ParleyError as error:
            page = static_page("Report", f"<h1>Report</h1><p>{escape(error.message)}</p>", error.status)
            await page(scope, receive, send)
            return
        campaign = report.campaign
        body = (
            f"{_WIDE}<h1>{escape(campaign.title)} {state_badge(campaign)}</h1><p>{escape(campaign.question)}</p>"
            # A viewer reads results, not who voted how: people have numbers here.
            f"{report_html(report, {})}"
        )
        await static_page(campaign.title, body, language=campaign.language)(scope, receive, send)
