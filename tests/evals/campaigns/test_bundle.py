"""A campaign's export: the same verdict from the files alone, and a one-line error for every change."""

import asyncio
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.campaign_tables import CampaignRow
from evals.campaigns import bundle_files
from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import BattleOptions
from evals.campaigns.bundle import check_bundle, write_bundle
from evals.campaigns.bundle_files import read_files, write_files
from evals.campaigns.lifecycle import close_campaign, load_campaign
from evals.campaigns.report import campaign_report
from evals.ratings.verdict import verdict
from evals.recordings.recording_store import list_recordings
from evals.served_models import Completers
from evals.votes.vote_import import import_votes
from models.database import Database
from models.errors import Conflict, Invalid, NotFound
from models.settings.settings import Settings
from tests.evals.battles import next_battle
from tests.evals.campaigns.campaigns import opened, voted_campaign
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts
from tests.evals.test_cli import parley

__all__ = ["parley"]  # a fixture

RECORDED = ("new@recorded", "old@recorded")
FILES = {"campaign.json", "prompts.jsonl", "pairs.jsonl", "votes.jsonl", "report.json"}
VOTERS = 6


@pytest.fixture
def recorded(database: Database, settings: Settings, tmp_path: Path) -> Database:
    """Six people's votes on two recorded models in the campaign `open`. It includes a recording of training prompts."""
    chosen = stored_prompts(database, *(f"question {i}" for i in range(4)))
    for name in ("new", "old"):
        run(database, ScriptedServer(), request(chosen, OLD.model_copy(update={"id": name})), tmp_path)

    async def vote() -> None:
        completers = Completers(settings, database)
        for person in range(VOTERS):
            for seed in range(4):
                options = BattleOptions(seed=10 * person + seed)
                battle = await next_battle(database, f"person-{person}", completers, RECORDED, options)
                choice = ("left", "right", "tie", "both_bad")[(person + seed * seed) % 4]
                cast_vote(database, battle.id, f"person-{person}", choice)

    asyncio.run(vote())
    taught = stored_prompts(database, "taught")[4:]
    training = run(database, ScriptedServer(), request(taught, training=True), tmp_path).recording
    with database.write() as session:
        session.get_one(CampaignRow, "open").recordings = {f"old@recorded:{training.id}": training.id}
    return database


def numbered(report: object) -> object:
    """A report as JSON with the names of voters as the export has them."""
    text = re.sub(r"(?:voter|person)-(\d+)", lambda name: f"voter {int(name[1]) + 1}", json.dumps(report))
    return json.loads(text)


@pytest.mark.long
def test_the_planned_verdict_is_the_same_to_the_last_digit(
    database: Database, tmp_path: Path, parley: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    voted_campaign(database, tmp_path)
    close_campaign(database, "acceptance")
    campaign, own = load_campaign(database, "acceptance"), campaign_report(database, "acceptance").to_json()
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path / "no home"))
    for path in (tmp_path / "bundle", tmp_path / "bundle.zip"):
        written = write_bundle(database, "acceptance", path)
        code, output, error = parley("campaign", "check", str(path), "--json")
        assert code == 0, error
        checked = check_bundle(path)
        assert json.loads(output) == json.loads(json.dumps(checked.to_json()))
        assert (checked.votes, checked.campaign, checked.sha256) == (120, campaign, written.sha256)
        assert written.votes == 120
        assert json.loads(json.dumps(checked.report)) == numbered(own | {"campaign": "acceptance"})
        assert checked.report["look"] == checked.report["verdicts"][0]["look"] == "planned"
        with pytest.raises(Conflict, match="exists already"):
            write_bundle(database, "acceptance", path)
    assert not (tmp_path / "no home").exists()


@pytest.mark.long
def test_a_campaign_of_recorded_models_has_their_recordings(recorded: Database, tmp_path: Path) -> None:
    own = verdict(recorded, *RECORDED)
    assert own.voters == VOTERS
    answering = {f"recordings/{each.id}.jsonl" for each in list_recordings(recorded) if not each.training}
    assert len(answering) == 2
    for path in (tmp_path / "folder", tmp_path / "file.zip"):
        write_bundle(recorded, "open", path)
        bundle, checked = read_files(path), check_bundle(path)
        assert checked.votes == own.votes == VOTERS * 4
        assert json.loads(json.dumps(checked.report["verdicts"])) == numbered([own.to_json()])
        assert set(bundle.files) == FILES | answering
        for file in answering:
            head, *samples = bundle.rows(file)
            assert head["recording"]["parameters"]["max_tokens"] == 16
            assert len(samples) == 4 * head["recording"]["samples"]
        assert b"taught" not in b"".join(bundle.files.values())


@pytest.mark.long
def test_a_bundle_has_seed_probabilities_criteria_and_versions_but_no_voter(database: Database, tmp_path: Path) -> None:
    voted_campaign(database, tmp_path, prompts=4)
    path = tmp_path / "bundle.zip"
    write_bundle(database, "acceptance", path)
    bundle = read_files(path)
    assert b"voter-" not in b"".join(bundle.files.values())
    votes = bundle.rows("votes.jsonl")
    assert {vote["voter"] for vote in votes} == {f"voter {i + 1}" for i in range(6)}
    assert [vote["id"] for vote in votes] == list(range(1, 25))
    assert {vote["probability"] for vote in votes} == {1.0}
    assert {(vote["criteria"]["tone"], vote["comment"], vote["rated"]) for vote in votes} == {("tie", "Clear.", True)}
    assert {vote["model_1_on_the_left"] for vote in votes} == {True, False}
    assert bundle.value("campaign.json")["seed"] == load_campaign(database, "acceptance").seed
    assert set(bundle.manifest["versions"]) == {"parley", "numpy", "scipy", "python"}
    assert set(bundle.manifest["sha256"]) == FILES


def test_imported_votes_are_exported_without_their_voters(database: Database, tmp_path: Path) -> None:
    lines = ["model_a,model_b,winner,prompt,voter,id"]
    lines += [f"new,old,model_{'ab'[i % 2]},question {i},{('ann@b.example', '')[i // 4]},ann-{i}" for i in range(8)]
    (tmp_path / "votes.csv").write_text("\n".join(lines))
    import_votes(database, tmp_path / "votes.csv")
    write_bundle(database, "open", tmp_path / "a.zip")
    bundle, checked = read_files(tmp_path / "a.zip"), check_bundle(tmp_path / "a.zip")
    assert {vote["voter"] for vote in bundle.rows("votes.jsonl")} == {"voter 1", "unknown"}
    assert (checked.votes, checked.report["verdicts"][0]["unknown_voters"]) == (8, 4)
    assert not re.search(rb"ann[@-]", b"".join(bundle.files.values()))


@pytest.mark.long
def test_every_changed_added_or_missing_file_is_named(recorded: Database, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    write_bundle(recorded, "open", path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    assert len(files) == 8, "seven files, two of them recordings, and the manifest"
    for file in files:
        before, name = file.read_bytes(), file.relative_to(path).as_posix()
        for place in (0, len(before) // 2, len(before) - 1):
            file.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            with pytest.raises(Invalid, match=f"^{name} in .* changed after the export"):
                check_bundle(path)
        file.write_bytes(before)
    (path / "more.txt").write_text("x")
    with pytest.raises(Invalid, match=r"^more.txt in .* was added after the export"):
        check_bundle(path)
    (path / "more.txt").unlink()
    (path / "votes.jsonl").unlink()
    with pytest.raises(Invalid, match=r"^votes.jsonl is missing"):
        check_bundle(path)


@pytest.mark.long
def test_every_changed_byte_is_detected(tmp_path: Path) -> None:
    files = {"votes.jsonl": b'{"vote": 1}\n', "report.json": b"{}\n"}
    write_files(tmp_path / "folder", files, {"exported": "2027-01-05T09:00:00+00:00"})
    sha256 = write_files(tmp_path / "a.zip", files, {"exported": "2027-01-05T09:00:00+00:00"})
    assert read_files(tmp_path / "folder").sha256 == read_files(tmp_path / "a.zip").sha256 == sha256
    manifest = tmp_path / "folder" / "manifest.json"
    before = manifest.read_bytes()
    for place in range(len(before)):
        manifest.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        with pytest.raises(Invalid):
            read_files(tmp_path / "folder")
    before, changed, refused = (tmp_path / "a.zip").read_bytes(), tmp_path / "b.zip", 0
    for place in range(len(before)):
        changed.write_bytes(before[:place] + bytes([before[place] ^ 0xFF]) + before[place + 1 :])
        try:  # some bytes of a zip are not content, such as a file's date
            assert read_files(changed).sha256 == sha256
        except Invalid:
            refused += 1
    assert refused > len(before) / 2


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no file or folder"):
        check_bundle(tmp_path / "nothing")
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(Invalid, match="cannot be read as a zip"):
        check_bundle(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(Invalid, match=r"manifest\.json"):
        check_bundle(tmp_path / "y.zip")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(Invalid, match="has the format 1, which this version of Parley does not read"):
        check_bundle(tmp_path / "old")
    write_files(tmp_path / "empty", {"votes.jsonl": b""}, {})
    with pytest.raises(Invalid, match="is not a complete export of a campaign"):
        check_bundle(tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="cannot be written"):
        write_files(tmp_path / "file" / "a.zip", {}, {})


@pytest.mark.long
def test_a_bundle_with_new_hashes_is_refused_if_its_files_do_not_fit(recorded: Database, tmp_path: Path) -> None:
    write_bundle(recorded, "open", tmp_path / "true.zip")
    true = read_files(tmp_path / "true.zip")

    def refused(name: str, old: str, new: str) -> str:
        forged = {**true.files, name: true.files[name].decode().replace(old, new, 1).encode()}
        assert forged[name] != true.files[name]
        path = tmp_path / "forged.zip"
        path.unlink(missing_ok=True)
        write_files(path, forged, {"exported": true.manifest["exported"]})
        with pytest.raises(Invalid) as caught:
            check_bundle(path)
        return str(caught.value)

    state = true.value("report.json")["verdicts"][0]["state"]
    message = refused("report.json", f'"state": "{state}"', '"state": "better"')
    assert message.endswith("do not give the verdict in it: report.json differs in verdicts.0.state.")
    shown = json.dumps(next(vote for vote in true.rows("votes.jsonl") if vote["choice"] == "left"))
    for old, new in (
        ('"choice": "left"', '"choice": "right"'),
        ('"model_1_on_the_left": true', '"model_1_on_the_left": false'),
        ('"model_1_on_the_left": false', '"model_1_on_the_left": true'),
        ('"rated": true', '"rated": false'),
        ('"voter": "voter', '"voter": "the voter'),
    ):
        if old in shown:  # the model is on one of the sides
            assert "report.json differs in " in refused("votes.jsonl", shown, shown.replace(old, new))
    assert "is rated, but gold or repeated" in refused("votes.jsonl", '"gold": false', '"gold": true')
    pair = true.rows("pairs.jsonl")[0]["id"]
    assert "the pair or prompt of the vote" in refused("pairs.jsonl", pair, pair[::-1])
    assert "does not have the SHA-256 in its row" in refused("prompts.jsonl", "question 1", "question 9")
    recording = next(name for name in true.files if name.startswith("recordings/"))
    assert f"{recording}: the answers" in refused(recording, '"text": "answer', '"text": "Answer')
    assert f"{recording}: a prompt" in refused(recording, "question 1", "question 9")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("votes.jsonl", b"0" * 1_000_000)
    monkeypatch.setattr(bundle_files, "_MOST_BYTES", 999_999)
    with pytest.raises(Invalid, match="unpack it"):
        check_bundle(bomb)


def test_a_manifest_that_is_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(Invalid, match="changed"):
        check_bundle(tmp_path)


def test_an_export_to_standard_output_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(database, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid, match="standard output"):
        write_bundle(database, "acceptance", Path("-"))
    assert not Path("-").exists()
