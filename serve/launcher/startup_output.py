"""What `parley up` prints: a line for each event, and a summary with addresses once it is ready."""

import time
from collections.abc import Mapping
from typing import Any

from models.settings.settings import Settings
from models.terminal import console
from serve.fleet.engine_states import EngineStatus, best_states


class StartupOutput:
    """Prints lines for a terminal or a log."""

    def __init__(self) -> None:
        self._console = console()
        self._began = time.monotonic()

    def _print(self, text: str, **style: Any) -> None:
        self._console.print(text, soft_wrap=True, **style)

    def line(self, text: str) -> None:
        """Prints a line with the seconds since the start."""
        from rich.markup import escape

        self._print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {escape(text)}")

    def key(self, secret: str) -> None:
        """Prints the owner's key, once."""
        self._print(f"\n  The owner's key, shown only now: [bold]{secret}[/bold]\n")

    def ready(self, settings: Settings, *, page: bool, models: Mapping[str, EngineStatus]) -> None:
        """Prints the addresses and how to call the API."""
        states = best_states(models)  # clients use the models' names, not those of replicas
        answering = [name for name, state in states.items() if state == "ready"]
        asleep = [name for name, state in states.items() if state == "stopped"]
        failed = {name: status.message for name, status in models.items() if status.state not in ("ready", "stopped")}
        print_line = self._print
        print_line("")
        if page:
            print_line(f"  [bold]Chat, compare, judge[/bold]   {settings.page_url}")
            print_line(f"  [bold]Vote blind[/bold]             {settings.page_url}/vote")
            print_line(f"  [bold]One bot to show[/bold]        {settings.page_url}/bot/<model>")
        print_line(f"  [bold]OpenAI SDK base_url[/bold]    {settings.gateway_url}")
        if answering:
            print_line(f"  [bold]Models[/bold]                 {', '.join(answering)}")
            body = f'{{"model": "{answering[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            print_line(
                f"\n  curl {settings.gateway_url}/chat/completions -H 'content-type: application/json' \\", markup=False
            )
            print_line(f"    -d '{body}'", markup=False)
        else:
            print_line("  [bold]Models[/bold]                 none yet: `parley models add` or `parley train`")
        if asleep:
            print_line(f"  [bold]Asleep[/bold]                 {', '.join(asleep)}: they start with the next request")
        if settings.openai_api_key is not None:
            print_line(
                "\n  Serve your OpenAI fine-tunes through Parley too: `parley models import openai`", markup=False
            )
        for name, reason in failed.items():
            print_line(f"  {name} is not running: {reason}", style="red", markup=False)
        print_line("\n  Press Ctrl-C to stop.\n")
