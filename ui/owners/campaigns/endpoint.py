"""Plain addresses of campaigns beside the tab: `GET /campaigns/export` and the report that viewers read."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from evals.campaigns.lifecycle import load_campaign
from evals.votes.vote_export import NOUNS, Contents, VoteExport, export_votes
from models.errors import Invalid, ParleyError
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


_VOTE_FILES: Mapping[str, tuple[Contents, str]] = {
    "csv": ("votes", ".csv"),
    "parquet": ("votes", ".parquet"),
    "datasets": ("votes", ""),
    "trl": ("preferences", ".jsonl"),
    "openai": ("openai", ".openai.jsonl"),
}
_TYPES = {".zip": "application/zip", ".csv": "text/csv", ".jsonl": "application/x-ndjson"}


class CampaignExport:
    """`GET …/export?campaign=NAME`: the campaign's bundle as a zip. A manager's campaign is in the scope.

    With `as=FORM` its votes, or without a campaign everybody's, as `parley votes export` writes them.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        managed = scope.get("parley_managed")
        name = managed or request.query_params.get("campaign", "")
        form = request.query_params.get("as")
        try:
            write = self._bundle if form is None else partial(self._votes, form)
            file, data = await asyncio.to_thread(write, name)
            response: Response = Response(
                data,
                media_type=_TYPES.get(Path(file).suffix, "application/octet-stream"),
                headers={"content-disposition": f'attachment; filename="{file}"', "cache-control": "no-store"},
            )
        except ParleyError as error:
            response = static_page("Export", f"<h1>Export</h1><p>{escape(error.message)}</p>", error.status)
        await response(scope, receive, send)

    def _bundle(self, name: str) -> tuple[str, bytes]:
        from evals.campaigns.bundle import write_bundle  # loads scipy.stats: a second of the page's start

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{load_campaign(self._context.database, name).name}.zip"
            write_bundle(self._context.database, name, path)
            return path.name, path.read_bytes()

    def _votes(self, form: str, name: str) -> tuple[str, bytes]:
        """A file's name and contents.

        Raises:
            Invalid: there is no such form.
            NotFound: there is no such campaign.
        """
        if form not in _VOTE_FILES:
            raise Invalid(f"There is no export as {form!r}.", param="as")
        contents, ending = _VOTE_FILES[form]
        export = VoteExport(contents, campaign=name or None)
        stem = f"{load_campaign(self._context.database, name).name if name else 'all'}-{NOUNS[contents].split()[0]}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{stem}{ending}"
            export_votes(self._context.database, path, export)
            if path.is_dir():  # a browser saves files only
                path = Path(shutil.make_archive(str(path), "zip", folder, path.name))
            return path.name, path.read_bytes()


class CampaignReportPage:
    """The report of the campaign in the scope, as a page without scripts, for viewers and managers."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["parley_campaign"]
        actions = CampaignActions(self._context.database, self._context.settings, name)
        try:
            report, _ = await asyncio.to_thread(actions.report, name, True)
            recorded = await asyncio.to_thread(actions.recorded, name)
        except ParleyError as error:
            page = static_page("Report", f"<h1>Report</h1><p>{escape(error.message)}</p>", error.status)
            await page(scope, receive, send)
            return
        campaign = report.campaign
        body = (
            f"{_WIDE}<h1>{escape(campaign.title)} {state_badge(campaign)}</h1><p>{escape(campaign.question)}</p>"
            # A viewer reads results, not who voted how: people have numbers here.
            f"{report_html(report, {}, recorded)}"
        )
        await static_page(campaign.title, body, language=campaign.language)(scope, receive, send)
