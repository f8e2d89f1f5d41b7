"""Kills the page and voting processes while people vote, and checks that each acknowledged vote is stored exactly once.

    python -m bench.votes_kill [--kills 200] [--seed 0] [--folder FOLDER] [--json]

Half of the kills are on SQLite, half on PostgreSQL; every second one hits the page of a real `parley up`, the others a
process that votes through the Python API. At least 10 votes are acknowledged before each kill. Votes without an answer
are cast again afterwards, as a browser does. With `--folder`, a run that was stopped continues: each kill is a line of
`kills.jsonl`. Exit status 1 if a vote was lost or doubled, or the page took over 10 s.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.votes_kill.deployment import Deployment, Kill
from tests.serve.postgres import Postgres

_PAGE_GOAL_S = 10.0
_DATABASES = ("sqlite", "postgresql")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.votes_kill", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--folder", type=Path, help="continue the run in this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-votes-kill-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        results = run(folder, options.kills, options.seed)
    figures = summary(results)
    print(json.dumps(figures) if options.json else "\n".join(f"{name:16} {value}" for name, value in figures.items()))
    return int(bool(figures["lost"] or figures["doubled"] or (figures["page_back_s"] or 0) > _PAGE_GOAL_S))


def run(folder: Path, kills: int, seed: int) -> list[Kill]:
    """All kills, those of an earlier run in this folder included."""
    log = folder / "kills.jsonl"
    done = [Kill(**json.loads(line)) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    for place, database in enumerate(_DATABASES):
        wanted = (kills + 1 - place) // 2
        count = sum(kill.database == database for kill in done)
        if count >= wanted:
            continue
        with ExitStack() as stack:
            url = stack.enter_context(Postgres()).new_database() if database == "postgresql" else None
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-votes-home-")))
            deployment = stack.enter_context(Deployment(home / "home", url))
            for number in range(count, wanted):
                chance = random.Random(f"{seed}/{database}/{number}")
                kill = deployment.kill("page" if number % 2 == 0 else "voter", chance)
                done.append(kill)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(kill)) + "\n")
    return done


def summary(kills: Sequence[Kill]) -> dict[str, Any]:
    """The totals; `page_back_s` is the slowest return of the page, `page_back_median_s` the usual one."""
    backs = [kill.page_back_s for kill in kills if kill.page_back_s is not None]
    return {
        "kills": len(kills),
        "acknowledged": sum(kill.acknowledged for kill in kills),
        "lost": sum(kill.lost for kill in kills),
        "doubled": sum(kill.doubled for kill in kills),
        "page_back_s": max(backs, default=None),
        "page_back_median_s": statistics.median(backs) if backs else None,
        "sqlite": sum(kill.database == "sqlite" for kill in kills),
        "page": len(backs),
        "fewest_acknowledged": min((kill.acknowledged_before for kill in kills), default=None),
    }


if __name__ == "__main__":
    sys.exit(main())
