"""A campaign's bundle: the same verdict from the files alone, and a clear line for every change."""

import asyncio
import json
import zipfile
from pathlib import Path

import pytest
from evals.votes.blind_battles import BattleOptions, cast_vote, next_battle

from evals.bundles.bundle_content import BundleContent, write_bundle
from evals.bundles.bundle_files import write_files
from evals.bundles.verification import verify_bundle
from evals.ratings.verdict import PlannedLook, planned_verdict, verdict
from evals.served_models import Completers
from evals.votes.votes import stored_votes
from models.database import Database
from models.errors import Invalid, NotFound
from models.settings import Settings
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts

NAMES = ("new@recorded", "old@recorded")
VOTERS = 6


@pytest.fixture
def content(database: Database, settings: Settings, tmp_path: Path) -> BundleContent:
    """Six people's votes on two recorded models."""
    chosen = stored_prompts(database, *(f"question {i}" for i in range(4)))
    for name in ("new", "old"):
        run(database, ScriptedServer(), request(chosen, OLD.model_copy(update={"id": name})), tmp_path)

    async def vote() -> None:
        completers = Completers(settings, database)
        for person in range(VOTERS):
            for seed in range(4):
                options = BattleOptions(seed=10 * person + seed)
                battle = await next_battle(database, f"person {person}", completers, NAMES, options)
                choice = ("left", "right", "tie", "both_bad")[(person + seed * seed) % 4]
                cast_vote(database, battle.id, f"person {person}", choice)

    asyncio.run(vote())
    campaign = {"name": "open", "question": "Which is better?", "seed": 7, "recordings": {}}
    return BundleContent(campaign, NAMES, {"overall": stored_votes(database)})


@pytest.mark.parametrize("name", ["folder", "file.zip"])
def test_the_verdict_is_the_same_to_the_last_digit(
    content: BundleContent, database: Database, tmp_path: Path, name: str
) -> None:
    sha256 = write_bundle(tmp_path / name, database, content)
    assert verify_bundle(tmp_path / name).sha256 == sha256
    checked = verify_bundle(tmp_path / name)
    (found,) = checked.verdicts
    assert checked.votes == VOTERS * 4
    assert found.question == "overall"
    assert found.verdict == verdict(database, *NAMES)
    assert found.verdict.voters == VOTERS
    with pytest.raises(Invalid, match="exists already"):
        write_bundle(tmp_path / name, database, content)


def test_a_planned_look_keeps_its_plan(content: BundleContent, database: Database, tmp_path: Path) -> None:
    plan = PlannedLook(0.1, 24)
    planned = BundleContent(content.campaign, content.models, content.questions, plan)
    write_bundle(tmp_path / "planned.zip", database, planned)
    (found,) = verify_bundle(tmp_path / "planned.zip").verdicts
    assert found.verdict == planned_verdict(stored_votes(database).votes, *NAMES, plan)
    assert found.verdict.look == "planned"


def test_every_changed_byte_is_named(content: BundleContent, database: Database, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    write_bundle(path, database, content)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    assert len(files) == 9, "seven files, two of them recordings, and the manifest"
    for file in files:
        before = file.read_bytes()
        middle = len(before) // 2
        file.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        name = file.relative_to(path).as_posix()
        fault = "changed" if name == "manifest.json" else f"^{name} in .* was changed after the export"
        with pytest.raises(Invalid, match=fault):
            verify_bundle(path)
        file.write_bytes(before)
    (path / "more.txt").write_text("x")
    with pytest.raises(Invalid, match=r"more.txt in .* was added after the export"):
        verify_bundle(path)
    (path / "more.txt").unlink()
    (path / "votes.jsonl").unlink()
    with pytest.raises(Invalid, match=r"votes.jsonl is missing"):
        verify_bundle(path)
    with pytest.raises(NotFound, match="There is no bundle"):
        verify_bundle(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    with pytest.raises(Invalid, match="cannot be read as a zip"):
        verify_bundle(tmp_path / "broken.zip")


def test_a_bundle_with_new_hashes_is_refused_where_its_files_do_not_fit(
    content: BundleContent, database: Database, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "true.zip", database, content)
    with zipfile.ZipFile(tmp_path / "true.zip") as archive:
        true = {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}

    def refused(name: str, old: str, new: str) -> str:
        forged = true | {name: true[name].decode().replace(old, new, 1).encode()}
        assert forged[name] != true[name]
        path = tmp_path / f"forged {new[:12].strip()}.zip"
        path.unlink(missing_ok=True)
        write_files(path, forged)
        with pytest.raises(Invalid) as caught:
            verify_bundle(path)
        return str(caught.value)

    state = json.loads(true["verdicts.json"])[0]["verdict"]["state"]
    said = refused("verdicts.json", f'"state": "{state}"', '"state": "better"')
    assert "The verdict on new@recorded and old@recorded is not the one in the bundle: state" in said
    assert "not in votes.jsonl" in refused("counted.jsonl", '"score": 1.0', '"score": 0.0')
    assert "not in votes.jsonl" in refused("votes.jsonl", '"choice": "left"', '"choice": "right"')
    assert "hash" in refused("prompts.jsonl", "question 1", "question 9")
    recording = next(name for name in true if name.startswith("recordings/"))
    assert "The answers in recordings/" in refused(recording, '"text": "answer', '"text": "Answer')
