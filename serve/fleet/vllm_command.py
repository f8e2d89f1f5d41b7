"""vLLM as a program: its command line and environment. Nothing else knows vLLM's flags.

On this machine an engine listens on loopback only, behind a key that changes at every start, because several of vLLM's
routes ignore the key or change what it serves. Requests to an engine are in `serve.fleet.engine_api`.
"""

import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from models.compatibility.lora_support import LORA_RANKS, refuses_adapters
from models.settings.environment import engine_environment
from models.settings.hub import hub_variables
from models.spec import SCHEDULING_POLICY, ModelSpec
from serve.fleet import amx, engine_fork, lora_rows
from serve.fleet.model_files import find_chat_template, find_model_files
from serve.fleet.placement import Share
from serve.fleet.vllm_parsers import Parsers, parsers
from serve.processes.children import Command

MODULE: str = "vllm.entrypoints.openai.api_server"
LOOPBACK = "127.0.0.1"
_GRACE_S = 3.0
# As in "(EngineCore pid=95) ERROR 11-30 06:03:49 [core.py:15] ".
_LOG_PREFIX = r"(\(\w+ pid=\d+\) )?(\w+ [\d-]+ [\d:]+ \[[^]]+\] )?"
_MIN_SLOTS, _MAX_SLOTS = 4, 8
_SMALL_BYTES = 64 * 1024**2
# JSON is generated without whitespace, as at OpenAI: a weak model otherwise fills its tokens with it. That needs a
# named backend. Guidance supports most of JSON Schema, but only xgrammar the structural tags that vLLM's tool parsers
# use for `tool_choice`; guidance answers 400 (measured with 0.32).
_JSON = '{{"backend": "{}", "disable_any_whitespace": true}}'


@dataclass(frozen=True)
class Endpoint:
    """An engine's address, `http://127.0.0.1:port`, and its key."""

    address: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request to it."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class LaunchOptions:
    """How an engine is started. `lora`: with LoRA enabled, for merged models only once they have an adapter, as it
    costs speed.

    `embeds`: for embeddings instead of text. `parsers`: for tool calls and reasoning. `refuses_adapters`: why it can
    serve none, as a clause; empty if it can.
    """

    lora: bool
    embeds: bool
    parsers: Parsers
    refuses_adapters: str = ""


def launch_options(spec: ModelSpec, adapters: int) -> LaunchOptions:
    """The launch options of a model's engine, from its files and its number of adapters."""
    weights = find_model_files(spec)
    if weights.embeds:
        return LaunchOptions(lora=False, embeds=True, parsers=Parsers())
    # With LoRA enabled, an engine that does not support it fails at its start or at its first request.
    refused = refuses_adapters(weights.config) or ""
    lora = (spec.kind == "base" or adapters > 0) and not refused
    return LaunchOptions(lora, False, parsers(spec, weights, adapters=adapters > 0), refused)


def free_port(host: str = LOOPBACK) -> int:
    """A free port at an address of this machine."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def command(spec: ModelSpec, share: Share, *, port: int, key: str, adapters: int) -> Command:
    """The command that serves a base or merged model. `adapters`: its number of LoRA adapters."""
    options = spec.engine
    argv = [
        *(sys.executable, "-m", MODULE, "--model", str(spec.path), "--served-model-name", spec.id),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--dtype", options.dtype, "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        *("--uvicorn-log-level", "warning"),
    ]
    if options.takes_priorities:
        argv += [SCHEDULING_POLICY, "priority"]
    if options.max_model_len:
        argv += ["--max-model-len", str(options.max_model_len)]
    if options.tensor_parallel_size > 1:
        argv += ["--tensor-parallel-size", str(options.tensor_parallel_size)]
    if options.pipeline_parallel_size > 1:
        argv += ["--pipeline-parallel-size", str(options.pipeline_parallel_size)]
    if options.quantization:
        argv += ["--quantization", options.quantization]
    if options.trust_remote_code:
        argv += ["--trust-remote-code"]
    how = launch_options(spec, adapters)
    argv += ["--structured-outputs-config", _JSON.format("xgrammar" if how.parsers.tool_calls else "guidance")]
    if how.embeds:
        argv += ["--runner", "pooling"]
    if how.parsers.tool_calls:
        argv += ["--enable-auto-tool-choice", "--tool-call-parser", how.parsers.tool_calls]
    if how.parsers.reasoning:
        argv += ["--reasoning-parser", how.parsers.reasoning]
    if how.lora:
        # Slots take memory from the start; adapters beyond the slots take turns.
        slots = min(max(adapters, _MIN_SLOTS), _MAX_SLOTS)
        argv += ["--enable-lora", "--max-lora-rank", str(lora_rank(options.max_lora_rank))]
        argv += ["--max-loras", str(slots), "--max-cpu-loras", str(max(adapters, 2 * _MAX_SLOTS))]
    if (template := find_chat_template(spec)) is not None and not options.chat_template:
        # A template on the command line cannot be replaced by a request's.
        argv += ["--chat-template", str(template)]
    if share.device == "cpu":
        argv += ["--enforce-eager", "--kv-cache-memory-bytes", str(share.kv_cache_bytes)]
    else:
        argv += ["--gpu-memory-utilization", f"{share.gpu_memory_share:.3f}"]
    return Command(
        name=f"engine-{spec.id}",
        argv=(*argv, *options.extra_args),
        environment=_environment(spec, share, key),
        # With several ranks, vLLM binds them to cores itself.
        cores=share.cores if share.cores and options.gpus == 1 else None,
        grace_s=_GRACE_S,
        log_prefix=_LOG_PREFIX,
        consequences=("EngineDeadError", "Engine core initialization failed"),
    )


def with_cache(command: Command, folder: Path) -> Command:
    """The command with `folder` as torch's and Triton's compile cache, unless the environment names another.

    By default torch uses a folder under /tmp, which a reboot empties and whose name other users can guess.
    """
    folders = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
    # At the end: setproctitle, with which vLLM names its processes, needs the first variable to stay where it is, and
    # torch sets these again.
    chosen = dict(command.environment)
    return replace(command, environment=chosen | {name: chosen.get(name, path) for name, path in folders.items()})


def with_hub_token(command: Command, spec: ModelSpec, token: SecretStr | None) -> Command:
    """The command with the token for the hub, if its model is a hub id."""
    if spec.folder is not None or token is None:
        return command
    return replace(command, environment=dict(command.environment) | hub_variables(token))


def _environment(spec: ModelSpec, share: Share, key: str) -> dict[str, str]:
    extra = {
        "VLLM_API_KEY": key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOG_STATS_INTERVAL": "60",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "VLLM_MAX_N_SEQUENCES": "128",
        "VLLM_MAX_COMPLETION_PROMPTS": "128",
        "PYTHONUNBUFFERED": "1",
        # A process that a signal ends writes that signal to the log: the API server does not know why its core is gone.
        "PYTHONFAULTHANDLER": "1",
    }
    if spec.toy:
        # A model that was not trained to call tools fills a call with whitespace, which structural tags permit. Without
        # them vLLM constrains a forced call with a JSON schema, which does not.
        extra["VLLM_ENFORCE_STRICT_TOOL_CALLING"] = "0"
    if spec.folder is not None:
        extra |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if share.device == "cpu" and "--no-enforce-eager" not in spec.engine.extra_args:
        # Without this, such an engine compiles only the rank count of log-probabilities, with g++ at the first request
        # for them. That takes 16 s on idle cores and minutes on busy ones, and saves the time of two softmaxes a step.
        extra["TORCH_COMPILE_DISABLE"] = "1"
    if share.device == "cuda":
        extra["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, share.gpus))
        # The numbers are nvidia-smi's, and CUDA by itself counts the fastest card first.
        extra["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    elif spec.engine.gpus == 1:
        # One process less: the engine core computes by itself instead of starting a worker. On a CPU that halves
        # the start and saves half a GB for each engine. vLLM then leaves threads and cores to us.
        extra["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        extra["OMP_NUM_THREADS"] = str(threads(spec, share))
        # Threads that spin while they wait bring a busy machine to a halt: measured, 3 of them on 4 busy cores made
        # fewer than 10 tokens/s, where sleeping ones made 100 and one thread alone 330.
        extra["OMP_WAIT_POLICY"] = "PASSIVE"
    environment = engine_environment(**extra)
    if (allowed := environment.get("VLLM_PLUGINS")) is not None:
        # A list of the only plugins that vLLM may load: ours go with the operator's.
        plugins = (allowed, amx.PLUGIN, engine_fork.PLUGIN, lora_rows.PLUGIN)
        environment["VLLM_PLUGINS"] = ",".join(filter(None, plugins))
    return environment


def threads(spec: ModelSpec, share: Share) -> int:
    """The number of compute threads. A small model spends more time waiting for threads than computing, so it gets
    one.
    """
    cores = max(len(share.cores), 1)
    folder = spec.folder
    if folder is not None and sum(part.stat().st_size for part in folder.glob("*.safetensors")) < _SMALL_BYTES:
        return 1
    return cores - 1 if cores > 3 else cores


def lora_rank(wanted: int) -> int:
    """The smallest rank of at least `wanted` that vLLM allows."""
    return next((rank for rank in LORA_RANKS if rank >= wanted), LORA_RANKS[-1])
