"""The files of a bundle: a folder or a zip, with a manifest that has the SHA-256 of each file and of itself.

A hash shows that a file was changed, not who wrote it: compare the bundle's own SHA-256, which is that of its manifest,
with the value that the exporter has published.
"""

import hashlib
import io
import json
import platform
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, NotFound, ParleyError
from models.files.atomic import atomic_write, claim_folder, publish_folder

MANIFEST = "manifest.json"
FORMAT = "parley-campaign-1"
_OWN_SHA256 = "manifest_sha256"
_SAME_TIME = (1980, 1, 1, 0, 0, 0)  # in a zip, so that the same content has the same bytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_BYTES = 2 * 1024**3  # of a zip's files, which are read into memory
_PACKAGES = ("parley", "numpy", "scipy")


@dataclass(frozen=True)
class BundleFiles:
    """The files by name, and the manifest that was checked against them. `sha256` is the manifest's."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    sha256: str

    def rows(self, name: str) -> list[Any]:
        """The rows of a JSONL file."""
        return [json.loads(line) for line in self.files[name].decode().split("\n") if line]

    def value(self, name: str) -> Any:
        """The value in a JSON file."""
        return json.loads(self.files[name])


def json_bytes(value: Any) -> bytes:
    """A JSON file: floats as Python writes them, which loses no digit."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def jsonl_bytes(rows: Iterable[Any]) -> bytes:
    """A JSONL file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_files(path: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> str:
    """Writes files with their manifest into a new folder, or into a zip if the path ends in .zip; whole or not at all.

    Returns the SHA-256 of the manifest, which stands for the whole bundle.

    Args:
        about: further values of the manifest.

    Raises:
        Conflict: the path exists.
        Invalid: it cannot be written.
    """
    manifest = {
        "format": FORMAT,
        **about,
        "versions": versions(),
        "sha256": {name: _sha256(files[name]) for name in sorted(files)},
    }
    written = {**files, MANIFEST: _manifest_bytes(manifest)}
    if str(path) == "-":
        raise Invalid("An export is not written to standard output: name a new folder or .zip file.", param="file")
    try:
        if path.exists():
            raise Conflict(f"{path} exists already: name a new folder or .zip file.", param="file")
        if path.suffix.lower() == ".zip":
            atomic_write(path, _zipped(written))
        else:
            with publish_folder(path.absolute().parent, path.name) as folder:
                for name, content in written.items():
                    (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder.path / name).write_bytes(content)
            claim_folder(folder.final)  # no row of the database refers to it
    except ParleyError:  # NoSpace is an OSError
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="file") from error
    return _sha256(written[MANIFEST])


def read_files(path: Path) -> BundleFiles:
    """Reads a bundle and checks every file's hash.

    Raises:
        NotFound: there is no such file or folder.
        Invalid: it is not a bundle, or a file is missing, was added or was changed; the message names the file.
    """
    files = _unzipped(path) if path.is_file() else _in_folder(path)
    if MANIFEST not in files:
        raise Invalid(f"{path} is not an export of a campaign: it has no {MANIFEST}.", param="file")
    content = files.pop(MANIFEST)
    manifest = _manifest(path, content)
    hashes = manifest["sha256"]
    for name in sorted({*files, *hashes}):
        if name not in files:
            raise Invalid(f"{name} is missing in {path}: it was there when the campaign was exported.", param="file")
        if name not in hashes:
            raise Invalid(f"{name} in {path} was added after the export.", param="file")
        if _sha256(files[name]) != hashes[name]:
            raise Invalid(
                f"{name} in {path} was changed after the export: its SHA-256 is not the one in {MANIFEST}.",
                param="file",
            )
    return BundleFiles(files, manifest, _sha256(content))


def _manifest(path: Path, content: bytes) -> dict[str, Any]:
    """The manifest, whose bytes must be exactly those that `write_files` makes of its values."""
    try:
        manifest = dict(json.loads(content))
        written_as = manifest["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Invalid(f"{MANIFEST} in {path} cannot be read: it was changed after the export.", param="file") from error
    if written_as != FORMAT:
        raise Invalid(
            f"{path} has the format {written_as!r}, which this version of Parley does not read.", param="file"
        )
    manifest.pop(_OWN_SHA256, None)
    if _manifest_bytes(manifest) != content or not isinstance(manifest.get("sha256"), dict):
        raise Invalid(f"{MANIFEST} in {path} was changed after the export.", param="file")
    return manifest


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as a file, with the SHA-256 of the rest of it at its end."""
    return json_bytes({**manifest, _OWN_SHA256: _sha256(json_bytes(manifest))})


def versions() -> dict[str, str]:
    """The versions that a verdict may depend on."""
    known = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "unknown"
    return known


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _SAME_TIME), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unzipped(path: Path) -> dict[str, bytes]:
    try:
        # In memory, so that no name in the archive can become a path on the disk.
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if any(entry.compress_type not in _METHODS for entry in entries):
                raise zipfile.BadZipFile
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise Invalid(
                    f"{path} is over 2 GiB when it is unpacked: unpack it, and check the folder.", param="file"
                )
            names = [entry.filename for entry in entries]
            files = {name: archive.read(name) for name in names}
    except ParleyError:  # Invalid is a ValueError
        raise
    # The last five are what zipfile raises for changed headers.
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, IndexError, RuntimeError, ValueError, struct.error
    ) as error:  # fmt: skip
        raise Invalid(f"{path} cannot be read as a zip: it was changed or is incomplete.", param="file") from error
    if len(files) < len(names):
        raise Invalid(f"{path} was changed after the export: it contains a file twice.", param="file")
    return files


def _in_folder(path: Path) -> dict[str, bytes]:
    if not path.is_dir():
        raise NotFound(f"There is no file or folder {path}.", param="file")
    try:
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.", param="file") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
