"""`parley train --on …` and `parley cloud …`: what is shown, asked, and left to be done when a terminal closes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import parley
import train.clouds.follower
from models.database import Database
from models.errors import Invalid, NotFound
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.stack import ROOT
from tests.train.clouds.conftest import OPENAI_BASE, TOGETHER_BASE
from tests.train.conftest import style_rows


@pytest.fixture
def run(
    account: Settings,
    database: Database,
    openai_fake: FakeOpenAI,
    together_fake: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Runs `parley …` with both fakes."""
    for name, value in {
        "PARLEY_HOME": account.home,
        "OPENAI_API_KEY": openai_fake.key,
        "OPENAI_BASE_URL": openai_fake.base_url,
        "TOGETHER_API_KEY": together_fake.key,
        "TOGETHER_BASE_URL": together_fake.base_url,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(train.clouds.follower.follow, "__kwdefaults__", {"poll_s": 0.01, "pause": lambda s: None})
    app = parley.build()
    return lambda *words, **more: CliRunner().invoke(app, [str(word) for word in words], **more)


def bought(run: Any, data: Path, *more: str) -> Any:
    return run("train", data, "--base", OPENAI_BASE, "--name", "support-v1", "--on", "openai", *more)


def test_a_price_is_shown_before_anything_is_bought(run: Any, data: Path, openai_fake: FakeOpenAI) -> None:
    refused = bought(run, data)
    assert isinstance(refused.exception, Invalid)
    assert "Add --yes to buy it" in str(refused.exception)
    assert not openai_fake.requests
    for words in (OPENAI_BASE, "36 examples, 4 held out, 1 left out", "price", "2027-01-06", "line 41"):
        assert words in refused.output, words


@pytest.mark.long
def test_from_the_command_to_a_served_model(run: Any, data: Path, database: Database) -> None:
    done = bought(run, data, "--yes")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Step 1/108" in done.output
    assert "is served as support-v1" in done.output
    assert "support-v1 is off" in done.output
    assert Registry(database).resolve("support-v1").kind == "hosted"
    listed = run("cloud", "list")
    assert "support-v1" in listed.output
    assert "succeeded" in listed.output
    rows = json.loads(run("cloud", "list", "--json").stdout)
    assert [(row["state"], row["registered"]) for row in rows] == [("succeeded", "support-v1")]
    assert "off on 2027-01-14" in run("models", "list").output


@pytest.mark.long
def test_together_as_json(run: Any, data: Path) -> None:
    words = ("train", data, "--base", TOGETHER_BASE, "--name", "tog", "--on", "together", "--yes", "--json")
    told = json.loads(run(*words).stdout)
    assert (told["state"], told["registered"], told["provider"]) == ("succeeded", "tog", "together")
    assert "tog" in run("cloud", "list", "--on", "together").output


@pytest.mark.long
def test_ctrl_c_stops_following_and_not_the_job(
    run: Any, data: Path, openai_fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.clouds.follower, "follow", interrupted)
        stopped = bought(run, data, "--yes")
    assert stopped.exit_code == 130
    assert "parley cloud follow support-v1" in stopped.output
    assert "parley cloud cancel support-v1" in stopped.output
    assert len(openai_fake.jobs) == 1
    followed = run("cloud", "follow", "support-v1")
    assert followed.exit_code == 0, (followed.output, followed.exception)
    assert Registry(database).resolve("support-v1").job in openai_fake.jobs


@pytest.mark.long
def test_a_kill_after_the_job_was_asked_for_buys_no_second(
    account: Settings, database: Database, data: Path, openai_fake: FakeOpenAI
) -> None:
    words = ("train", data, "--base", OPENAI_BASE, "--name", "support-v1", "--on", "openai", "--yes", "--json")
    command = [sys.executable, "-m", "parley", *map(str, words)]
    options: Any = {"env": child_environment(account), "cwd": ROOT, "stdout": subprocess.PIPE, "text": True}
    openai_fake.cut("POST", "/v1/fine_tuning/jobs", after=True)
    openai_fake.fail("GET", "/v1/fine_tuning/jobs", 503, times=1000)
    with subprocess.Popen(command, **options) as first:
        deadline = time.monotonic() + 60
        while not openai_fake.jobs:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.kill()  # it has asked and not heard, and may not write another word
    openai_fake.faults.clear()
    done = subprocess.run(command, **options, timeout=90, check=True)
    assert json.loads(done.stdout)["job"] in openai_fake.jobs
    assert len(openai_fake.jobs) == 1
    assert openai_fake.count("POST", "/v1/files") == 2


def test_cancel(run: Any, data: Path, openai_fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    openai_fake.tick = 60.0
    with monkeypatch.context() as patch:
        patch.setattr(train.clouds.follower, "follow", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        bought(run, data, "--yes")
    assert "is cancelled" in run("cloud", "cancel", "support-v1").output
    ended = run("cloud", "follow", "support-v1")
    assert "was cancelled" in str(ended.exception)
    again = run("cloud", "cancel", "support-v1")
    assert isinstance(again.exception, Invalid)


def test_a_job_that_was_not_started_here(run: Any, openai_fake: FakeOpenAI, database: Database) -> None:
    content = "\n".join(json.dumps(row) for row in style_rows(20)).encode()
    model = openai_fake.finished_job(openai_fake.add_file("t.jsonl", content), suffix="elsewhere")
    job = next(iter(openai_fake.jobs))
    followed = run("cloud", "follow", job)
    assert followed.exit_code == 0, (followed.output, followed.exception)
    assert f"parley cloud register {job} --name NAME" in followed.output
    assert run("cloud", "register", job, "--name", "mine").exit_code == 0
    assert "is already registered" in run("cloud", "register", job, "--name", "mine").output
    spec = Registry(database).resolve("mine")
    assert spec.upstream is not None
    assert (spec.upstream.model, spec.job) == (model, job)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("cloud", "follow", "nobody"), Invalid, "--on openai or --on together"),
        (("cloud", "follow", "ftjob-nobody"), NotFound, "Could not find fine tune"),
        (("cloud", "list", "--on", "azure"), Invalid, "openai or together"),
        (("train", "DATA", "--base", "b", "--name", "x", "--on", "openai", "--threads", "2"), Invalid, "--threads"),
        (("train", "DATA", "--base", "b", "--name", "x", "--on", "openai", "--kind", "merged"), Invalid, "--kind"),
        (("train", "DATA", "--base", "b", "--name", "x", "--lr-multiplier", "2"), Invalid, "OpenAI's"),
        (("train", "DATA", "--base", "b", "--name", "x", "--on", "mars"), Invalid, "is not a cloud provider"),
    ],
)
def test_mistakes_are_one_line(run: Any, data: Path, words: tuple[str, ...], error: Any, says: str) -> None:
    failed = run(*(data if word == "DATA" else word for word in words))
    assert isinstance(failed.exception, error), failed.exception
    assert says in str(failed.exception)
    assert "\n" not in str(failed.exception)


def test_the_price_table_and_the_shutdown_table_have_the_same_dates() -> None:
    """Shutdown dates are in the price table for buyers, and in the table of shutdowns for owners."""
    from models.registry.shutdowns import find_shutdown_date, fine_tuning_cutoff
    from train.planning.pricing import price_table

    known = [price for price in price_table() if price.provider == "openai" and find_shutdown_date(price.model)]
    assert known
    assert {price.retires for price in known} == {find_shutdown_date(price.model) for price in known}
    assert {price.closes for price in known} == {fine_tuning_cutoff("openai")}
