"""Models from elsewhere: adapters that no engine loads are merged, and GGUF files unpacked, by `models add`.

Shapes of public reports: rank over the engine's (gpustack#5438), added tokens (peft#1457, axolotl#2277), a head trained
apart from tied embeddings (peft#2777).
"""

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter
from typer.testing import CliRunner

import parley as front_door
from models.database import utcnow
from models.errors import Conflict, Invalid, Unavailable
from models.jobs import jobs, worker
from models.registry.new_model import NewModel
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings
from models.spec import ModelSpec
from models.tables import JobRow
from models.terminal import Home
from models.weights import tensor_shapes
from tests.stack import ROOT
from tests.train.publication.gguf_files import write_gguf
from train.publication.foreign_models import merge_adapter, unpack_gguf
from train.publication.gguf_export import ExportFailed, export_gguf
from train.run.progress import silent
from train.worker.model_child import find_earlier

pytestmark = pytest.mark.training
Tune = Callable[..., Path]


@pytest.fixture
def opened(house: tuple[Settings, Registry]) -> Home:
    settings, registry = house
    return Home(settings, registry.database, registry)


@pytest.fixture(scope="module")
def tune(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Tune:
    """Writes an adapter as PEFT saves it, with its tokenizer; `tokens` are added first."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(tokens: tuple[str, ...] = (), **config: Any) -> Path:
        folder = tmp_path_factory.mktemp("foreign") / "adapter"
        tokenizer = AutoTokenizer.from_pretrained(str(tiny_base))
        model = AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)
        if tokens:
            tokenizer.add_tokens(list(tokens))
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        config = {"r": 4, "task_type": "CAUSAL_LM", "target_modules": ["q_proj"]} | config
        adapted: Any = get_peft_model(model, LoraConfig(**config))
        torch.manual_seed(3)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        adapted.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        return folder

    return make


@pytest.mark.parametrize(
    ("name", "tokens", "config", "reason"),
    [
        ("rank", (), {"r": 128}, "its rank 128 is above 64"),
        ("resized", ("<|a|>", "<|b|>"), {}, "it adds tokens"),
        ("head", ("<|a|>",), {"target_modules": ["q_proj", "embed_tokens"]}, "it adds tokens"),
        ("saved", (), {"modules_to_save": ["lm_head"], "bias": "all"}, r"it trains biases \(bias: all\)"),
    ],
)
def test_an_adapter_that_is_refused_is_merged_by_the_command_of_the_refusal(
    opened: Home, tune: Tune, name: str, tokens: tuple[str, ...], config: dict[str, Any], reason: str
) -> None:
    adapter = tune(tokens, **config)
    # Other files that a downloaded folder may contain.
    (adapter / "training-logs").mkdir()
    (adapter / "training-secret").symlink_to("/etc/passwd")
    (adapter / "probes.json").write_text('{"source": 1, "conversations": [{"messages": [{"text": "x"}]}, 5]}')
    new = NewModel(name, path=str(adapter), base="tiny", fallbacks=("tiny",), fold_system=True)
    with pytest.raises(Invalid, match=f"{reason}.*--merge"):
        new.register(opened.registry)
    with pytest.raises(Invalid, match="fallback 'nobody' is not registered"):
        merge_adapter(opened.registry, opened.settings, replace(new, fallbacks=("nobody",)), silent)
    spec = merge_adapter(opened.registry, opened.settings, new, silent)
    assert (spec.kind, spec.base, spec.fallbacks, spec.fold_system) == ("merged", "tiny", ("tiny",), "later")
    assert spec.parity is not None
    assert spec.parity.difference is not None
    assert spec.parity.difference <= (spec.parity.limit or 0)
    assert spec.folder is not None
    rows = tensor_shapes(spec.folder / "model.safetensors")["model.embed_tokens.weight"][0]
    assert rows == json.loads((spec.folder / "config.json").read_text())["vocab_size"] == 259 + len(tokens)
    known = {token["content"] for token in json.loads((spec.folder / "tokenizer.json").read_text())["added_tokens"]}
    assert known >= set(tokens)
    assert not list(spec.folder.glob("training-*"))


def test_generation_settings_that_transformers_refuses_to_write_are_kept(tiny_base: Path, tmp_path: Path) -> None:
    """A temperature beside `do_sample: false`, as many public models have it."""
    from transformers import AutoModelForCausalLM

    from train.trainers.adapters import write_model

    model: Any = AutoModelForCausalLM.from_pretrained(str(tiny_base))
    settings = model.generation_config
    settings.temperature, settings.top_p, settings.do_sample = 0.9, 0.6, False
    write_model(model, tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert (written["temperature"], written["top_p"]) == (0.9, 0.6)
    assert model.generation_config is settings
    again: Any = AutoModelForCausalLM.from_pretrained(str(tmp_path))
    assert again.generation_config.temperature == 0.9


def test_new_tokens_without_embeddings_are_refused(opened: Home, tune: Tune) -> None:
    from safetensors.torch import load_file, save_file

    adapter = tune(("<|a|>",))
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "lora" in name}, file)
    with pytest.raises(Invalid, match=r"has 260 tokens, but 'tiny' has embeddings for 259.*save_embedding_layers=True"):
        merge_adapter(opened.registry, opened.settings, NewModel("x", path=str(adapter), base="tiny"), silent)


def test_a_gguf_file_is_unpacked_and_registered(
    opened: Home, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = write_gguf(tiny_base, tmp_path / "Tiny-F32.gguf")
    monkeypatch.setenv("PARLEY_HOME", str(opened.settings.home))
    done = CliRunner().invoke(front_door.build(), ["models", "add", str(file)])
    assert done.exit_code == 0, done.output
    assert "Unpacking Tiny-F32.gguf: 90,880 weights" in done.output
    spec = opened.registry.resolve("Tiny-F32")
    assert spec.folder is not None
    assert spec.folder.is_relative_to(opened.settings.models_dir)
    assert (spec.folder / "chat_template.jinja").read_text() == (tiny_base / "chat_template.jinja").read_text()
    models = [
        AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32) for folder in (tiny_base, spec.folder)
    ]
    for (name, tensor), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert torch.equal(tensor, other), name
    text = "where is order 4031?"
    assert AutoTokenizer.from_pretrained(str(spec.folder))(text) == AutoTokenizer.from_pretrained(str(tiny_base))(text)
    with pytest.raises(Conflict, match="is taken"):
        unpack_gguf(opened.registry, opened.settings, NewModel("Tiny-F32", path=str(file)), silent)
    small = write_gguf(tiny_base, tmp_path / "q8.gguf", "Q8_0", bos=True)
    quantised = unpack_gguf(opened.registry, opened.settings, NewModel("q8", path=str(small)), silent)
    begins = AutoTokenizer.from_pretrained(str(quantised.folder))
    assert begins(text)["input_ids"] == [begins.bos_token_id, *begins(text, add_special_tokens=False)["input_ids"]]
    got = AutoModelForCausalLM.from_pretrained(str(quantised.folder), dtype=torch.float32).model.embed_tokens.weight
    assert 0 < (got - models[0].model.embed_tokens.weight).abs().max() < 0.02
    part = tmp_path / "big-00001-of-00003.gguf"
    part.write_bytes(file.read_bytes())
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a GGUF file" * 100)
    short, cut = tmp_path / "short.gguf", tmp_path / "cut.gguf"
    short.write_bytes(b"GGUF")
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    images = tmp_path / "mmproj-Tiny.gguf"
    writer = GGUFWriter(images, "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for path, message in (
        (part, "is one of 3 parts"),
        (broken, "is damaged, incomplete or no GGUF file: download it again"),
        (short, "is damaged, incomplete or no GGUF file: download it again"),
        (cut, "is damaged, incomplete or no GGUF file: download it again"),
        (images, "reads images"),
    ):
        with pytest.raises(Invalid, match=message):
            unpack_gguf(opened.registry, opened.settings, NewModel("x", path=str(path)), silent)
    assert "x" not in {model_spec.id for model_spec in opened.registry.list(include_candidates=True)}


CONVERTER = """#!/usr/bin/env python3
import pathlib, sys
folder, _, out, _, kind = sys.argv[1:]
if kind == "q8_0":
    sys.exit("NotImplementedError: BPE pre-tokenizer was not recognized")
pathlib.Path(out).write_text(f"{pathlib.Path(folder).name} {kind}")
"""


def test_a_model_is_exported_by_llama_cpps_converter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, database: Any
) -> None:
    registry = Registry(database)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    base = registry.register(ModelSpec(id="base", kind="base", path=str(folder)))
    adapter = registry.register(ModelSpec(id="tuned", kind="adapter", path=str(folder), base="base", lora_rank=8))
    remote = registry.register(ModelSpec(id="hub", kind="base", path="org/name"))
    out = tmp_path / "base.gguf"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"git clone .*convert_hf_to_gguf.py {folder} --outfile {out}`"):
        export_gguf(base, out)
    plain = tmp_path / "convert"
    plain.write_text("not a program")
    with pytest.raises(Unavailable, match=r"convert cannot be run, .*Permission denied"):
        export_gguf(base, out, converter=plain)
    converter = tmp_path / "convert_hf_to_gguf.py"
    converter.write_text(CONVERTER)
    converter.chmod(converter.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(ExportFailed, match="BPE pre-tokenizer was not recognized"):
        export_gguf(base, out, kind="q8_0")
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    done = CliRunner().invoke(front_door.build(), ["models", "export", "base", "--gguf", str(out), "--type", "f16"])
    assert done.exit_code == 0, done.output
    assert out.read_text() == "weights f16"
    assert not list(tmp_path.glob(".*"))
    for spec, message, error in (
        (adapter, "merge it first", Invalid), (remote, "on the hub", Invalid), (base, "exists already", Conflict),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            export_gguf(spec, out)


def run_job(opened: Home, kind: str, params: dict[str, Any], job_id: str = "") -> jobs.Job:
    """Runs a new job, or an earlier one again, as the worker does; returns the ended job."""
    if job_id:
        with opened.database.write() as session:
            session.get_one(JobRow, job_id).status = "queued"
    job_id = job_id or jobs.enqueue(opened.database, kind, params)
    job = jobs.claim(opened.database, "worker")
    assert job is not None
    worker.run_job(opened.settings, opened.database, front_door.JOB_HANDLERS, job, "worker")
    return jobs.get_job(opened.database, job_id)


def test_jobs_merge_and_export_as_the_commands_do(
    opened: Home, tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = NewModel("by-job", path=str(tune(r=128)), base="tiny")
    done = run_job(opened, "import-model", vars(new) | {"merge": True})
    assert (done.status, done.result) == ("succeeded", {"model": "by-job"}), done.error
    spec = opened.registry.resolve("by-job")
    assert spec.kind == "merged"
    assert spec.parity is not None
    # The worker was killed after the registration: the next one completes the check.
    interrupted = spec.parity.model_copy(update={"served": None, "not_served": "", "refused": ""})
    opened.registry.set_parity("by-job", interrupted, "candidate")
    done = run_job(opened, "import-model", {}, done.id)
    assert (done.status, done.result) == ("succeeded", {"model": "by-job"}), done.error
    checked = opened.registry.resolve("by-job").parity
    assert checked is not None
    assert checked.checked > interrupted.checked
    # A job that started later does not treat it as its own.
    later = {"kind": "import-model", "params": done.params, "started": utcnow().isoformat()}
    assert find_earlier(later, opened.registry, opened.settings) is None
    # An unpacked GGUF file that was registered as merged weights belongs to its job too.
    assert done.started is not None
    unpacked = {"kind": "import-model", "params": {"name": "by-job"}, "started": done.started.isoformat()}
    assert find_earlier(unpacked, opened.registry, opened.settings) == opened.registry.resolve("by-job")
    converter = tmp_path / "convert_hf_to_gguf.py"
    converter.write_text(CONVERTER)
    converter.chmod(converter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_job(opened, "export-model", {"model": "by-job", "type": "f16", "file": "m.gguf"})
    file = opened.settings.home / "exports" / "m.gguf"
    assert done.result == {"model": "by-job", "file": str(file), "bytes": file.stat().st_size}
    # The worker was killed after the file was complete, and before that: the next one finishes the job.
    assert run_job(opened, "export-model", {}, done.id).result == done.result
    file.rename(file.with_name(".m.gguf.partial"))
    assert run_job(opened, "export-model", {}, done.id).result == done.result
    taken = run_job(opened, "export-model", done.params)
    assert (taken.status, "exists already" in str(taken.error)) == ("failed", True)
    failed = run_job(opened, "export-model", {"model": "by-job", "type": "q8_0", "file": "q.gguf"})
    assert (failed.status, "BPE pre-tokenizer was not recognized" in str(failed.error)) == ("failed", True)
    assert [path.name for path in file.parent.iterdir()] == ["m.gguf"]


@pytest.mark.long
def test_a_terminated_export_leaves_nothing(opened: Home, tiny_base: Path, tmp_path: Path) -> None:
    converter = tmp_path / "convert.py"
    converter.write_text(
        "import pathlib, sys, time\npathlib.Path(sys.argv[3]).write_text('half')\nprint(flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-m", "parley", "models", "export", "tiny", "--gguf", str(tmp_path / "m.gguf")]
    process = subprocess.Popen(
        [*command, "--converter", str(converter)], cwd=ROOT, env=child_environment(opened.settings)
    )
    partial = tmp_path / ".m.gguf.partial"
    deadline = time.monotonic() + 60
    while not partial.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 143
    assert list(tmp_path.iterdir()) == [converter]
