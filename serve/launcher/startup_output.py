"""What `parley up` says: a line for each thing that happens, and at the end where to click. It decides nothing."""

import time
from collections.abc import Mapping

from models.settings import Settings
from models.terminal import console
from serve.fleet.engine_states import EngineStatus


class StartupOutput:
    """Lines for a person at a terminal, or for a log."""

    def __init__(self) -> None:
        self._console = console()
        self._began = time.monotonic()

    def line(self, text: str) -> None:
        """One line, with the seconds since the start."""
        from rich.markup import escape

        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {escape(text)}")

    def key(self, secret: str) -> None:
        """The owner's key, this once."""
        self._console.print(f"\n  The owner's key, shown only now: [bold]{secret}[/bold]\n")

    def ready(self, settings: Settings, *, page: bool, models: Mapping[str, EngineStatus]) -> None:
        """Where to click, and how to call it."""
        answering = [name for name, one in models.items() if one.state == "ready"]
        asleep = [name for name, one in models.items() if one.state == "stopped"]
        failed = {name: one.message for name, one in models.items() if one.state not in ("ready", "stopped")}
        say = self._console.print
        say()
        if page:
            say(f"  [bold]Chat, compare, judge[/bold]   {settings.page_url}")
            say(f"  [bold]Vote blind[/bold]             {settings.page_url}/vote")
            say(f"  [bold]One bot to show[/bold]        {settings.page_url}/bot/<model>")
        say(f"  [bold]OpenAI SDK base_url[/bold]    {settings.gateway_url}")
        if answering:
            say(f"  [bold]Models[/bold]                 {', '.join(answering)}")
            body = f'{{"model": "{answering[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            say(
                f"\n  curl {settings.gateway_url}/chat/completions -H 'content-type: application/json' \\", markup=False
            )
            say(f"    -d '{body}'", markup=False)
        else:
            say("  [bold]Models[/bold]                 none yet: `parley models add` or `parley train`")
        if asleep:
            say(f"  [bold]Asleep[/bold]                 {', '.join(asleep)}: asked for, they start")
        if settings.openai_api_key is not None:
            say("\n  Serve your OpenAI fine-tunes from here too: `parley models import openai`", markup=False)
        for name, reason in failed.items():
            say(f"  {name} does not run: {reason}", style="red", markup=False)
        say("\n  Ctrl-C stops all of it.\n")
