"""Engine options: from the command to vLLM's arguments, refused in one line before a model is registered."""

from pathlib import Path

import pytest

from models.commands.engine_flags import EngineFlags
from models.database import Database
from models.errors import Invalid
from models.registry.new_model import NewModel
from models.registry.registry import Registry
from serve.fleet.placement import Share
from serve.fleet.vllm_command import command
from tests.models.folders import write_model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of a model with 12 attention heads and 4 layers."""
    return write_model(tmp_path, num_attention_heads=12, num_hidden_layers=4)


def register(database: Database, weights: Path, **flags: object):
    engine = EngineFlags(**flags).options()  # type: ignore[arg-type] -- values of several types
    return Registry(database).register(NewModel("m", path=str(weights), engine=engine).spec())


def test_options_reach_the_engine(database: Database, weights: Path) -> None:
    register(
        database, weights, tensor_parallel_size=2, pipeline_parallel_size=2, quantization="fp8", gpu_share=0.5,
        max_lora_rank=100, sleep_after=600, engine_arg=["--swap-space=4", "--no-enable-prefix-caching"],
    )  # fmt: skip
    spec = Registry(database).resolve("m")
    assert (spec.engine.gpus, spec.engine.gpu_memory_share, spec.engine.sleep_after_s) == (4, 0.5, 600)
    share = Share("cuda", gpus=(0, 1, 2, 3), gpu_memory_share=0.5)
    argv = " ".join(command(spec, share, port=1, key="k", adapters=0).argv)
    for part in (
        "--tensor-parallel-size 2 --pipeline-parallel-size 2 --quantization fp8", "--max-lora-rank 128",
        "--gpu-memory-utilization 0.500",
    ):  # fmt: skip
        assert part in argv
    assert argv.endswith("--swap-space=4 --no-enable-prefix-caching")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tensor_parallel_size": 5}, "'m' has 12 attention heads, which 5 GPUs cannot share equally"),
        ({"pipeline_parallel_size": 5}, "'m' has 4 layers"),
        ({"tensor_parallel_size": 0}, "engine.tensor_parallel_size"),
        ({"gpu_share": 1.5}, "engine.gpu_memory_share"),
        ({"quantization": "fp8 --api-key x"}, "engine.quantization"),
        ({"sleep_after": 0}, "engine.sleep_after_s"),
        ({"max_lora_rank": 513}, "rank 512 at most, not 513: use 8, 16, 32, 64, 128, 256, 320, 512, and merge"),
        ({"engine_arg": ["--swap-space", "4"]}, "'4' is not an engine argument"),
        ({"engine_arg": ["--host=0.0.0.0"]}, "Parley sets --host itself"),
        ({"engine_arg": ["--api_key=x"]}, "Parley sets --api_key itself"),
        ({"engine_arg": ["--no-enable-lora"]}, "Parley sets --no-enable-lora itself"),
        ({"engine_arg": ["-tp=2"]}, "'-tp=2' is not an engine argument"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    database: Database, weights: Path, flags: dict[str, object], message: str
) -> None:
    with pytest.raises(Invalid) as refused:
        register(database, weights, **flags)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert Registry(database).list() == []


@pytest.mark.parametrize("place", [{"base": "b", "kind": "adapter", "path": "org/lora"}, {"upstream": "http://u/v1"}])
def test_a_model_without_an_engine_of_its_own_takes_no_options(place: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="does not have its own engine"):
        NewModel("m", engine=EngineFlags(tensor_parallel_size=2).options(), **place).spec()  # type: ignore[arg-type] -- values of several types
