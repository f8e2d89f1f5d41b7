"""Model folders in the shapes of public bug reports: each is refused with a one-line cure.

LFS pointers: transformers#27923; embeddings of another vocabulary: peft#1457, axolotl#2277; modules_to_save: vllm#9280;
embed_tokens: vllm-ascend#2034; rank over the engine's: gpustack#5438.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import weights
from models.database import Database
from models.errors import Invalid, ParleyError
from models.registry.new_model import NewModel
from models.registry.registry import Registry
from tests.models.folders import write_adapter, write_model, write_tensors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4943162336\n"


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def pointer(folder: Path) -> None:
    write_model(folder)
    (folder / "model.safetensors").write_text(POINTER)


def without_shard(folder: Path) -> None:
    write_model(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")


def without_indexed_file(folder: Path) -> None:
    write_model(folder)
    index = {"weight_map": {"a": "model.safetensors", "b": "second.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut_short(folder: Path) -> None:
    file = write_tensors(write_model(folder) / "model.safetensors", weight=(64,))
    file.write_bytes(file.read_bytes()[:-8])


def without(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write_model(folder)
        (folder / name).unlink()

    return make


def with_config(**config: Any) -> Callable[[Path], None]:
    return lambda folder: write_model(folder, **config) and None


def pickled(folder: Path) -> None:
    without("model.safetensors")(folder)
    (folder / "pytorch_model.bin").touch()


def nested(folder: Path) -> None:
    write_model(folder / "checkpoint-500")


def broken_link(folder: Path) -> None:
    write_model(folder)
    (folder / "model-2.safetensors").symlink_to(folder / "nowhere")


def unfinished(folder: Path) -> None:
    (write_model(folder) / "model-2.safetensors.incomplete").touch()


def adapter_weights_alone(folder: Path) -> None:
    (write_adapter(folder) / "adapter_config.json").unlink()


def both(folder: Path) -> None:
    write_adapter(write_model(folder))


CODE = {"model_type": "mythical", "architectures": ["MythicalForCausalLM"]}
SHAPES: list[tuple[Callable[[Path], None], str]] = [
    (pointer, "is a Git LFS pointer, not the file itself: run `git lfs install && git lfs pull`"),
    (
        without_shard,
        "is incomplete: model-00002-of-00003.safetensors and 1 more of its 3 weight files are missing.",
    ),
    (without_indexed_file, "is incomplete: second.safetensors of its 2 weight files"),
    (cut_short, "is incomplete ("),
    (without("tokenizer.json"), "holds no tokenizer (tokenizer.json or tokenizer.model): copy the tokenizer's files"),
    (without("config.json"), "holds weights but no config.json"),
    (with_config(architectures=[]), "names no architecture"),
    (with_config(**CODE | {"architectures": "MythicalForCausalLM"}), "support the architecture MythicalForCausalLM."),
    (
        with_config(**CODE),
        "does not support the architecture MythicalForCausalLM. Choose another model, or install a newer vLLM",
    ),
    (
        with_config(**CODE, auto_map={"AutoModelForCausalLM": "modeling_mythical.MythicalForCausalLM"}),
        "needs code that comes with the model (modeling_mythical.py): read it",
    ),
    (pickled, "Other formats can run code when loaded: load it with transformers"),
    (nested, "but checkpoint-500 in it holds a model: give"),
    (broken_link, "is a link to a missing file"),
    (unfinished, "is an unfinished download"),
    (both, "holds an adapter and whole weights"),
    (with_config(quantization={"group_size": 64, "bits": 4}), "quantised for MLX, which vLLM cannot load. Use the"),
    (with_config(quantization_config={"quant_method": "exl2"}), "does not support its quantisation (exl2). Use the"),
    (adapter_weights_alone, "holds an adapter's weights but no adapter_config.json"),
]


@pytest.mark.parametrize(("make", "message"), SHAPES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_folder_that_no_engine_can_load(
    tmp_path: Path, registry: Registry, make: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "stranger"
    make(folder)
    with pytest.raises(Invalid) as refused:
        NewModel("m", path=str(folder)).register(registry)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.param == "path"
    assert registry.list() == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "model_type": "phi3",
            "architectures": ["Phi3ForCausalLM"],
            "auto_map": {"AutoConfig": "configuration_phi3.X"},
        },
        {"model_type": "chatglm", "architectures": ["ChatGLMModel"], "auto_map": {"AutoConfig": "configuration_x.X"}},
        # Not in vLLM's registry; its Transformers backend serves it.
        {"model_type": "helium", "architectures": ["HeliumForCausalLM"]},
    ],
)
def test_a_whole_folder_is_registered_with_code_that_is_not_needed(
    tmp_path: Path, registry: Registry, config: dict[str, Any]
) -> None:
    spec = NewModel("m", path=str(write_model(tmp_path / "m", **config))).register(registry)
    assert (spec.kind, registry.resolve("m")) == ("base", spec)


def test_code_of_its_own_is_accepted_where_it_is_trusted(tmp_path: Path, registry: Registry) -> None:
    folder = write_model(tmp_path / "m", **CODE, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    assert NewModel("m", path=str(folder), engine={"trust_remote_code": True}).register(registry).kind == "base"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/data/lama-3", "There is no folder"),
        ("~/no-such-folder-here", "There is no folder"),
        ("a/b/c", "A hub id has the form owner/name"),
        ("llama", "A hub id has the form owner/name"),
        ("{}/lama", "but there is {}/llama."),
        ("{}/model.gguf", "is a GGUF file, which must be unpacked first"),
        ("{}/model.tar.gz", "is an archive: unpack it"),
        ("{}/llama/model.safetensors", "is a file: give the folder that holds it"),
    ],
)
def test_a_path_that_is_no_folder(tmp_path: Path, registry: Registry, path: str, message: str) -> None:
    write_model(tmp_path / "llama")
    (tmp_path / "model.gguf").touch()
    (tmp_path / "model.tar.gz").touch()
    with pytest.raises(Invalid) as refused:
        NewModel("m", path=path.format(tmp_path)).register(registry)
    assert message.format(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 128}, "its rank 128 is above 64, the limit of its base's engine. Merge it: `parley models add a "),
        ({"use_dora": True}, "it is a DoRA adapter"),
        ({"modules_to_save": ["lm_head"]}, "it trains whole modules (lm_head)"),
        ({"target_modules": ["q_proj", "lm_head"]}, "it changes lm_head"),
        ({"bias": "all"}, "it trains biases (bias: all)"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "it changes single parameters"),
        ({"trainable_token_indices": [7]}, "the embeddings of single tokens"),
        ({"peft_type": "IA3", "r": None}, "it is an adapter of type IA3"),
    ],
)
def test_an_adapter_that_its_bases_engine_cannot_load_is_to_be_merged(
    tmp_path: Path, registry: Registry, config: dict[str, Any], message: str
) -> None:
    NewModel("llama", path=str(write_model(tmp_path / "llama"))).register(registry)
    folder = write_adapter(tmp_path / "a", **config)
    with pytest.raises(Invalid) as refused:
        NewModel("a", path=str(folder), base="llama").register(registry)
    assert message in str(refused.value)
    assert str(refused.value).endswith(f"`parley models add a --path {folder} --base llama --merge`.")


def test_facts_that_only_an_adapters_files_show(tmp_path: Path, registry: Registry) -> None:
    """Its configuration can be silent: target_modules is a pattern, or PEFT has stored resized embeddings."""
    base = write_model(tmp_path / "llama", hidden_size=64, num_hidden_layers=2)
    (base / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    NewModel("llama", path=str(base)).register(registry)

    def refusal(*, paired: bool = True, **shapes: tuple[int, ...]) -> str:
        folder = write_adapter(tmp_path / "a", target_modules=".*", base_model_name_or_path="org/wide")
        pairs = {name.replace("lora_A__w", "lora_B__w"): (*shape[1:], shape[0]) for name, shape in shapes.items()}
        write_tensors(folder / "adapter_model.safetensors", **(pairs if paired else {}) | shapes)
        with pytest.raises(Invalid) as refused:
            NewModel("a", path=str(folder), base="llama").register(registry)
        return str(refused.value)

    stem = "base_model__model__model__"
    norm = refusal(**{f"{stem}norm__weight": (64,)})
    assert "it holds whole weights (base_model.model.model.norm.weight), which vLLM cannot load. Merge it" in norm
    unsaved = refusal(**{f"{stem}layers__0__self_attn__q_proj__lora_A__default__weight": (8, 64)})
    assert "is not as PEFT saves it (base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight)" in unsaved
    assert "holds no weights, as a run with DeepSpeed" in refusal(**{f"{stem}norm__lora_A__weight": (0,)})
    assert "it changes lm_head" in refusal(base_model__model__lm_head__lora_A__weight=(8, 64))
    assert "it changes embed_tokens" in refusal(**{f"{stem}embed_tokens__base_layer__weight": (2, 64)})
    single = refusal(paired=False, **{f"{stem}layers__0__self_attn__q_proj__lora_A__weight": (8, 64)})
    q_proj = "base_model.model.model.layers.0.self_attn.q_proj"
    assert f"it has {q_proj}.lora_A.weight, but not {q_proj}.lora_B.weight. Copy the adapter again." in single
    wide = refusal(**{f"{stem}layers__0__self_attn__q_proj__lora_A__weight": (8, 128)})
    assert wide == (
        "The adapter does not fit 'llama': its layers are 128 wide, and the base's are 64 wide. "
        "Give the base that it was trained on, 'org/wide'."
    )
    assert "it changes layer 8, and the base has 2 layers" in refusal(
        **{f"{stem}layers__7__mlp__up_proj__lora_A__weight": (8, 64)}
    )
    fits = {
        f"{stem}layers__1__mlp__up_proj__lora_A__weight": (8, 64),
        f"{stem}vision__blocks__9__q__lora_A__weight": (8, 9),
    }
    (tmp_path / "a" / "chat_template.jinja").write_text("{{ messages }}")
    assert "a chat template other than its base's" in refusal(**fits)
    (base / "chat_template.jinja").write_text("{% generation %}{{ messages }}{% endgeneration %}\n")
    (tmp_path / "a" / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"content": "a", "id": 0}, {"content": "<b>", "id": 1}]})
    )
    assert "it adds tokens that its base does not have (1: <b>)" in refusal(**fits)
    (tmp_path / "a" / "tokenizer.json").unlink()
    NewModel("a", path=str(tmp_path / "a"), base="llama").register(registry)
    assert registry.resolve("a").base == "llama"


def test_an_adapter_for_another_architecture_is_refused(tmp_path: Path, registry: Registry) -> None:
    base = write_model(tmp_path / "llama")
    write_tensors(base / "model.safetensors", model__layers__0__self_attn__q_proj__weight=(1, 1))
    NewModel("llama", path=str(base)).register(registry)

    def add(name: str, module: str) -> None:
        folder = write_adapter(tmp_path / name)
        stem = f"base_model__model__{module}__lora_"
        write_tensors(folder / "adapter_model.safetensors", **{f"{stem}{side}__weight": (1, 1) for side in "AB"})
        NewModel(name, path=str(folder), base="llama").register(registry)

    with pytest.raises(Invalid, match=r"changes attention\.query_key_value of a layer, and the base's layers have no"):
        add("neox", "gpt_neox__layers__0__attention__query_key_value")
    add("renamed", "model__language_model__layers__0__self_attn__q_proj")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("F64", b"\0" * 6 + b"\xf0\x7f"), ("F32", b"\0\0\xc0\x7f"), ("F16", b"\0\xfc"), ("BF16", b"\x80\x7f")],
    ids=["infinity", "NaN", "minus infinity", "bfloat16"],
)
def test_an_adapter_whose_values_are_not_finite_is_refused(
    dtype: str, value: bytes, tmp_path: Path, registry: Registry
) -> None:
    NewModel("llama", path=str(write_model(tmp_path / "llama"))).register(registry)
    folder = write_adapter(tmp_path / "a")
    layer = "base_model.model.model.layers.0.self_attn.o_proj"
    ends = {"F64": b"\xff\xef\x7f", "F32": b"\xff\x7f\x7f", "F16": b"\xff\x7b", "BF16": b"\x7f\x7f"}
    largest = ends[dtype].rjust(len(value), b"\xff")
    for content, finite in ((largest, True), (value, False)):
        size = len(content)
        header = {
            f"{layer}.lora_A.weight": {"dtype": dtype, "shape": (2, 1), "data_offsets": (0, 2 * size)},
            f"{layer}.lora_B.weight": {"dtype": dtype, "shape": (1, 2), "data_offsets": (2 * size, 4 * size)},
        }
        text = json.dumps(header).encode()
        data = bytes(3 * size) + content
        (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        if finite:
            NewModel("whole", path=str(folder), base="llama").register(registry)
            continue
        with pytest.raises(Invalid, match=r"o_proj\.lora_B\.weight has values that are not finite"):
            NewModel("a", path=str(folder), base="llama").register(registry)


def test_a_broken_chat_template_is_refused_unless_another_is_given(tmp_path: Path, registry: Registry) -> None:
    folder = write_model(tmp_path / "llama")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}")
    with pytest.raises(Invalid, match=r"The chat template in .*llama is broken: .*endfor.* with --chat-template\."):
        NewModel("llama", path=str(folder)).register(registry)
    NewModel("llama", path=str(folder), engine={"chat_template": "{{ messages }}"}).register(registry)


def test_kind_and_base_are_read_from_the_files(tmp_path: Path, registry: Registry) -> None:
    whole = write_model(tmp_path / "llama")
    NewModel("llama", path=str(whole)).register(registry)
    assert NewModel("tuned", path=str(whole), base="llama").register(registry).kind == "merged"
    adapter = write_adapter(tmp_path / "a", base_model_name_or_path=str(whole))
    spec = NewModel("a", path=str(adapter)).register(registry)
    assert (spec.kind, spec.base, spec.lora_rank) == ("adapter", "llama", 8)
    registry.alias("main", "llama")
    assert NewModel("a2", path=str(adapter), base="main").register(registry).base == "llama"
    other = write_adapter(tmp_path / "b", base_model_name_or_path="meta/llama")
    for new, message in (
        (NewModel("x", path=str(other)), r"was trained on 'meta/llama', which is not registered: add that model"),
        (
            NewModel("x", path=str(adapter), kind="merged", base="llama"),
            r"holds an adapter, not whole weights.*--merge",
        ),
        (NewModel("x", path=str(whole), kind="adapter", base="llama"), "so it is not an adapter: leave --kind out"),
        (
            NewModel("x", path=str(write_adapter(tmp_path / "p", peft_type="PREFIX_TUNING", r=None))),
            "cannot be served or merged",
        ),
        (
            NewModel("x", path=str(write_adapter(tmp_path / "s", task_type="SEQ_CLS")), base="llama"),
            "does not generate",
        ),
    ):
        with pytest.raises(ParleyError, match=message):
            new.register(registry)


def test_an_adapter_without_its_weights(tmp_path: Path, registry: Registry) -> None:
    NewModel("llama", path=str(write_model(tmp_path / "llama"))).register(registry)
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_text(POINTER)
    faults = [(lambda: None, "Git LFS pointer"), (weights.unlink, "copy the adapter's weights into it")]
    for change, message in (*faults, ((folder / "adapter_model.bin").touch, "save it with save_pretrained")):
        change()
        with pytest.raises(Invalid, match=message):
            NewModel("a", path=str(folder), base="llama").register(registry)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[" * 100_000, "is not a safetensors file: download it again"),
        (b'{"w": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}', "is not a safetensors file"),
        (b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1e999]}}', "is not a safetensors file"),
    ],
)
def test_a_damaged_header_gives_a_one_line_error(
    tmp_path: Path, registry: Registry, header: bytes, message: str
) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(Invalid, match=message):
        NewModel("m", path=str(folder)).register(registry)


def test_a_header_larger_than_the_memory_gives_a_one_line_error(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(text: bytes) -> Any:
        raise MemoryError

    folder = write_model(tmp_path / "m")
    monkeypatch.setattr(weights.json, "loads", parse)
    with pytest.raises(Invalid, match="does not fit into memory: free some memory"):
        weights.tensor_shapes(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
def test_json_that_is_nested_too_deeply_gives_no_traceback(tmp_path: Path, registry: Registry, name: str) -> None:
    write = write_adapter if name == "adapter_config.json" else write_model
    folder = write(tmp_path / "m")
    (folder / name).write_text('{"a":' * 100_000)
    new = NewModel("m", path=str(folder))
    if name == "tokenizer_config.json":  # engines read the tokenizer's other files too
        assert new.register(registry).id == "m"
        return
    with pytest.raises(Invalid):
        new.register(registry)
