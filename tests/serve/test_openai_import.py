"""`parley models import openai` against a fake OpenAI: listed models, registered models, errors."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

import parley
from models.database import Database
from models.errors import Conflict, Invalid, Unauthorized, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from serve import openai_import
from tests.serve.fake_openai import KEY, FakeOpenAI

MINI = "ft:gpt-4o-mini-2024-07-18:acme:support:A1"


@pytest.fixture
def account(home: Path) -> Iterator[Settings]:
    with FakeOpenAI() as fake:
        yield load_settings(home=home, openai_api_key=KEY, openai_base_url=fake.base_url)


def test_models_and_jobs_are_brought_together(account: Settings) -> None:
    models = {model.model: model for model in openai_import.openai_fine_tunes(account)}
    assert sorted(models) == [
        "ft:davinci-002:acme::D4", "ft:gpt-4.1-2025-04-14:acme::B2", MINI, "ft:gpt-5-nano:acme::C3"
    ]  # fmt: skip
    assert (models[MINI].job, models[MINI].trained_tokens, models[MINI].method) == ("ftjob-1", 1234, "supervised")
    assert models[MINI].shutdown_date == date(2027, 1, 14)
    assert models["ft:gpt-5-nano:acme::C3"].shutdown_date == date(2028, 5, 1)
    assert models["ft:davinci-002:acme::D4"].job is None


def test_a_server_without_fine_tuning_still_lists_its_models(home: Path) -> None:
    with FakeOpenAI(jobs=False) as fake:
        settings = load_settings(home=home, openai_api_key=KEY, openai_base_url=fake.base_url)
        models = {model.model: model for model in openai_import.openai_fine_tunes(settings)}
    assert MINI in models
    assert models[MINI].job is None


def test_a_chosen_one_is_registered_under_its_own_name(account: Settings, database: Database) -> None:
    chosen = openai_import.choose(openai_import.openai_fine_tunes(account), [MINI])
    spec = openai_import.register_fine_tune(account, database, chosen[0])
    assert (spec.id, spec.kind, spec.shutdown_date) == (MINI, "hosted", date(2027, 1, 14))
    assert spec.upstream is not None
    assert (spec.upstream.model, spec.upstream.credential) == (MINI, "OPENAI_API_KEY")
    assert KEY not in spec.model_dump_json()
    assert [model.model for model in openai_import.openai_fine_tunes(account, database) if model.registered] == [MINI]
    with pytest.raises(Conflict):
        openai_import.register_fine_tune(account, database, chosen[0])


@pytest.mark.long
def test_faults_are_one_line(account: Settings, home: Path) -> None:
    with pytest.raises(Invalid, match="OPENAI_API_KEY is not set"):
        openai_import.openai_fine_tunes(load_settings(home=home))
    with pytest.raises(Unauthorized, match="rejects the key"):
        openai_import.openai_fine_tunes(account.model_copy(update={"openai_api_key": _secret("sk-wrong")}))
    with pytest.raises(Unavailable):
        openai_import.openai_fine_tunes(account.model_copy(update={"openai_base_url": "http://127.0.0.1:9/v1"}))
    with pytest.raises(Invalid, match="no fine-tuned model 'ft:nobody'"):
        openai_import.choose([], ["ft:nobody"])


@pytest.mark.long
def test_the_command(account: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(account.home))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", account.openai_base_url)
    monkeypatch.setenv("COLUMNS", "200")
    app, run = parley.build(), CliRunner().invoke

    listed = run(app, ["models", "import", "openai"])
    assert listed.exit_code == 0, listed.output
    assert MINI in listed.output
    assert "2027-01-14" in listed.output
    assert Registry(database).list() == []
    first = run(app, ["models", "import", "openai", "--only", MINI, "--name", "support"])
    assert first.exit_code == 0, first.output
    assert [spec.id for spec in Registry(database).list()] == ["support"]
    rest = run(app, ["models", "import", "openai", "--all"])
    assert rest.exit_code == 0, rest.output
    assert len(Registry(database).list()) == 4
    again = run(app, ["models", "import", "openai", "--all"])
    assert "No model was registered" in again.output
    assert KEY not in listed.output + first.output + rest.output + again.output


def _secret(value: str):
    from pydantic import SecretStr

    return SecretStr(value)
