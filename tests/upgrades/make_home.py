"""Makes a home with work in progress, run by a released version of Parley, and packs it for test_homes.py.

The release does everything itself, through its own commands, worker, gateway and page: nothing is written into the
database by hand. The names imported below are those of 0a467a6; for a later release, take the names of that release.

    git worktree add ../old 0a467a6         # with an environment of its own in ../old/.venv
    cd ../old
    .venv/bin/python PATH/tests/upgrades/make_home.py --out PATH/tests/upgrades/0a467a6
    .venv/bin/python PATH/tests/upgrades/make_home.py --out PATH/tests/upgrades/0a467a6 --postgresql

The first writes sqlite.tar.xz and sqlite.json, the second postgresql.tar.xz, postgresql.sql.xz and postgresql.json.
In all of them the home's folder reads @HOME@ and the upstream's address @UPSTREAM@. The JSON has what the release says
about its own home (`outputs`) and what the test needs to know (`facts`).
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())  # the release's own modules and tests, wherever this file lies

import openai
import psutil
from home_archive import JUDGE, pack  # beside this file

# An older version's modules: how they would be sorted depends on those that exist now.
# isort: off
from evals import cast_vote, judge_models, next_battle
from evals.jobs import judge_served
from evals.judges.rubric import find_rubric
from evals.tasks.rows import open_task
from evals.tasks.served import evaluate_served
from evals.votes.prompts import add_prompts
from models import jobs
from models.database import Database, open_database, upgrade
from models.files import Files
from models.keys import KeyLimits, create_key, list_keys, revoke_key
from models.registry import Registry
from models.settings import Settings, load_settings
from models.spec import BotProfile, ModelSpec, Upstream
from tests.evals.scripted import Scripted
from tests.evals.upstream import AnsweringServer
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.stack import free_ports
from tests.tiny_model import make_adapter, make_base
from tests.train.conftest import style_rows
from ui.cookies import Cookies, page_secret
from ui.evaluating import Evaluating
from ui.room import Room
from ui.rules import Asked
from ui.training import Train
# isort: on

HOSTED = ("after", "before", "between")
VOTERS = 3
CLI_TRAINING = ("--base", "tiny", "--epochs", "3", "--rank", "4", "--batch-size", "4", "--threads", "1")
CLOUD = ("--on", "openai", "--base", "gpt-4o-mini-2024-07-18", "--name", "cloud-v1", "--yes", "--json")
FINE_TUNING = {"n_epochs": 3, "batch_size": 4}
# A worker that takes jobs of one kind only, as a process that can be killed.
WORK = """
import sys, parley
from models import jobs
from models.database import open_database
from models.settings import load_settings
from models.worker import run_job
settings = load_settings()
database = open_database(settings)
while (job := jobs.claim(database, "worker", kinds=sys.argv[1:])) is not None:
    run_job(settings, database, parley.JOB_HANDLERS, job, "worker")
"""


class HoldingServer(AnsweringServer):
    """An upstream that answers at once, but never answers questions that begin with `hold`."""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        question = body["messages"][-1]["content"] if "messages" in body else ""
        self.latency_s = 3600.0 if question.startswith("hold ") else 0.0
        return super().answer(path, body)


class Maker:
    """A home under construction: its settings, its database, its upstream, and the facts found on the way."""

    def __init__(self, home: Path, upstream: str, database_url: str | None) -> None:
        home.mkdir(parents=True)
        (home / "parley.toml").write_text('device = "cpu"\nfine_tuning_models = {"gpt-4o-mini" = "tiny"}\n')
        self.upstream = upstream
        self.flags = {"home": home, "database_url": database_url}
        self.settings: Settings = load_settings(port=free_ports(1)[0], **self.flags)
        upgrade(self.settings)
        self.database: Database = open_database(self.settings)
        self.facts: dict[str, Any] = {"made": int(time.time())}

    @property
    def home(self) -> Path:
        return self.settings.home

    def environment(self, *, gateway: bool = True, **extra: str) -> dict[str, str]:
        """For a process of this home; without `gateway` it looks for one where none is."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OPENAI_"))}
        environment |= {"PARLEY_HOME": str(self.home), "OMP_WAIT_POLICY": "PASSIVE", "PARLEY_ACCESS_LOG": "false"}
        environment["PARLEY_PORT"] = str(self.settings.port if gateway else free_ports(1)[0])
        if self.settings.database_url:
            environment["PARLEY_DATABASE_URL"] = self.settings.database_url.get_secret_value()
        if "owner_key" in self.facts:
            environment["PARLEY_PAGE_KEY"] = self.facts["owner_key"]
        return environment | extra

    @contextlib.contextmanager
    def process(self, *command: str, gateway: bool = True) -> Iterator[psutil.Popen]:
        """A process of this home, running inside the block, killed with all its children at the end."""
        started = psutil.Popen([sys.executable, *command], env=self.environment(gateway=gateway))
        try:
            yield started
        finally:
            family = [started, *started.children(recursive=True)] if started.is_running() else []
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
            started.wait()

    def command(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """A command of Parley to its end."""
        command = [sys.executable, "-m", "parley", *arguments]
        return subprocess.run(command, env=self.environment(**extra), capture_output=True, text=True, check=False)

    @contextlib.contextmanager
    def gateway(self) -> Iterator[openai.OpenAI]:
        """The gateway as a process, and an owner's client of it."""
        with (
            self.process("-m", "parley", "gateway"),
            openai.OpenAI(base_url=self.settings.gateway_url, api_key=self.facts["owner_key"], max_retries=0) as client,
        ):
            until(lambda: answers(client))
            yield client

    def work(self, kind: str) -> None:
        """Runs what is queued of one kind to its end."""
        subprocess.run([sys.executable, "-c", WORK, kind], env=self.environment(), check=True)

    @contextlib.contextmanager
    def frozen_training(self, kind: str, run: Path, when: Callable[[], Any] | None = None) -> Iterator[None]:
        """Runs a training and stops it at its first checkpoint, or at `when`; kills it and its worker at the end."""
        with self.process("-c", WORK, kind, gateway=False) as worker:
            until(when or partial(has_checkpoint, run), every_s=0.002)
            for each in worker.children(recursive=True):
                each.send_signal(signal.SIGSTOP)
            assert not (run / "result.json").exists(), f"{run} has finished: give it more epochs"
            yield


def has_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoints/step-*/manifest.json"))


def until(true: Callable[[], Any], timeout_s: float = 120, every_s: float = 0.05) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(every_s)


def answers(client: openai.OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.OpenAIError:
        return False


def make_models_and_keys(maker: Maker) -> None:
    """A base, an adapter, hosted models, a judge, a retired model, an alias; keys of both roles, one revoked."""
    registry, weights = Registry(maker.database), maker.home / "weights"
    base, adapter = make_base(weights / "tiny"), make_adapter(weights / "random", weights / "tiny")
    registry.register(ModelSpec(id="tiny", kind="base", path=str(base)))
    registry.register(ModelSpec(id="random", kind="adapter", path=str(adapter), base="tiny", lora_rank=8))
    for name in (*HOSTED, JUDGE, "gone"):
        upstream = Upstream(base_url=f"{maker.upstream}/v1", model=name, usd_per_million_input=0.15)
        bot = BotProfile(title="Shop", greeting="Hello.", examples=("Where is it?",)) if name == "after" else None
        registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream, judge=name == JUDGE, bot=bot))
    registry.retire("gone")
    registry.alias("production", "after")
    maker.facts["owner_key"] = create_key(maker.database, name="owner", role="owner")
    limits = KeyLimits(requests_per_minute=600, daily_tokens=100_000)
    maker.facts["client_key"] = create_key(
        maker.database, name="shop", role="client", models=["production"], limits=limits
    )
    create_key(maker.database, name="old", role="client")
    revoke_key(maker.database, next(key.id for key in list_keys(maker.database) if key.name == "old"))
    maker.settings = load_settings(port=maker.settings.port, page_key=maker.facts["owner_key"], **maker.flags)


def make_votes(maker: Maker) -> None:
    """Battles and votes of three voters on 24 prompts, an open battle, and the cookie of the first voter."""
    rows = [
        {"prompt": f"Question {n} about {topic}?", "category": topic, "topics": [["refund", "money back"]]}
        | ({"held_out": True} if n % 6 == 0 else {})
        for n in range(24)
        for topic in [("orders", "billing")[n % 2]]
    ]
    add_prompts(maker.database, rows, "made")
    marks = {"after": "**Yes.** {}\n- one\n- two", "before": "No. {}", "between": "Maybe: {} " + "and so on " * 9}
    completers = Scripted({name: (lambda question, form=form: form.format(question)) for name, form in marks.items()})
    cookies = Cookies(page_secret(maker.home))
    voter, maker.facts["voter_cookie"] = cookies.new_voter()
    voters = [voter, *(cookies.new_voter()[0] for _ in range(VOTERS - 1))]
    turns = count()

    async def vote(who: str, number: int, last: bool) -> None:
        battle = await next_battle(maker.database, who, completers, HOSTED, seed=number)
        if last:
            maker.facts["open_battle"] = {"id": battle.id, "left": battle.left, "right": battle.right}
            return
        better = {"**": 2, "No": 1, "Ma": 0}
        ahead = better[battle.left[:2]] - better[battle.right[:2]]
        choice = "tie" if number % 7 == 0 else "both_bad" if number % 11 == 0 else "left" if ahead > 0 else "right"
        if number % 5 == 0 and choice in ("left", "right"):
            choice = "left" if choice == "right" else "right"
        cast_vote(maker.database, battle.id, who, choice)

    for who in voters:
        for _ in range(30):
            asyncio.run(vote(who, next(turns), last=False))
    asyncio.run(vote(voter, next(turns), last=True))
    maker.facts |= {"voter": voter, "votes_of_voter": 30}
    owner = next(key.id for key in list_keys(maker.database) if key.name == "owner")
    maker.facts["owner_cookie"] = cookies.owner_value(owner)


def make_judgments_and_evaluations(maker: Maker, upstream: HoldingServer) -> None:
    """A judge's verdicts, a finished evaluation, one that was killed, a half-written file of answers; a judge's job."""
    database, settings, folder = maker.database, maker.settings, maker.home / "data"
    folder.mkdir(exist_ok=True)

    def judged() -> int:
        rubric = find_rubric("support", database)
        asking = partial(judge_models, database, prompts=6)
        before = len(upstream.asked)
        judge_served(settings, database, asking, JUDGE, ("before", "after"), rubric=rubric)
        return len(upstream.asked) - before

    def task(name: str, questions: list[str]) -> Path:
        rows = [{"id": str(n), "input": text, "expected": f"after says: {text}"} for n, text in enumerate(questions)]
        path = folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    with maker.gateway():
        first = judged()
        # What is asked again, whatever is stored: questions that test the judge.
        maker.facts["asked_again_by_judge"] = judged()
        assert first > maker.facts["asked_again_by_judge"]

        scorers = ["exact", "length:5-40", f"judge:{JUDGE}@support"]
        whole = open_task(str(task("whole.jsonl", [f"say {n}" for n in range(4)])), database, settings.runs_dir)
        parameters = {"temperature": 0.0, "max_tokens": 64}
        evaluate_served(settings, database, whole, ["before", "production"], scorers, parameters)

        questions = [f"{'hold' if n in (2, 5) else 'say'} the number {n}" for n in range(6)]
        stored = Files(settings, database).store("half.jsonl", task("half.jsonl", questions).read_bytes(), "evals")
        page = Evaluating(Room(settings, database), None)
        params = page._params(stored.id, ["before", "after"], ["exact", f"judge:{JUDGE}@support"], "all", "64", False)
        maker.facts["evaluation_job"] = jobs.enqueue(database, "evaluate", params)
        with maker.process("-c", WORK, "evaluate"):
            until(lambda: stored_answers(maker) == 16)
        maker.facts["missing_answers"] = {"before": questions[2::3], "after": questions[2::3]}

        prompts = folder / "questions.jsonl"
        lines = [{"prompt": f"{'hold' if n == 3 else 'say'} {n} in bulk"} for n in range(5)]
        prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with maker.process("-m", "parley", "generate", str(prompts), "--model", "before"):
            until(lambda: sum(question.endswith("in bulk") for _, question in upstream.asked) == 5)
            time.sleep(1)  # the answers are on disk before the fifth question is given up
        maker.facts["missing_in_bulk"] = [lines[3]["prompt"]]
    params = {"judge": JUDGE, "model_a": "before", "model_b": "after", "rubric": "support", "prompts": 6}
    maker.facts["judge_job"] = jobs.enqueue(database, "judge", params)  # as ui.judge enqueues it


def stored_answers(maker: Maker) -> int:
    """How many answers of evaluations are stored."""
    from sqlalchemy import text

    with maker.database.read() as session:
        return session.scalar(text("SELECT count(*) FROM answers")) or 0


def make_trainings(maker: Maker) -> None:
    """An interrupted run of the command and of the page's job; fine-tuning jobs: paused, queued, not yet checked."""
    database, runs = maker.database, maker.settings.runs_dir
    data = maker.home / "data" / "talks.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(24)))

    # What the interrupted run would have come to.
    whole = json.loads(maker.command("train", str(data), *CLI_TRAINING, "--name", "whole-run", "--json").stdout)
    before = set(runs.iterdir())
    with maker.process("-m", "parley", "train", str(data), *CLI_TRAINING, "--name", "command-run"):
        until(lambda: any((path / "config.json").exists() for path in set(runs.iterdir()) - before))
        (run,) = set(runs.iterdir()) - before
        until(lambda: has_checkpoint(run), every_s=0.002)
    assert not (run / "result.json").exists(), "the run has finished: give it more epochs"
    shutil.rmtree(whole["run_folder"])
    maker.facts["command_run"] = {
        "run": run.name,
        "whole": {name: whole[name] for name in ("steps", "tokens", "loss_before", "loss_after", "hyperparameters")},
    }

    stored = Files(maker.settings, database).store("talks.jsonl", data.read_bytes(), "fine-tune")
    numbers = {"epochs": "3", "rank": "4", "learning_rate": "auto", "batch_size": "4", "max_length": "auto"}
    asked = Asked("sft", "lora", 0.2, numbers)
    job_id = Train(Room(maker.settings, database), None)._enqueue(stored.id, "tiny", "page-run", "merged", asked)
    with maker.frozen_training("train", runs / job_id):
        pass
    maker.facts["page_job"] = job_id

    with maker.gateway() as client:
        api = client.fine_tuning.jobs
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": FINE_TUNING}}
        wanted: dict[str, Any] = {"model": "gpt-4o-mini", "training_file": stored.id, "method": method}
        paused = api.create(**wanted, suffix="paused", seed=7, metadata={"team": "shop"})
        maker.work("fine-tune-check")
        with maker.frozen_training("fine-tune", runs / paused.id, lambda: api.checkpoints.list(paused.id).data):
            api.pause(paused.id)
        queued = api.create(**wanted, suffix="queued", seed=8)
        maker.work("fine-tune-check")
        assert api.retrieve(queued.id).status == "queued"
        created = api.create(**wanted, suffix="created", seed=9, validation_file=stored.id)
    maker.facts["fine_tuning"] = {"paused": paused.id, "queued": queued.id, "created": created.id}

    with FakeOpenAI() as cloud:
        cloud.cut("POST", "/v1/files", after=False, times=99)
        told = maker.command(
            "train", str(data), *CLOUD, OPENAI_API_KEY=cloud.key, PARLEY_OPENAI_BASE_URL=cloud.base_url
        )
        assert told.returncode, told.stdout
    (record,) = runs.glob("*/cloud.json")
    maker.facts["cloud_run"] = record.parent.name


def main() -> int:
    """Makes and packs one home."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kind = "postgresql" if options.postgresql else "sqlite"
    with contextlib.ExitStack() as stack:
        url = None
        if options.postgresql:
            from tests.serve.postgres import Postgres

            url = stack.enter_context(Postgres()).new_database()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-upgrade-")))
        upstream = stack.enter_context(HoldingServer())
        maker = Maker(folder / "home", upstream.address.removesuffix("/v1"), url)
        make_models_and_keys(maker)
        make_votes(maker)
        make_judgments_and_evaluations(maker, upstream)
        make_trainings(maker)
        pack(maker, options.out, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
