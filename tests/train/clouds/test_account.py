"""`parley rescue --all` and `inventory`: the account comes home once, and is shown with the next steps."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import parley
from models.completions.stored_completions import CompletionFilter, StoredCompletions
from models.database import Database
from models.errors import Invalid, ParleyError
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from tests.fakes.openai_account import FakeAccount
from tests.models.openai_fetch.accounts import TRAINING, fetched, fill
from train.clouds.account.home_import import import_account


@pytest.fixture
def fake() -> Iterator[FakeAccount]:
    with FakeAccount(page=5, tick=0.005) as account:
        fill(account)
        yield account


@pytest.fixture
def settings(home: Path, fake: FakeAccount, database: Database) -> Settings:
    return load_settings(home=home, openai_api_key=fake.key, openai_base_url=fake.base_url)


@pytest.fixture
def run(settings: Settings, fake: FakeAccount, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `parley rescue …` with the fake as OpenAI."""
    for name, value in {
        "PARLEY_HOME": settings.home, "OPENAI_API_KEY": fake.key, "OPENAI_BASE_URL": fake.base_url, "COLUMNS": "200",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    app = parley.build()
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.long
def test_the_whole_account_comes_home_once(
    run: Any, settings: Settings, fake: FakeAccount, database: Database, tmp_path: Path
) -> None:
    first = run("rescue", "--all", "--register", "--html", tmp_path / "page.html")
    assert first.exit_code == 0, first.output
    assert {request.method for request in fake.requests} == {"GET"}
    names = {file.filename: file.path.read_bytes() for file in Files(settings, database).list()}
    assert names["train.jsonl"] == names["valid.jsonl"] == TRAINING
    assert "items.jsonl" not in names, "the files of evals come with the evals"
    ids = json.loads((settings.home / "openai-account/home-files.json").read_text())
    assert set(ids.values()) == {file.id for file in Files(settings, database).list()}

    stored = {one.id: one for one in StoredCompletions(database).walk(CompletionFilter())}
    assert list(stored) == [f"chatcmpl-{number}" for number in range(12)]
    one = stored["chatcmpl-3"]
    assert one.created == datetime.fromtimestamp(fake.completions["chatcmpl-3"]["created"], UTC)
    assert one.request == {
        "model": "gpt-4o-mini-2024-07-18", "temperature": 0.5, "top_p": 1.0,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "question 3"}],
    }  # fmt: skip
    assert (one.answer["choices"][0]["message"]["content"], one.metadata) == ("answer 3", {"topic": "refunds"})

    (spec,) = [spec for spec in Registry(database).list() if ":support:" in spec.id]
    assert (spec.kind, str(spec.shutdown_date)) == ("hosted", "2027-01-14")
    assert "<h1>What the OpenAI account holds</h1>" in (tmp_path / "page.html").read_text()
    commands = [line.strip() for line in first.output.splitlines() if line.startswith("  parley ")]
    assert commands[0] == f"parley import openai-evals {settings.home / 'openai-account/evals'}"
    assert {command.split()[1] for command in commands[1:]} == {"rescue"}

    again = json.loads(run("rescue", "--all", "--json").stdout)
    assert (again["imported"]["new_files"], again["imported"]["file_ids"]) == (0, ids)
    assert len(list(StoredCompletions(database).walk(CompletionFilter()))) == 12

    imported = run(*commands[0].split()[1:])
    assert "2 evals, 2 runs, 4 output items" in imported.output
    assert "Not imported" not in imported.output


@pytest.mark.long
def test_an_inventory_says_what_is_urgent_and_what_to_do(run: Any, fake: FakeAccount, tmp_path: Path) -> None:
    shown = run("rescue", "inventory", "--html", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.output
    assert "ft:gpt-4o-mini-2024-07-18:acme:support:0001Fake" in shown.output
    assert "in part" in shown.output
    assert shown.output.splitlines()[-2:] == ["  parley rescue --all", f"The page is {tmp_path / 'page.html'}"]
    assert fake.count("GET", "/v1/files/.*/content") == 0
    fake.denied["/v1/chat/completions"] = 403
    refused = run("rescue", "--all")
    assert refused.exit_code == 3
    assert "completions/completions.jsonl: not refreshed: 403 You have insufficient permissions" in refused.output
    requests = len(fake.requests)
    values = json.loads(run("rescue", "inventory", "--offline", "--json").stdout)
    assert len(fake.requests) == requests
    assert {one["fetched"] for one in values["fine_tunes"]} == {"all"}
    assert values["kinds"]["lists"] == {"fetched": 6}
    assert run("rescue", "--all", "--verify").output == "All copies match their checksums.\n"
    dry = json.loads(run("rescue", "--all", "--dry-run", "--only", "evals", "--json").stdout)
    assert dry["would_fetch"][0] == "evals: 2"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], r"Name a fine-tune \(ft:…\), or use --all or inventory"),
        (["--all", "ft:x"], "--all is for the whole account: leave out 'ft:x'"),
        (["--all", "--base", "tiny"], "The options for one fine-tune need its name"),
        (["inventory", "--register"], "--dry-run, --verify and --register need --all"),
        (["ft:x", "--offline"], "The options for the whole account need --all or inventory"),
        (["--all", "--only", "weights"], "--only is 'weights': use one or more of"),
        (["inventory", "--offline"], "Nothing is fetched in"),
        (["--all", "--offline", "--verify"], "Use only one of --dry-run, --offline and --verify"),
    ],
)
def test_options_that_do_not_belong_together(run: Any, words: list[str], text: str) -> None:
    refused = run("rescue", *words)
    assert isinstance(refused.exception, ParleyError)
    with pytest.raises(ParleyError, match=text):
        raise refused.exception
    assert isinstance(refused.exception, Invalid) or "inventory" in words


def test_a_folder_from_another_machine_is_imported_and_what_cannot_be_is_reported(
    settings: Settings, fake: FakeAccount, database: Database, tmp_path: Path
) -> None:
    fake.add_file("weird.jsonl", b"\x1f\x8b\x08\x00zipped")
    half = fake.add_file("half.jsonl", TRAINING)
    fake.files[half]["filename"] = "\ud800half.jsonl"
    fake.add_completion("chatcmpl-broken", "q", "a", created="yesterday")
    fake.add_completion("chatcmpl-parts", "q", "a", request_id="r" * 99)
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    fake.messages["chatcmpl-parts"][1]["content_parts"] = parts
    fake.messages["chatcmpl-4"] = []
    fake.messages["chatcmpl-5"][1]["content"] = "\ud83d cut off"
    fetched(fake, tmp_path / "brought")
    done = import_account(tmp_path / "brought", settings, database)
    (weird,) = [name for name, file in fake.files.items() if file["filename"] == "weird.jsonl"]
    assert {line.split(":")[0] for line in done.lost} == {"chatcmpl-4", "chatcmpl-broken", weird}
    assert done.completions == 12
    assert StoredCompletions(database).get("chatcmpl-parts").request["messages"][1]["content"] == parts
    assert StoredCompletions(database).get("chatcmpl-5").request["messages"][1]["content"] == "? cut off"
    assert "?half.jsonl" in {file.filename for file in Files(settings, database).list()}
    assert import_account(tmp_path / "brought", settings, database).new_files == 0
