"""The command line and environment for vLLM; test_stack.py starts it."""

import sys
import time
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from models.settings.settings import load_settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import amx, engine_fork, engine_states, lora_rows, vllm_command
from serve.fleet.placement import Share
from serve.fleet.vllm_command import with_hub_token
from serve.processes.children import spawn

CPU = Share("cpu", cores=(2, 3), kv_cache_bytes=2**28)
GPU = Share("cuda", gpus=(1,), gpu_memory_share=0.45)


def made(
    spec: ModelSpec, share: Share = CPU, adapters: int = 0
) -> tuple[dict[str, str], set[str], vllm_command.Command]:
    command = vllm_command.command(spec, share, port=9000, key="secret", adapters=adapters)
    argv = command.argv
    values = {name: argv[i + 1] for i, name in enumerate(argv[:-1]) if name.startswith("--")}
    return values, set(argv), command


def base(**fields) -> ModelSpec:
    return ModelSpec(**({"id": "team/model", "kind": "base", "path": "org/name"} | fields))


def test_an_engine_has_its_id_on_loopback_behind_a_key() -> None:
    values, flags, command = made(base())
    assert values["--served-model-name"] == "team/model"
    assert values["--host"] == "127.0.0.1"
    assert command.environment["VLLM_API_KEY"] == "secret"
    assert not {"secret", "--trust-remote-code", "--enable-log-requests"} & flags
    assert "secret" not in repr(command)


def test_on_a_cpu_it_gets_cores_and_cache() -> None:
    values, flags, command = made(base())
    assert {"--enforce-eager", "--enable-lora"} <= flags
    assert values["--kv-cache-memory-bytes"] == str(2**28)
    assert values["--max-lora-rank"] == "64"
    assert command.cores == (2, 3)
    assert command.environment["OMP_NUM_THREADS"] == "2"
    assert command.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_its_plugins_are_installed_and_loaded_beside_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = {plugin.name: plugin for plugin in entry_points(group="vllm.general_plugins")}
    assert plugins[amx.PLUGIN].load() is amx.request_tiles
    assert plugins[engine_fork.PLUGIN].load() is engine_fork.fork_engine_core
    assert plugins[lora_rows.PLUGIN].load() is lora_rows.skip_rows_without_adapter
    assert "VLLM_PLUGINS" not in made(base())[2].environment
    monkeypatch.setenv("VLLM_PLUGINS", "theirs")
    assert made(base())[2].environment["VLLM_PLUGINS"] == "theirs,parley_amx,parley_fork,parley_lora_rows"


def test_on_a_gpu_it_gets_its_share_of_its_card() -> None:
    values, flags, command = made(base(), GPU)
    assert values["--gpu-memory-utilization"] == "0.450"
    assert "--enforce-eager" not in flags
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert command.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in command.environment


def test_options_become_flags() -> None:
    options = EngineOptions(
        dtype="float32", max_model_len=512, trust_remote_code=True, max_lora_rank=20, extra_args=("--seed", "7")
    )
    values, flags, _ = made(base(engine=options))
    assert (values["--dtype"], values["--max-model-len"], values["--seed"]) == ("float32", "512", "7")
    assert values["--max-lora-rank"] == "32"
    assert "--trust-remote-code" in flags


def test_a_toy_calls_tools_by_json_schema() -> None:
    strict = "VLLM_ENFORCE_STRICT_TOOL_CALLING"
    assert made(base(toy=True))[2].environment[strict] == "0"
    assert strict not in made(base())[2].environment


def test_a_merged_model_pays_for_lora_only_when_an_adapter_hangs_on_it() -> None:
    merged = base(kind="merged", base="other")
    assert "--enable-lora" not in made(merged)[1]
    assert "--enable-lora" in made(merged, adapters=1)[1]
    assert made(base(), adapters=20)[0]["--max-loras"] == "8"
    assert made(base(), adapters=20)[0]["--max-cpu-loras"] == "20"


def test_a_folder_is_served_offline_with_its_own_template_and_a_hub_id_is_not(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("x")
    values, _, command = made(base(path=str(tmp_path)))
    assert values["--chat-template"] == str(tmp_path / "chat_template.jinja")
    assert command.environment["HF_HUB_OFFLINE"] == "1"
    values, _, command = made(base())
    assert "--chat-template" not in values
    assert "HF_HUB_OFFLINE" not in command.environment


def test_a_small_model_computes_with_one_thread(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    share = Share("cpu", cores=tuple(range(8)), kv_cache_bytes=2**28)
    assert made(base(path=str(tmp_path)), share)[2].environment["OMP_NUM_THREADS"] == "1"
    assert made(base(), share)[2].environment["OMP_NUM_THREADS"] == "7"
    assert made(base(), share)[2].environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_no_secret_of_ours_reaches_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("PARLEY_DATABASE_URL", "postgresql://u:sk-very-secret@h/d")
    _, _, command = made(base())
    assert "sk-very-secret" not in str(dict(command.environment))


@pytest.mark.parametrize("source", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PARLEY_HUB_TOKEN", "parley.toml"])
def test_the_hubs_token_reaches_only_an_engine_that_fetches_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, home: Path, source: str
) -> None:
    if source == "parley.toml":
        home.mkdir(parents=True, exist_ok=True)
        (home / source).write_text('hub_token = "hf-hush"')
    else:
        monkeypatch.setenv(source, "hf-hush")
    token = load_settings(home=home).hub_token
    hub, folder = base(), base(path=str(home))
    assert with_hub_token(made(hub)[2], hub, token).environment["HF_TOKEN"] == "hf-hush"
    assert "hf-hush" not in str(dict(with_hub_token(made(folder)[2], folder, token).environment))
    assert "HF_TOKEN" not in with_hub_token(made(hub)[2], hub, None).environment


def test_a_folder_that_is_called_as_a_hub_id_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "chat_template.jinja").write_text("x")
    monkeypatch.chdir(tmp_path)
    values, _, command = made(base())
    assert "--chat-template" not in values
    assert "HF_HUB_OFFLINE" not in command.environment


def test_the_engines_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    engine_states.write_key(tmp_path, "one")
    engine_states.write_key(tmp_path, "two")
    assert engine_states.read_key(tmp_path) == "two"
    assert (tmp_path / "engine.key").stat().st_mode & 0o777 == 0o600
    assert engine_states.read_key(tmp_path / "nowhere") == ""


def test_an_architecture_without_lora_is_started_without_it(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"architectures": ["FalconForCausalLM"]}')
    assert "--enable-lora" not in made(base(path=str(tmp_path)))[1]
    config.write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert "--enable-lora" in made(base(path=str(tmp_path)))[1]


def test_an_engine_on_a_cpu_compiles_nothing_and_others_keep_what_they_compile(tmp_path: Path) -> None:
    name = "TORCH_COMPILE_DISABLE"
    assert made(base())[2].environment[name] == "1"
    assert name not in made(base(engine=EngineOptions(extra_args=("--no-enforce-eager",))))[2].environment
    command = made(base(), GPU)[2]
    assert name not in command.environment
    kept = vllm_command.with_cache(replace(command, environment={}), tmp_path).environment
    assert kept["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    chosen = replace(command, environment={"TRITON_CACHE_DIR": "/elsewhere"})
    assert vllm_command.with_cache(chosen, tmp_path).environment["TRITON_CACHE_DIR"] == "/elsewhere"


def test_an_engines_last_log_line_is_that_of_the_process_that_failed(tmp_path: Path) -> None:
    lines = (
        "(EngineCore pid=95) ERROR 11-30 06:03:49 [core.py:1512] AttributeError: no attribute 'bfloat16'",
        "(APIServer pid=86) ERROR 11-30 06:03:49 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: it died",
        "(APIServer pid=86) RuntimeError: Engine core initialization failed. See root cause above.",
    )
    argv = (sys.executable, "-S", "-c", f"print({chr(10).join(lines)!r})")
    process = spawn(replace(made(base())[2], argv=argv), tmp_path)
    while process.exit_code() is None:
        time.sleep(0.01)
    assert process.exit_reason() == "ended with status 0: AttributeError: no attribute 'bfloat16'"


def test_requests_may_have_a_priority_unless_the_operator_sets_a_policy() -> None:
    assert made(base())[0]["--scheduling-policy"] == "priority"
    for argument in ("--scheduling-policy=fcfs", "--scheduling_policy=fcfs"):
        spec = base(engine=EngineOptions(extra_args=(argument,)))
        assert not spec.engine.takes_priorities
        assert "priority" not in made(spec)[1]
