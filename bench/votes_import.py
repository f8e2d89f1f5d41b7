"""Imports many votes while another process votes and reads the leaderboard: seconds, and the longest waits.

    python -m bench.votes_import [--votes 100000] [--postgresql] [--json]

`import_s` is the wall time of the import, `cpu_s` its CPU; `reference_s` is the CPU that this machine takes for 20
million additions in Python, so that results of busy or slow machines can be compared by `ratio` (cpu_s / reference_s).
`vote_worst_s` and `leaderboard_worst_s` are the longest times of the other process meanwhile, `second_import_s` that of
a small import.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from evals.ratings.leaderboard import leaderboard
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.vote_import import import_votes
from models.database import Database, new_ulid, open_database, upgrade
from models.settings.environment import child_environment
from models.settings.settings import load_settings
from tests.serve.postgres import Postgres
from tests.stack import ROOT

_MODELS, _PROMPTS, _VOTERS, _ANSWER = 20, 2000, 300, 300
_COLUMNS = ("id", "model_a", "model_b", "winner", "prompt", "answer_a", "answer_b", "voter", "created")
_OTHER = "from bench.votes_import import vote_meanwhile; vote_meanwhile()"


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.votes_import", description=__doc__.splitlines()[0])
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-import-")))
        url = stack.enter_context(Postgres()).new_database() if options.postgresql else None
        settings = load_settings(home=home, database_url=url)
        upgrade(settings)
        path = write_votes(home / "votes.csv", options.votes)
        other = subprocess.Popen(
            [sys.executable, "-c", _OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=child_environment(settings),
        )  # fmt: skip
        assert other.stdout is not None
        other.stdout.readline()  # it votes
        began, cpu = time.monotonic(), time.process_time()
        result = import_votes(open_database(settings), path)
        figures = {"votes": result.new, "import_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
        output, _ = other.communicate("")
    figures["reference_s"] = _reference()
    figures["ratio"] = figures["cpu_s"] / figures["reference_s"]
    figures |= json.loads(output)
    print(json.dumps(figures) if options.json else "\n".join(f"{name:20} {value}" for name, value in figures.items()))
    return 0


def write_votes(path: Path, count: int) -> Path:
    """A CSV of votes with answers, from a fixed seed."""
    chance = random.Random(1)
    names = [f"model-{i}" for i in range(_MODELS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for number in range(count):
            first, second = chance.sample(names, 2)
            question = chance.randrange(_PROMPTS)
            answers = (f"{name} answers question {question}. ".ljust(_ANSWER, ".") for name in (first, second))
            winner = chance.choice(("model_a", "model_b", "tie"))
            voter = f"voter-{chance.randrange(_VOTERS)}"
            row = (f"v{number}", first, second, winner, f"Question {question}?", *answers, voter, "2026-05-01T10:00:00")
            writer.writerow(row)
    return path


def vote_meanwhile() -> None:
    """Votes, imports a little and reads the leaderboard until standard input ends; prints the longest times as JSON."""
    settings = load_settings()
    database = open_database(settings)
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    longest = {"vote_worst_s": 0.0, "leaderboard_worst_s": 0.0, "second_import_s": 0.0}
    print("ready", flush=True)
    count = 0
    while not done.is_set():
        for name, act in (("vote_worst_s", _vote), ("leaderboard_worst_s", leaderboard)):
            if name == "leaderboard_worst_s" and count % 20:
                continue
            began = time.monotonic()
            act(database)
            longest[name] = max(longest[name], time.monotonic() - began)
        if count == 5:
            began = time.monotonic()
            import_votes(database, _small(settings.home))
            longest["second_import_s"] = time.monotonic() - began
        count += 1
        time.sleep(0.05)
    print(json.dumps(longest | {"votes_meanwhile": count}))


def _small(home: Path) -> Path:
    path = home / "small.csv"
    path.write_text("model_a,model_b,winner,prompt\n" + "".join(f"a,b,left,Small {i}?\n" for i in range(50)))
    return path


def _vote(database: Database) -> None:
    """One new battle and its vote, in two transactions as on the page."""
    prompt_id, pair_id, battle_id = new_ulid(), new_ulid(), new_ulid()
    with database.write() as session:
        session.add(PromptRow(id=prompt_id, digest=prompt_id, messages=[{"role": "user", "content": "?"}], source="x"))
        session.flush()
        session.add(PairRow(id=pair_id, prompt_id=prompt_id, model_1="a", model_2="b", answer_1="1", answer_2="2"))
        session.flush()
        session.add(BattleRow(id=battle_id, pair_id=pair_id, voter="ann", flipped=False))
    with database.write() as session:
        session.add(VoteRow(battle_id=battle_id, voter="ann", choice="left"))


def _reference() -> float:
    began, total = time.process_time(), 0
    for number in range(20_000_000):
        total += number
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
