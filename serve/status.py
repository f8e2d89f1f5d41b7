"""`parley status`: the processes and models of this home as two tables. It reads; it changes nothing."""

from typing import Any

from models.database import Database
from models.registry import Registry
from models.settings import Settings
from models.shutdowns import show_shutdowns
from serve import states
from serve.processes import tail
from serve.running import read_state

_STYLES = {"ready": "green", "starting": "yellow", "failed": "red", "stopped": "dim"}


def show(settings: Settings, database: Database, console: Any) -> None:
    """Prints the tables, and the last log lines of each engine that failed."""
    from rich.markup import escape
    from rich.table import Table

    running = read_state(settings)
    if running is None:
        console.print(f"Parley does not run from {settings.home}. Start it with `parley up`.", markup=False)
    else:
        processes = Table("process", "pid", "state", title=f"Parley, {running['gateway']}", title_justify="left")
        processes.add_row("parent", str(running["pid"]), "[green]ready[/]" if running["ready"] else "starting")
        for name, one in running["processes"].items():
            processes.add_row(name, str(one["pid"] or ""), "[green]ready[/]" if one["ready"] else "starting")
        console.print(processes)
    specs = Registry(database).list(include_candidates=True)
    known = states.states_of(specs, states.served(database) if running else {})
    models = Table("model", "kind", "base", "state", "", title="Models", title_justify="left")
    for spec in specs:
        state = known[spec.id]
        style = _STYLES[state.state]
        models.add_row(spec.id, spec.kind, spec.base or "", f"[{style}]{state.state}[/]", escape(state.message))
    console.print(models if specs else "No model is registered: `parley models add`, or `parley demo`.")
    show_shutdowns(specs, console)
    for spec in specs:
        log = settings.logs_dir / f"engine-{spec.id.replace('/', '--')}.log"
        if known[spec.id].state == "failed" and log.exists():
            console.print(f"\nThe last lines of {log}:", style="red", markup=False)
            console.print("\n".join(tail(log).splitlines()[-8:]), markup=False, style="dim")
