"""Files and uploads with each SDK: sent, listed over pages, read back, sent in parts, deleted."""

from pathlib import Path

import pytest

from tests.clients.programs import Server, run

pytestmark = pytest.mark.engine


def test_a_program_that_keeps_files_runs_unchanged(sdk: str, server: Server, training_file: Path) -> None:
    met = run(sdk, "files", server, training_file)
    assert met == {
        "first": ["train.jsonl", training_file.stat().st_size, "fine-tune", "processed"],
        "same": True,
        "notes": [f"note-{number}.txt" for number in range(4)],
        "upload": ["pending", "completed", "train.jsonl", True],
        "given up": "cancelled",
        "left": 0,
    }
