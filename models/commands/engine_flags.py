"""The command-line options of a model's engine, shared by `parley models add` and `parley serve`."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

_PANEL = "Engine"


def _option(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_PANEL)


@dataclass(frozen=True)
class EngineFlags:
    """The engine options of a base or merged model. An adapter runs on its base's engine."""

    max_model_len: Annotated[int | None, _option("Context length in tokens. Default: the model's own.")] = None
    dtype: Annotated[str, _option("auto, bfloat16, float16 or float32.")] = "auto"
    quantization: Annotated[
        str | None,
        _option("vLLM's quantization method, such as fp8 or bitsandbytes. Default: as declared by the weights."),
    ] = None
    tensor_parallel_size: Annotated[int, _option("GPUs that share each layer.")] = 1
    pipeline_parallel_size: Annotated[int, _option("Groups of GPUs that each hold some of the layers.")] = 1
    gpu_share: Annotated[
        float | None, _option("Share of each GPU's memory, 0 to 1. Default: engines share a GPU equally.")
    ] = None
    max_lora_rank: Annotated[int, _option("Highest rank of the model's LoRA adapters.")] = 64
    tool_call_parser: Annotated[
        str | None, _option("vLLM's parser for tool calls, or none. Default: chosen by the model's family.")
    ] = None
    reasoning_parser: Annotated[
        str | None, _option("vLLM's parser for reasoning, or none. Default: chosen by the model's family.")
    ] = None
    chat_template: Annotated[
        str | None,
        _option("chatml, gemma, llama3, mistral, plain, zephyr, or a Jinja file. Default: the model's own template."),
    ] = None
    trust_remote_code: Annotated[bool, _option("Run code that comes with the weights. Read it first.")] = False
    sleep_after: Annotated[
        float | None,
        _option("Stop the engine after this many seconds without a request. Default: engine_sleep_after_s."),
    ] = None
    replicas: Annotated[int, _option("Engines that serve the model, each with its own memory.")] = 1
    max_replicas: Annotated[
        int | None,
        _option("Start up to this many under load; --replicas is then the minimum. Default: a fixed number."),
    ] = None
    target_running: Annotated[
        int, _option("Requests that each replica should run at once before another one starts.")
    ] = 8
    engine_arg: Annotated[
        list[str] | None, _option("Another argument for vLLM, as --engine-arg=--NAME=VALUE. Repeatable.")
    ] = None

    def options(self) -> dict[str, Any]:
        """The values as fields of `models.spec.EngineOptions`."""
        values = dict(vars(self))
        values["gpu_memory_share"] = values.pop("gpu_share")
        values["sleep_after_s"] = values.pop("sleep_after")
        values["extra_args"] = tuple(values.pop("engine_arg") or ())
        if self.chat_template is not None:
            from models.chat_templates import read_template

            values["chat_template"] = read_template(self.chat_template)
        return values
