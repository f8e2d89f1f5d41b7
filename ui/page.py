"""The page's ASGI app: Gradio apps side by side behind one router.

Each app is a Gradio server of its own (config, queue, sessions), so nothing of one can be reached through another.
`ui.access.router` decides which addresses exist.
"""

import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from models.audit import set_actor
from models.database import open_database
from models.errors import Invalid
from models.evaluation_events import open_evaluation_events
from models.http.proxies import TrustedProxies
from models.keys import keys_configured
from models.settings.page_settings import without_upstream_keys
from models.settings.settings import Settings
from ui.access.forwarded import ForwardedHeaders
from ui.access.origins import is_loopback
from ui.access.roles import CampaignRoles
from ui.access.router import Apps, Identity, Router
from ui.backend.context import PageContext
from ui.gradio_server import create_gradio_server, import_gradio, skip_intermediate_servers


def build(settings: Settings) -> ASGIApp:
    """The page as an ASGI app: `/` for owners, `/vote/` for raters, `/bot/<model>/` for one bot alone,
    `/campaigns/c/<name>/` for one campaign's managers and viewers.

    Raises:
        ParleyError: the database is missing or old, or $PARLEY_HOME cannot be written.
    """
    import_gradio()
    from models.home.page_secret import page_secret
    from ui.access.actor import page_actor
    from ui.access.cookies import Cookies, Keyring
    from ui.access.openid import OpenIdSignIn
    from ui.backend.logos import BotLogo
    from ui.backend.uploads import UPLOAD_PATH, UploadEndpoint
    from ui.bot.app import build_bot_app
    from ui.look.branded_app import BrandedApp
    from ui.look.theme import script
    from ui.owners.app import build_owner_app
    from ui.owners.campaigns.endpoint import CampaignExport, CampaignReportPage
    from ui.owners.campaigns.manager_app import build_manager_app
    from ui.owners.campaigns.tab import EXPORT_PATH
    from ui.owners.data.endpoint import CHECK_PATH, DataCheckEndpoint
    from ui.owners.data.stored_endpoint import STORED_PATHS, StoredAnswersEndpoint
    from ui.raters.app import build_rater_app
    from ui.raters.endpoints import RaterEndpoints
    from ui.raters.links import RaterLinks

    database = open_database(settings)
    database.check_current()
    context = PageContext(settings, database)
    with skip_intermediate_servers():
        owner_app, bot_app = build_owner_app(context), build_bot_app(context)
        owners, owners_lifespan = create_gradio_server(owner_app.blocks, "/")
        vote, vote_lifespan = create_gradio_server(build_rater_app(settings.home), "/vote")
        bot, bot_lifespan = create_gradio_server(bot_app.blocks, "/bot")
        manager, manager_lifespan = create_gradio_server(build_manager_app(context), "/campaigns")
    secret = page_secret(settings.home)
    cookies, roles, export = Cookies(secret), CampaignRoles(secret, database), CampaignExport(context)
    keyring = Keyring(database)
    set_actor(page_actor(cookies, keyring))
    scripts = "".join(map(script, ("chat.js", "data.js", "stored.js", "upload.js", "train.js")))
    apps = Apps(
        owners=BrandedApp(
            owners, "Parley", "Chat with your models, compare, train and judge them.", scripts, owner_app.make_prefill
        ),
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
        bot=BrandedApp(bot, "Parley", "Chat with this bot.", make_prefill=bot_app.make_prefill),
        bot_logo=BotLogo(context),
        owner_endpoints={
            CHECK_PATH: DataCheckEndpoint(context),
            UPLOAD_PATH: UploadEndpoint(context),
            EXPORT_PATH: export,
            **dict.fromkeys(STORED_PATHS, StoredAnswersEndpoint(context)),
        },
    )
    identity = Identity(cookies, keyring, roles, openid=settings.oidc_issuer is not None)
    router = Router(apps=apps, identity=identity, registry=context.registry)
    app = Starlette(lifespan=_lifespan(context, owners_lifespan, vote_lifespan, bot_lifespan, manager_lifespan))
    app.mount("/", ForwardedHeaders(router, TrustedProxies(settings.trusted_proxies)))
    return app


def _lifespan(context: PageContext, *servers: Any) -> Any:
    """The lifespan of the page: those of its Gradio servers, then its own end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for start in servers:
                await stack.enter_async_context(start(app))
            yield
        await context.close()
        context.database.dispose()

    return lifespan


def serve(settings: Settings) -> None:
    """Runs the page until the process is stopped."""
    # The page is a process of its own, so it cannot share the gateway's server.
    import uvicorn

    settings = without_upstream_keys(settings)
    gc.disable()  # nothing of the start becomes garbage, and looking for some takes a tenth of it
    try:
        app = build(settings)
    finally:
        gc.freeze()
        gc.enable()
    _require_key_beyond_loopback(settings)
    close_events = open_evaluation_events(settings)
    try:
        uvicorn.run(
            app,
            host=settings.page_host,
            port=settings.page_port,
            log_level="warning",
            access_log=False,
            server_header=False,
            ssl_certfile=_path(settings.page_tls_certificate),
            ssl_keyfile=_path(settings.page_tls_key),
            proxy_headers=False,  # ui.access.forwarded reads them
            # Event streams stay open as long as a browser does; they must not delay the stop.
            timeout_graceful_shutdown=2,
        )
    finally:
        close_events()


def _path(file: Path | None) -> str | None:
    return str(file.expanduser()) if file is not None else None


def _require_key_beyond_loopback(settings: Settings) -> None:
    if is_loopback(settings.page_host):
        return
    database = open_database(settings)
    try:
        if not keys_configured(database):
            raise Invalid(
                f"Listening on {settings.page_host} needs an owner's key: "
                "run `parley keys create me --role owner` first, or listen on 127.0.0.1.",
                param="page_host",
            )
    finally:
        database.dispose()
