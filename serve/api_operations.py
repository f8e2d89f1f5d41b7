"""The requests and responses of the model management routes, for validation and for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.http.bodies import Body
from models.http.operations import ListPage, Operation, Shape
from models.management.operations import JobEntry

_Name = Annotated[str, Field(min_length=1, max_length=255)]
_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Replicas = Annotated[int, Field(ge=1, le=64)]
_Count = Annotated[int, Field(ge=1, le=4096)]


class Engine(Body):
    """The options of a model's engine. Options that can run code are available on the command line only."""

    max_model_len: Annotated[int, Field(gt=0)] | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] | None = None
    tensor_parallel_size: _Count = 1
    pipeline_parallel_size: _Count = 1
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] | None = None
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] = 64
    tool_call_parser: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")] | None = None
    reasoning_parser: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")] | None = None
    chat_template: Literal["chatml", "gemma", "llama3", "mistral", "plain", "zephyr"] | None = Field(
        default=None, description="One of Parley's chat templates, instead of the model's own."
    )
    sleep_after_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    replicas: _Replicas = Field(default=1, description="Engines that serve the model.")
    max_replicas: _Replicas | None = Field(
        default=None, description="Start up to this many under load; `replicas` is then the minimum."
    )
    target_running: Annotated[int, Field(ge=1)] = Field(
        default=8, description="Requests that each replica should run at once before another one starts."
    )


class ModelAdd(Body):
    """A model to register: `path`, a folder on the server or a hub id, or `upstream`, an OpenAI-compatible URL."""

    name: _Name
    path: str | None = None
    kind: Literal["base", "merged", "adapter", "hosted"] | None = None
    base: _Name | None = None
    upstream: str | None = None
    upstream_model: _Name | None = None
    credential: str | None = Field(
        default=None, description="The name of the environment variable that holds the upstream's key."
    )
    fallbacks: list[_Name] = Field(default_factory=list)
    usd_per_million_input: _Usd | None = None
    usd_per_million_output: _Usd | None = None
    engine: Engine = Engine()
    description: str = ""
    pin: bool = False
    fold_system: bool = Field(
        default=False, description="Put system messages that the chat template does not support into user turns."
    )


class ModelImport(ModelAdd):
    """A model whose weights are changed first: a GGUF file, or an adapter to merge into its base."""

    merge: bool = Field(default=False, description="Merge the adapter in `path` into its base.")


class ModelMerge(Body):
    """The name of the merged model."""

    name: _Name


class ModelExport(Body):
    """The number format of a GGUF file, and its name in the folder `exports` of the server's home."""

    type: Literal["auto", "f32", "f16", "bf16", "q8_0"] = "auto"
    file: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$")] | None = Field(
        default=None, description="Default: made of the model's name and the type."
    )


class ModelScale(Body):
    """The number of a model's engines, or with `max_replicas` the bounds of that number."""

    replicas: _Replicas
    max_replicas: _Replicas | None = None
    target_running: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Null: unchanged.")


class ModelFallbacks(Body):
    """The ids of the models that answer while this one is down or starting, the first choice first; may be empty."""

    fallbacks: list[_Name]


class ModelEntry(Shape):
    """A registered model. `registered`: candidate, listed or retired. `state`: the best state of its engines.
    `ready_replicas`: how many engines serve it now.
    """

    id: str
    kind: str
    registered: str
    state: str
    message: str
    base: str | None
    path: str | None
    aliases: list[str]
    fallbacks: list[str]
    pinned: bool
    engine: dict[str, Any]
    ready_replicas: int
    created: str


class ModelsQuery(Shape):
    """Parameters of a list of models."""

    all: Literal["true", "false"] = Field(default="false", description="Whether retired models are included.")


class ModelEntries(ListPage):
    """The models, oldest first."""

    data: list[ModelEntry]


_MODELS, _TAG = "/v1/parley/models", "Management"
_MODEL = f"{_MODELS}/{{model}}"

OPERATIONS = (
    Operation("GET", _MODELS, "List models with their state.", _TAG, ModelEntries, query=ModelsQuery),
    Operation("POST", _MODELS, "Register a model.", _TAG, ModelEntry, body=ModelAdd, errors=(409,)),
    Operation(
        "POST", f"{_MODELS}/import", "Unpack a GGUF file or merge an adapter, in a job.", _TAG, JobEntry,
        body=ModelImport, errors=(409,),
    ),
    Operation(
        "POST", f"{_MODEL}/merge", "Merge a registered adapter in a job.", _TAG, JobEntry, body=ModelMerge,
        errors=(404, 409),
    ),
    Operation(
        "POST", f"{_MODEL}/export", "Write a model as a GGUF file in a job.", _TAG, JobEntry, body=ModelExport,
        errors=(404,),
    ),
    Operation("GET", _MODEL, "Show a model.", _TAG, ModelEntry, errors=(404,)),
    Operation("POST", f"{_MODEL}/load", "Start a model's engine.", _TAG, ModelEntry, errors=(404,)),
    Operation(
        "POST", f"{_MODEL}/unload", "Stop a model's engine until the next request.", _TAG, ModelEntry,
        errors=(404, 409),
    ),
    Operation("POST", f"{_MODEL}/pin", "Keep a model's engine in memory.", _TAG, ModelEntry, errors=(404,)),
    Operation("POST", f"{_MODEL}/unpin", "Allow a model's engine to be stopped.", _TAG, ModelEntry, errors=(404,)),
    Operation(
        "POST", f"{_MODEL}/fallbacks", "Set a model's fallbacks.", _TAG, ModelEntry, body=ModelFallbacks,
        errors=(404,),
    ),
    Operation(
        "POST", f"{_MODEL}/scale", "Change the number of a model's engines.", _TAG, ModelEntry, body=ModelScale,
        errors=(404,),
    ),
    Operation("POST", f"{_MODEL}/retire", "Stop serving a model.", _TAG, ModelEntry, errors=(404, 409)),
)  # fmt: skip
