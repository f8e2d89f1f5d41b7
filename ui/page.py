"""The page's one ASGI app: three Gradio apps side by side, and who may reach which.

It knows the layout of addresses and nothing of what the apps show. Each app has a Gradio server of its own (config,
queue, sessions), so nothing of one is reachable through another; `ui.access.router` decides which addresses exist at all.
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
from ui.access.router import Apps, Doors, is_loopback
from ui.backend.context import Room

if TYPE_CHECKING:
    import gradio as gr

# Gradio's default of 40 caps how many answers can stream at once; a waiting stream costs no CPU.
_THREADS = 400


def build(settings: Settings) -> ASGIApp:
    """The page as an ASGI app: `/` for owners, `/vote/` for raters, `/bot/<model>/` for one bot alone.

    Raises:
        ParleyError: the database is missing or old, or $PARLEY_HOME cannot be written.
    """
    from ui.access.cookies import Cookies, Keyring, page_secret
    from ui.backend.uploads import UploadDesk
    from ui.bot.app import bot_blocks
    from ui.look.branding import Dressed
    from ui.look.theme import script
    from ui.owners.app import owner_blocks
    from ui.owners.data.tab import DataDesk
    from ui.raters.app import vote_blocks

    database = open_database(settings)
    database.check_current()
    room = Room(settings, database)
    owners, owners_life = _gradio(owner_blocks(room), "/")
    vote, vote_life = _gradio(vote_blocks(room), "/vote")
    bot, bot_life = _gradio(bot_blocks(room), "/bot")
    scripts = script("data.js") + script("upload.js") + script("train.js")
    apps = Apps(
        owners=Dressed(owners, "Parley", "Your own chat models: chat, compare, train, judge.", scripts),
        vote=Dressed(vote, "Parley: which answer is better?", "Two answers, nobody’s name. Say which one is better."),
        bot=Dressed(bot, "Parley", "A support bot to talk to."),
        data=DataDesk(room),
        files=UploadDesk(room),
    )

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for one in (owners_life, vote_life, bot_life):
                await stack.enter_async_context(one(app))
            yield
        await room.close()
        database.dispose()

    doors = Doors(
        apps=apps,
        cookies=Cookies(page_secret(settings.home)),
        keyring=Keyring(database),
        registry=room.registry,
    )
    app = Starlette(lifespan=life)
    app.mount("/", doors)
    return app


def serve(settings: Settings) -> None:
    """Build the page and run it until it is told to stop. Blocks."""
    # serve/ is the room that runs uvicorn; the page is a process of its own, so it needs a runner of its own.
    import uvicorn

    app = build(settings)
    _refuse_open_door(settings)
    uvicorn.run(
        app,
        host=settings.page_host,
        port=settings.page_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Event streams stay open as long as a browser does; they must not hold up the stop.
        timeout_graceful_shutdown=2,
    )


def _refuse_open_door(settings: Settings) -> None:
    if is_loopback(settings.page_host):
        return
    database = open_database(settings)
    try:
        if not keys_configured(database):
            raise Invalid(
                f"The page may listen on {settings.page_host} only behind a key: "
                "`parley keys create me --role owner` first, or listen on 127.0.0.1.",
                param="page_host",
            )
    finally:
        database.dispose()


def _gradio(blocks: "gr.Blocks", path: str) -> tuple[ASGIApp, Callable[[Any], Any]]:
    """A Gradio server for `blocks`, and the lifespan that starts its queue."""
    import gradio as gr

    from ui.look.theme import parley_theme, style

    # Both are read when the server starts; mounting has no argument for them.
    blocks.max_threads = _THREADS
    blocks.queue(default_concurrency_limit=None, max_size=2000, api_open=False)
    blocks._queue.max_thread_count = _THREADS
    holder = Starlette()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gradio warns about a favicon for paths other than "/"; ours is at /brand
        gr.mount_gradio_app(
            holder,  # type: ignore[arg-type]  # it asks for FastAPI, and uses what Starlette has
            blocks,
            path=path,
            footer_links=[],
            run_history=False,
            # What went wrong inside is for the log: an error's text could name a model to a rater.
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            max_file_size="1mb",
            theme=parley_theme(),
            css=style(),
        )
    return holder.routes[-1].app, holder.router.lifespan_context  # type: ignore[attr-defined] -- Starlette types a route by its base class
