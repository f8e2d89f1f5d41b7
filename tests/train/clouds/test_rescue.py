"""A fine-tune brought home: found, fetched, trained, registered, compared; again and again, and after the end."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import parley
from evals.votes.prompts import prompts
from models.database import Database
from models.errors import Conflict, Invalid, NotFound
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.train.conftest import style_rows
from train.clouds.openai import OpenAICloud
from train.clouds.rescue_plan import RescuePlan, RescueRequest, plan_rescue

ROWS = [*style_rows(40), {"messages": "none"}]


@pytest.fixture
def old(openai_fake: FakeOpenAI) -> str:
    """A fine-tune of long ago: its job's file has a broken line."""
    content = "\n".join(json.dumps(row) for row in ROWS).encode()
    return openai_fake.finished_job(openai_fake.add_file("train.jsonl", content), suffix="support")


@pytest.fixture
def base(database: Database, tiny_base: Path) -> str:
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(tiny_base)))
    return "tiny"


@pytest.fixture
def planned(account: Settings, database: Database) -> Any:
    """Plans a rescue."""

    def plan(model: str, choose: Any = lambda bases: pytest.fail("there is one"), **given: Any) -> RescuePlan:
        return plan_rescue(RescueRequest(model, **given), OpenAICloud(account, retries=0), account, database, choose)

    return plan


@pytest.fixture
def run(account: Settings, openai_fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `parley …` with the fake as OpenAI."""
    monkeypatch.setenv("PARLEY_HOME", str(account.home))
    monkeypatch.setenv("PARLEY_DEVICE", "cpu")
    monkeypatch.setenv("OPENAI_API_KEY", openai_fake.key)
    monkeypatch.setenv("OPENAI_BASE_URL", openai_fake.base_url)
    monkeypatch.setenv("COLUMNS", "160")
    app = parley.build()
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_the_plan_knows_all_and_changes_nothing(
    old: str, base: str, planned: Any, openai_fake: FakeOpenAI, account: Settings
) -> None:
    openai_fake.announce[old] = "2027-01-02"
    plan = planned(old)
    assert (plan.family, plan.method, plan.base, plan.name) == (
        "gpt-4o-mini-2024-07-18", "sft", "tiny", "support-rescued"
    )  # fmt: skip
    assert (len(plan.learnt), len(plan.held), plan.checked.left_out) == (34, 6, 1)
    assert str(plan.shutdown.day) == "2027-01-02"
    assert {row["messages"][-1]["role"] for row in plan.prompts} == {"user"}
    learnt = {item.conversation.messages for item in plan.learnt}
    assert not learnt & {item.conversation.messages for item in plan.held}
    assert {request.method for request in openai_fake.requests} == {"GET"}
    assert not list(account.runs_dir.glob("*"))


def test_a_validation_file_is_what_is_held_out(base: str, planned: Any, openai_fake: FakeOpenAI) -> None:
    train, held = style_rows(30), style_rows(8, seed=5)
    ids = [
        openai_fake.add_file(f"{name}.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
        for name, rows in (("t", train), ("v", held))
    ]
    plan = planned(openai_fake.finished_job(ids[0], suffix="x", validation_file=ids[1]))
    assert (len(plan.learnt), len(plan.held)) == (30, 8)


def test_a_file_that_openai_has_no_more_is_asked_for(
    old: str, base: str, planned: Any, openai_fake: FakeOpenAI, tmp_path: Path
) -> None:
    openai_fake.files.clear()
    with pytest.raises(NotFound, match=r"has deleted the training file .* --data"):
        planned(old)
    path = tmp_path / "mine.csv"
    path.write_text("prompt,response\n" + "".join(f"question {n}?,answer {n}\n" for n in range(20)))
    plan = planned(old, data=path)
    assert (plan.source, len(plan.learnt) + len(plan.held)) == (str(path), 20)


def test_a_model_that_nobody_knows(base: str, planned: Any) -> None:
    with pytest.raises(NotFound, match="No job of this OpenAI account"):
        planned("ft:gpt-4o:acme:other:Z9")
    with pytest.raises(Invalid, match="not the name of a fine-tune"):
        planned("gpt-4o")


def test_a_checkpoint_is_found_by_its_job(old: str, base: str, planned: Any) -> None:
    assert planned(f"{old}:ckpt-step-40").job is not None


def test_one_that_was_imported_before_keeps_its_name(
    old: str, base: str, planned: Any, account: Settings, database: Database
) -> None:
    upstream = Upstream(base_url=account.openai_base_url, model=old, credential="OPENAI_API_KEY")
    Registry(database).register(ModelSpec(id=old, kind="hosted", upstream=upstream))
    assert planned(old).old == old


def test_which_base(old: str, planned: Any, database: Database, tiny_base: Path) -> None:
    with pytest.raises(Invalid, match="no local base"):
        planned(old)
    for name in ("one", "two"):
        Registry(database).register(ModelSpec(id=name, kind="base", path=str(tiny_base)))
    assert planned(old, choose=lambda bases: bases[1].id).base == "two"
    assert planned(old, base="Qwen/Qwen3-4B").base == "Qwen/Qwen3-4B"


def test_preference_pairs_are_rescued_as_dpo(base: str, planned: Any, openai_fake: FakeOpenAI) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"question {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"good {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"bad {n}"}],
        }
        for n in range(20)
    ]
    file = openai_fake.add_file("p.jsonl", "\n".join(json.dumps(pair) for pair in pairs).encode())
    plan = planned(openai_fake.finished_job(file, suffix="p", method={"type": "dpo"}))
    assert plan.method == "dpo"
    assert plan.prompts[0]["messages"][-1]["content"].startswith("question")


def test_a_dry_run_shows_and_changes_nothing(
    old: str, base: str, run: Any, account: Settings, database: Database
) -> None:
    shown = run("rescue", old, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "is off in" in shown.output or "off since" in shown.output
    assert all(word in shown.output for word in (old, "support-rescued", "dry run", "line 41", "6 held-out questions"))
    told = json.loads(run("rescue", old, "--dry-run", "--json").stdout)
    assert (told["examples"], told["base"], told["old"]) == (34, "tiny", "support-openai")
    assert [spec.id for spec in Registry(database).list()] == ["tiny"]
    assert not list(account.runs_dir.glob("*"))
    assert not Files(account, database).list()


def test_several_bases_and_nobody_to_ask(old: str, run: Any, database: Database, tiny_base: Path) -> None:
    for name in ("one", "two"):
        Registry(database).register(ModelSpec(id=name, kind="base", path=str(tiny_base)))
    failed = run("rescue", old)
    assert isinstance(failed.exception, Invalid)
    assert "--base (one, two)" in str(failed.exception)


@pytest.mark.training
def test_a_whole_rescue(
    old: str, base: str, run: Any, account: Settings, database: Database, openai_fake: FakeOpenAI, tiny_base: Path
) -> None:
    registry = Registry(database)
    # Killed in the middle: the training cannot begin, everything before it is kept.
    weights = tiny_base / "model.safetensors"
    hidden = weights.rename(tiny_base / "hidden")
    assert run("rescue", old, "--epochs", 3, "--threads", 1).exit_code != 0
    hidden.rename(weights)
    assert [spec.id for spec in registry.list()] == ["tiny", "support-openai"]
    assert registry.aliases() == {old: "support-openai"}

    # Meanwhile OpenAI has deleted the file, and the same command goes on with what was kept.
    openai_fake.files.clear()
    done = run("rescue", old)
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"{account.page_url}/vote/" in done.output
    assert "parley verdict support-rescued support-openai" in done.output
    assert "are not recorded. Before it is switched off, run: parley record support-openai" in done.output
    new, hosted = registry.resolve("support-rescued"), registry.resolve("support-openai")
    assert (new.kind, new.base, new.description) == ("adapter", "tiny", f"Rescued from {old}")
    assert hosted.upstream is not None
    assert (hosted.upstream.model, hosted.upstream.credential) == (old, "OPENAI_API_KEY")
    assert str(hosted.shutdown_date) == "2027-01-14"
    assert registry.resolve(old).id == "support-openai"
    stored = Files(account, database).list()
    assert [file.purpose for file in stored] == ["fine-tune"]
    assert len(stored[0].path.read_bytes().splitlines()) == 41
    asked = prompts(database, category="rescue support-rescued")
    assert (len(asked), {prompt.held_out for prompt in asked}) == (6, {True})

    # Again: nothing twice.
    again = run("rescue", old, "--json")
    assert again.exit_code == 0, (again.output, again.exception)
    record = json.loads(again.stdout)
    assert (record["new"], record["asked"]) == ("support-rescued", 6)
    assert len(registry.list(include_candidates=True)) == 3
    assert len(Files(account, database).list()) == 1
    assert len(prompts(database)) == 6
    other = run("rescue", old, "--base", "Qwen/Qwen3-4B")
    assert isinstance(other.exception, Conflict)

    # In the end the clients' own name moves to the new model, in one step.
    assert run("models", "alias", old, "support-rescued").exit_code == 0
    assert registry.resolve(old).id == "support-rescued"


@pytest.mark.training
def test_a_fine_tune_that_is_gone_is_rescued_from_disk(
    old: str, base: str, run: Any, database: Database, openai_fake: FakeOpenAI, tmp_path: Path
) -> None:
    del openai_fake.models[old]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in style_rows(40)))
    done = run("rescue", old, "--data", path, "--epochs", 1, "--threads", 1, "--name", "home")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "does not answer any more" in done.output
    assert [spec.id for spec in Registry(database).list(include_candidates=True)] == ["tiny", "home"]


def test_without_a_key(home: Path, database: Database, planned: Any) -> None:
    with pytest.raises(Invalid, match="OPENAI_API_KEY is not set"):
        OpenAICloud(load_settings(home=home))
