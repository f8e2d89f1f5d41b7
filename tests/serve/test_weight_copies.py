"""Copies of weights on a node: complete and verified, or absent."""

from pathlib import Path

import pytest

from models.errors import ParleyError
from serve.cluster.manifest import Manifest, file_sizes, make_manifest
from serve.cluster.weight_copies import WeightCopies, has_files

PIECE = 4


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with files in it and below, an empty one, a link, and a hidden one."""
    folder = tmp_path / "weights"
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(10)))
    (folder / "extra" / "chat.jinja").write_text("template")
    (folder / "empty.json").touch()
    (folder / "linked.json").symlink_to(folder / "model.safetensors")
    (folder / ".lock").touch()
    return folder


def send(copies: WeightCopies, folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        content = (folder / name).read_bytes()
        for at in range(0, len(content), PIECE):
            copies.write(name, content[at : at + PIECE])


def test_a_copy_appears_complete_and_is_made_once(weights: Path, tmp_path: Path) -> None:
    copies, manifest = WeightCopies(tmp_path / "copies"), make_manifest(weights)
    assert set(manifest.files) == {"model.safetensors", "extra/chat.jinja", "empty.json", "linked.json"}
    assert copies.begin(manifest) is None
    send(copies, weights, manifest)
    assert not (tmp_path / "copies" / manifest.digest).exists(), "nothing before it is complete"
    copy = copies.finish()
    assert make_manifest(copy) == manifest
    assert has_files(copy, file_sizes(weights))
    # Another engine on the node, and one whose folder has another name, need no second copy.
    assert WeightCopies(tmp_path / "copies").begin(make_manifest(weights)) == copy
    # Two copies that were received at the same time become one.
    other = WeightCopies(tmp_path / "others")
    third = WeightCopies(tmp_path / "others")
    for several in (other, third):
        assert several.begin(manifest) is None
        send(several, weights, manifest)
    assert other.finish() == third.finish()
    assert [path.name for path in (tmp_path / "others").iterdir()] == [manifest.digest]


@pytest.mark.parametrize("damage", ["changed", "missing", "doubled"])
def test_a_damaged_copy_is_refused_and_leaves_nothing(weights: Path, tmp_path: Path, damage: str) -> None:
    copies, manifest = WeightCopies(tmp_path / "copies"), make_manifest(weights)
    copies.begin(manifest)
    if damage == "changed":
        (weights / "model.safetensors").write_bytes(bytes(range(9)) + b"x")
    send(copies, weights, manifest if damage != "missing" else Manifest({}))
    if damage == "doubled":
        copies.write("model.safetensors", b"x")
    with pytest.raises(ParleyError, match=r"damaged: [\w./]+ has another SHA-256 hash$") as caught:
        copies.finish()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "copies").iterdir())


def test_an_interrupted_copy_is_deleted_by_the_next(weights: Path, tmp_path: Path) -> None:
    copies, manifest = WeightCopies(tmp_path / "copies"), make_manifest(weights)
    copies.begin(manifest)
    copies.write("model.safetensors", b"\0")
    assert copies.begin(manifest) is None
    send(copies, weights, manifest)
    assert make_manifest(copies.finish()) == manifest
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_a_folder_with_other_files_is_not_the_models(weights: Path, tmp_path: Path) -> None:
    sizes = file_sizes(weights)
    assert has_files(weights, sizes)
    assert not has_files(tmp_path / "none", sizes)
    (weights / "model.safetensors").write_bytes(b"older weights")
    assert not has_files(weights, sizes)
