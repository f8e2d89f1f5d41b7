"""The page's ASGI app: Gradio apps side by side behind one router.

Each app is a Gradio server of its own (config, queue, sessions), so nothing of one can be reached through another.
`ui.access.router` decides which addresses exist.
"""

import contextlib
import warnings
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from models.database import open_database
from models.errors import Invalid
from models.keys import keys_configured
from models.settings import Settings
from ui.access.origins import is_loopback
from ui.access.roles import CampaignRoles
from ui.access.router import Apps, Identity, Router
from ui.backend.context import PageContext

if TYPE_CHECKING:
    import gradio as gr

# Gradio's default of 40 limits how many answers can stream at once; a waiting stream costs no CPU.
_THREADS = 400


def build(settings: Settings) -> ASGIApp:
    """The page as an ASGI app: `/` for owners, `/vote/` for raters, `/bot/<model>/` for one bot alone,
    `/campaigns/c/<name>/` for one campaign's managers and viewers.

    Raises:
        ParleyError: the database is missing or old, or $PARLEY_HOME cannot be written.
    """
    from models.page_secret import page_secret
    from ui.access.cookies import Cookies, Keyring
    from ui.access.openid import OpenIdSignIn
    from ui.backend.uploads import UPLOAD_PATH, UploadEndpoint
    from ui.bot.app import build_bot_app
    from ui.look.branded_app import BrandedApp
    from ui.look.theme import script
    from ui.owners.app import build_owner_app
    from ui.owners.campaigns.endpoint import CampaignExport, CampaignReportPage
    from ui.owners.campaigns.manager_app import build_manager_app
    from ui.owners.campaigns.tab import EXPORT_PATH
    from ui.owners.data.endpoint import CHECK_PATH, DataCheckEndpoint
    from ui.raters.app import build_rater_app
    from ui.raters.endpoints import RaterEndpoints
    from ui.raters.links import RaterLinks

    database = open_database(settings)
    database.check_current()
    context = PageContext(settings, database)
    owners, owners_lifespan = _gradio(build_owner_app(context), "/")
    vote, vote_lifespan = _gradio(build_rater_app(settings.home), "/vote")
    bot, bot_lifespan = _gradio(build_bot_app(context), "/bot")
    manager, manager_lifespan = _gradio(build_manager_app(context), "/campaigns")
    secret = page_secret(settings.home)
    cookies, roles, export = Cookies(secret), CampaignRoles(secret, database), CampaignExport(context)
    scripts = script("data.js") + script("upload.js") + script("train.js")
    apps = Apps(
        owners=BrandedApp(owners, "Parley", "Chat with your models, compare, train and judge them.", scripts),
        vote=BrandedApp(
            vote,
            "Parley: which answer is better?",
            "Compare two anonymous answers and choose one.",
            script("swipe.js") + script("vote.js"),
        ),
        vote_api=RaterEndpoints(context, secret),
        vote_links=RaterLinks(context, cookies, roles, secret),
        manager=BrandedApp(manager, "Parley: campaign", "Manage one campaign."),
        report=CampaignReportPage(context),
        export=export,
        openid=OpenIdSignIn(settings, database, roles, secret),
        bot=BrandedApp(bot, "Parley", "Chat with this bot."),
        owner_endpoints={
            CHECK_PATH: DataCheckEndpoint(context),
            UPLOAD_PATH: UploadEndpoint(context),
            EXPORT_PATH: export,
        },
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for start in (owners_lifespan, vote_lifespan, bot_lifespan, manager_lifespan):
                await stack.enter_async_context(start(app))
            yield
        await context.close()
        database.dispose()

    router = Router(
        apps=apps,
        identity=Identity(cookies, Keyring(database), roles, openid=settings.oidc_issuer is not None),
        registry=context.registry,
    )
    app = Starlette(lifespan=lifespan)
    app.mount("/", router)
    return app


def serve(settings: Settings) -> None:
    """Runs the page until the process is stopped."""
    # The page is a process of its own, so it cannot share the gateway's server.
    import uvicorn

    app = build(settings)
    _require_key_beyond_loopback(settings)
    uvicorn.run(
        app,
        host=settings.page_host,
        port=settings.page_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Event streams stay open as long as a browser does; they must not delay the stop.
        timeout_graceful_shutdown=2,
    )


def _require_key_beyond_loopback(settings: Settings) -> None:
    if is_loopback(settings.page_host):
        return
    database = open_database(settings)
    try:
        if not keys_configured(database):
            raise Invalid(
                f"Listening on {settings.page_host} needs an owner key: "
                "run `parley keys create me --role owner` first, or listen on 127.0.0.1.",
                param="page_host",
            )
    finally:
        database.dispose()


def _gradio(blocks: "gr.Blocks", path: str) -> tuple[ASGIApp, Callable[[Any], Any]]:
    """A Gradio server for `blocks` and the lifespan that starts its queue."""
    import gradio as gr

    from ui.access.queue_guard import QueueGuard
    from ui.look.theme import parley_theme, style

    # Gradio reads both when the server starts; mount_gradio_app has no argument for them.
    blocks.max_threads = _THREADS
    blocks.queue(default_concurrency_limit=None, max_size=2000, api_open=False)
    blocks._queue.max_thread_count = _THREADS
    parent = Starlette()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a favicon for paths other than "/"; ours is at /brand
        gr.mount_gradio_app(
            parent,  # type: ignore[arg-type]  # it asks for FastAPI but uses only what Starlette has
            blocks,
            path=path,
            footer_links=[],
            run_history=False,
            # Errors go to the log: an error's text could reveal a model to a rater.
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            max_file_size="1mb",
            theme=parley_theme(),
            css=style(),
        )
    return QueueGuard(parent.routes[-1].app, blocks), parent.router.lifespan_context  # type: ignore[attr-defined] -- Starlette types a route by its base class
