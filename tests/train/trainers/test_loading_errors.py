"""Every failure to load a base or an adapter is a one-line error with its cure, whichever library raised it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid, ParleyError, Unavailable
from models.settings.settings import load_settings
from tests.models.folders import write_model
from train.trainers.bases import check_servable, find_base, load_model, load_tokenizer
from train.trainers.loading_errors import explain, translated_errors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4943162336\n"
Change = Callable[[Path], Any]


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def writing(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def without_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


CODE = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
FAULTS: dict[str, tuple[Change, str]] = {
    "awq": (config(quantization_config={"quant_method": "awq", "bits": 4}), r"quantised \(awq\).*original weights"),
    "gptq": (config(quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\).*--tune qlora"),
    "pointer": (writing("model.safetensors", POINTER), "Git LFS pointer: run `git lfs pull`"),
    "cut": (cut_short, "is incomplete.*download it again"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "a file is missing in its folder"),
    "lacking": (without_a_weight, "its files do not contain model.norm.weight, which its config.json requires"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer"),
    "tokenizer": (writing("tokenizer.json", '{"a": 1}'), "its tokenizer cannot be read: copy the tokenizer's files"),
    "json": (writing("config.json", '{"a"'), "a configuration file in its folder is damaged"),
    "unknown": (config(model_type="mythical"), "does not support its model type"),
    "pictures": (config(model_type="vit"), "choose a model for text generation"),
    "code": (config(model_type="mythical", auto_map=CODE), "needs code that comes with the model.*--trust-remote-code"),
    "width": (config(hidden_size=32), "its weights do not fit its config.json"),
    "layers": (config(num_hidden_layers=3), "holds a value that transformers does not accept"),
    "activation": (config(hidden_act="nosuch"), "names something that this version .* does not know"),
}


@pytest.mark.training
@pytest.mark.parametrize("fault", FAULTS)
def test_a_base_that_cannot_be_loaded(tiny_base: Path, tmp_path: Path, fault: str) -> None:
    import torch

    change, message = FAULTS[fault]
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    change(folder)
    base = find_base(folder)
    with pytest.raises(ParleyError, match=message) as caught:
        load_tokenizer(base)
        load_model(base, torch.float32, "cpu")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, Invalid | Unavailable)


def test_a_base_whose_code_is_not_trusted_names_the_option(tmp_path: Path) -> None:
    folder = write_model(tmp_path, model_type="mythical", architectures=["MythicalForCausalLM"], auto_map=CODE)
    with pytest.raises(
        Invalid, match=r"it does not support MythicalForCausalLM.*\(configuration_x.py, modeling_x.py\)"
    ):
        check_servable(find_base(folder))


@pytest.mark.training
def test_training_on_quantised_weights_is_refused_before_anything_is_read(tiny_base: Path, tmp_path: Path) -> None:
    from train import plan, train

    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    FAULTS["awq"][0](folder)
    for act in (train, plan):
        with pytest.raises(Invalid, match=r"The weights of 'base' are quantised \(awq\)"):
            act([{"prompt": "a", "completion": "b"}], base=str(folder), settings=load_settings(home=tmp_path / "home"))


ADAPTER_FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "family": ({"target_modules": ["query_key_value"]}, "", "made for a model of another family"),
    "newer": ({"peft_type": "FUTURE"}, "", "does not know: update them"),
    "names": ({}, "layers.", "names of their layers differ.*Give the base that it was trained on"),
    "size": ({}, "width", "trained on a model of another size"),
}


@pytest.mark.training
@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_an_adapter_that_does_not_belong_to_its_base(tiny_base: Path, tmp_path: Path, fault: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from tests.tiny_model import make_adapter
    from train.publication.adapted import load_adapted

    values, weights, message = ADAPTER_FAULTS[fault]
    folder = make_adapter(tmp_path / "adapter", tiny_base)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    tensors = load_file(folder / "adapter_model.safetensors")
    if weights == "layers.":
        tensors = {name.replace("layers.", "blocks."): tensor for name, tensor in tensors.items()}
    elif weights == "width":
        tensors = {
            name: tensor[:, :32].contiguous() if "lora_A" in name else tensor for name, tensor in tensors.items()
        }
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ParleyError, match=message) as caught:
        load_adapted(find_base(tiny_base), folder, torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("You are trying to access a gated repo.\nMake sure to have access"), "accept their terms.*HF_TOKEN"),
        (OSError("x/y is not a local folder and is not a valid model identifier listed on"), "check the name"),
        (OSError("We couldn't connect to 'https://hub' to load the files"), "the hub cannot be reached"),
        (
            ImportError("Loading it requires gptqmodel. Please install it with `pip install gptqmodel`"),
            "pip install gptq",
        ),
        (ModuleNotFoundError("No module named 'mamba_ssm'", name="mamba_ssm.ops"), "`pip install mamba_ssm`"),
        (ValueError("GGUF model with architecture nomic is not supported yet."), "use the model's original weights"),
        (RuntimeError("No GPU found. A GPU is needed for quantization."), "use the original weights"),
        (AttributeError("'X' object has no attribute 'y'"), r"no attribute 'y' \(AttributeError\)"),
        (OSError(), "OSError"),
    ],
)
def test_the_words_of_a_library_become_a_cure(error: Exception, message: str) -> None:
    with pytest.raises(Unavailable, match=message) as caught, translated_errors("The base 'x'"):
        raise error
    assert str(caught.value).startswith("The base 'x' cannot be loaded: ")
    assert "\n" not in explain(error)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried"), MemoryError(), OSError(28, "No space")])
def test_memory_and_disk_that_run_out_are_not_a_models_fault(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated_errors("The base 'x'"):
        raise error
    assert caught.value is error
