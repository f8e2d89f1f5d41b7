"""train/publication/cards.py: the contents of a model's card, and what it must not contain."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.database import Database, utcnow
from models.jobs.jobs import claim, enqueue, finish
from models.registry.registry import Registry
from models.spec import ModelSpec, Parity, ServedParity
from train.publication.cards import UNKNOWN, licence_of, write_card

RESULT: dict[str, Any] = {
    "run_folder": "/home/somebody/.parley/runs/x", "base_location": "/home/somebody/base", "method": "sft",
    "loss_before": 3.5, "loss_after": 0.25, "measured_on": "validation", "examples": 1234, "validation_examples": 137,
    "steps": 42, "tokens": 99_999, "learnt_tokens": 5_000, "seconds": 61.0,
    "hyperparameters": {"epochs": 2.0, "rank": 16, "tune": "lora", "rslora": False, "beta": 0.1, "method": "sft"},
    "reasons": {"rank": "16 under 2,000 examples | else 32"},
    "problems": [
        {"line": 3, "severity": "error", "message": "the secret order 40317", "mend": "", "code": "empty"},
        {"line": 4, "severity": "warning", "message": "x", "mend": "", "code": "duplicate"},
    ],
}  # fmt: skip


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nA base.")
    registry = Registry(database)
    registry.register(ModelSpec(id="base", kind="base", path=str(base)))
    return registry


def card(tmp_path: Path, registry: Registry, method: str = "sft", **fields: Any) -> str:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "training-result.json").write_text(json.dumps(RESULT | {"method": method}))
    (folder / "training-data.json").write_text(
        json.dumps({"file": "/home/somebody/tickets.jsonl", "file_sha256": "ab12"})
    )
    (folder / "training-metrics.jsonl").write_text('{"step": 1, "loss": 3.5}\n{"step": 2, "loss": 1.5}\n')
    given = {"id": "ft:base:acme:tickets", "kind": "adapter", "path": str(folder), "base": "base", "lora_rank": 16}
    return write_card(folder, ModelSpec(**(given | fields)), registry).read_text()


def test_it_has_data_method_numbers_curves_and_licence(tmp_path: Path, registry: Registry) -> None:
    text = card(tmp_path, registry)
    front = yaml.safe_load(text.split("---")[1])
    assert front | {"tags": None} == {
        "base_model": "base", "base_model_relation": "adapter", "library_name": "peft", "license": "apache-2.0",
        "pipeline_tag": "text-generation", "tags": None,
    }  # fmt: skip
    assert {"lora", "sft"} <= set(front["tags"])
    for expected in (
        "| file | `tickets.jsonl` |", "`sha256:ab12`", "1,234 conversations",
        "1 error, 1 warning; empty: 1; duplicate: 1",
        "| rank | 16 | 16 under 2,000 examples \\| else 32 |", "| rslora | no |", "3.500 → 0.250", "](curves.svg)",
        'model="ft:base:acme:tickets"', "Of the base, base: apache-2.0, as its card says.", "Not measured.",
    ):  # fmt: skip
        assert expected in text, expected
    assert (tmp_path / "model" / "curves.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("method", "name", "units"),
    [("dpo", "Direct preference optimisation (DPO)", "pairs"), ("kto", "optimisation (KTO)", "labelled answers")],
)
def test_it_names_the_method_and_what_it_learnt_from(
    tmp_path: Path, registry: Registry, method: str, name: str, units: str
) -> None:
    text = card(tmp_path, registry, method)
    assert name in text
    assert f"| 1,234 {units} |" in text
    assert "| beta | 0.1 |" in text


def test_it_quotes_no_data_and_no_path_of_this_machine(tmp_path: Path, registry: Registry) -> None:
    text = card(tmp_path, registry)
    for hidden in ("40317", "somebody", str(tmp_path), "beta"):
        assert hidden not in text


def test_parity_and_judges_verdicts_are_in_it(tmp_path: Path, registry: Registry) -> None:
    served = ServedParity(asked=16, same_text=15, tokens=400, agreement=0.995)
    parity = Parity(
        checked=utcnow(), probes=64, source="held-out conversations", tokens=2_000, difference=2e-5, limit=1e-4,
        same_greedy="16 of 16", dtype="bfloat16", agreement=0.9912, kl=0.0003, served=served,
    )  # fmt: skip
    database = registry.database
    for number, result in enumerate(
        [
            {"model_a": "base", "model_b": "ft:base:acme:tickets"},
            {"model_a": "ft:base:acme:tickets", "model_b": "other"},
        ]
    ):
        job = enqueue(database, "judge", {})
        claim(database, "w")
        numbers = {"win_rate": 0.8, "low": 0.7, "high": 0.9, "judged": 50, "judge": "j", "trusted": not number}
        finish(database, job, "w", result=result | numbers)
    text = card(tmp_path, registry, parity=parity)
    for expected in (
        "99.12%", "99.50% of 400 tokens are the same; 15 of 16 answers are identical", "2e-05, 0.0001 allowed",
        "Passed",
        "| preferred to base | 80% (70% to 90%) of 50 pairs | j |",
        "| preferred to other | 20% (10% to 30%) of 50 pairs | j, a judge with low measured agreement with people |",
    ):  # fmt: skip
        assert expected in text, expected
    assert "**Refused**: it strays" in card(
        tmp_path, registry, parity=parity.model_copy(update={"refused": "it strays"})
    )


@pytest.mark.parametrize(
    ("files", "identifier", "words"),
    [
        ({}, None, UNKNOWN),
        ({"README.md": "No front matter."}, None, UNKNOWN),
        ({"README.md": "---\nlicense: [\n---"}, None, UNKNOWN),
        ({"README.md": "---\nlicense: unknown\n---"}, None, UNKNOWN),
        ({"README.md": "---\nlicense: mit\n---"}, "mit", "mit, as its card says"),
        ({"LICENSE.txt": "…"}, "other", "see the LICENSE file in its folder"),
    ],
)
def test_the_bases_licence_is_known_or_requested(
    tmp_path: Path, files: dict[str, str], identifier: str | None, words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    licence = licence_of(str(tmp_path))
    assert (licence.identifier, licence.description) == (identifier, words)
