"""The load that one gateway puts on its database with many models and keys, for the fleet in docs/scaling.md.

    python -m bench.database_load [--models 1000] [--postgresql] [--json]

Medians in milliseconds. `poll_ms`: one poll of the registry's revision, four of which are made each second.
`snapshot_ms`: reading everything again after a change. `usage_ms`: writing one second's usage of all keys.
`snapshot_cpu_ms` and `usage_cpu_ms`: the gateway's CPU time in these.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from models.database import Database, open_database, upgrade, utcnow
from models.keys import active_keys, create_key
from models.registry.registry import Registry
from models.settings.settings import load_settings
from models.spec import ModelSpec, Upstream
from models.usage import Slot, Sums, add_usage
from serve.gateway.snapshot import read_snapshot
from tests.serve.postgres import Postgres

_ROUNDS = 9


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.database_load", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000, help="number of models, and of keys")
    parser.add_argument("--postgresql", action="store_true", help="use PostgreSQL instead of SQLite")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-many-")))
        url = stack.enter_context(Postgres()).new_database() if options.postgresql else None
        settings = load_settings(home=home, database_url=url)
        upgrade(settings)
        database = open_database(settings)
        fill(database, options.models)
        registry, slots = Registry(database), used_slots(database)
        poll_ms, _ = measure(lambda: registry.revision())
        snapshot_ms, snapshot_cpu_ms = measure(lambda: read_snapshot(settings, database))
        usage_ms, usage_cpu_ms = measure(lambda: add_usage(database, slots))
        database.dispose()
    measured = {
        "models": options.models,
        "poll_ms": poll_ms,
        "snapshot_ms": snapshot_ms,
        "snapshot_cpu_ms": snapshot_cpu_ms,
        "usage_ms": usage_ms,
        "usage_cpu_ms": usage_cpu_ms,
    }
    if options.json:
        print(json.dumps(measured))
    else:
        for name, value in measured.items():
            print(f"{name:<16} {value:g}")
    return 0


def fill(database: Database, models: int) -> None:
    """Registers hosted models, and one key for each of them."""
    registry = Registry(database)
    for number in range(models):
        name = f"model-{number:05}"
        upstream = Upstream(base_url=f"http://10.0.0.{number % 64}:8000/v1", model=name, credential="ENGINES_KEY")
        registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream))
        create_key(database, name=f"key-{number:05}", role="client", models=[name])


def used_slots(database: Database) -> dict[Slot, Sums]:
    """The usage of one second in which every key used its model."""
    day = utcnow().date()
    return {
        Slot(day, key.id, key.models[0]): Sums(requests=1, prompt_tokens=500, completion_tokens=250)
        for key in active_keys(database).values()
        if key.models
    }


def measure(call: Callable[[], object]) -> tuple[float, float]:
    """Median milliseconds of a call, and of this process's CPU time in it."""
    times = []
    for _ in range(_ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        call()
        times.append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)))
    wall_ms, cpu_ms = (statistics.median(column) for column in zip(*times, strict=True))
    return round(wall_ms, 2), round(cpu_ms, 2)


if __name__ == "__main__":
    sys.exit(main())
