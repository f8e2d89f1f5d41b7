"""The files of an export: read inside its folder only, with limits, as JSON values. Nothing in them is executed."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from evals.votes.imports.text import decode
from models.errors import Invalid, ParleyError

MOST_BYTES = 64 * 2**20  # of one file
MOST_VALUES = 2_000_000  # of one YAML file, aliases expanded
_MOST_CELL = 2**20  # characters
_FILE = "file://"
_SEPARATORS = {".tsv": "\t"}


class NotMapped(ParleyError):
    """A part of an export that has no counterpart here; the message is the reason."""


@dataclass(frozen=True)
class Folder:
    """The folder of an export. Paths are relative to it, with or without `file://`."""

    root: Path

    def find(self, path: str) -> Path:
        """The file at a path.

        Raises:
            NotMapped: it is outside of the folder, missing, or too large.
        """
        name = path.removeprefix(_FILE)
        if "://" in name:
            raise NotMapped(f"{name[:80]} is an address, and only files are read")
        try:
            file = (self.root / name).resolve()
            if not file.is_relative_to(self.root.resolve()):
                raise NotMapped(f"{name} is outside of the export's folder")
            if not file.is_file():
                raise NotMapped(f"there is no file {name}")
            size = file.stat().st_size
        except (OSError, ValueError) as error:
            raise NotMapped(f"{name[:80]!r} is not a usable path") from error
        if size > MOST_BYTES:
            raise NotMapped(f"{name} is larger than {MOST_BYTES // 2**20} MiB")
        return file

    def glob(self, pattern: str) -> list[str]:
        """The paths of the files that match a pattern, sorted.

        Raises:
            NotMapped: there are none.
        """
        name = pattern.removeprefix(_FILE)
        if "*" not in name:
            return [name]
        try:
            found = sorted(str(path.relative_to(self.root)) for path in self.root.glob(name) if path.is_file())
        except (ValueError, NotImplementedError, OSError) as error:
            raise NotMapped(f"{name} is not a pattern inside the export's folder") from error
        if not found:
            raise NotMapped(f"no file matches {name}")
        return found

    def text(self, path: str) -> str:
        """A file's text, in UTF-8 or UTF-16 with a mark, with line feeds.

        Raises:
            NotMapped: see `find`; or it is not text.
        """
        file = self.find(path)
        try:
            return decode(file.read_bytes(), file.name, None).replace("\r\n", "\n")
        except (Invalid, OSError) as error:
            raise NotMapped(str(error).rstrip(".")) from error

    def value(self, path: str) -> Any:
        """The value of a JSON or YAML file.

        Raises:
            NotMapped: see `text`; or it is neither.
        """
        text = self.text(path)
        return read_json(text, path) if path.endswith(".json") else read_yaml(text, path)

    def rows(self, path: str) -> list[Any]:
        """The rows of a CSV, TSV, JSONL, JSON or YAML file; those of a table are texts by column.

        Raises:
            NotMapped: see `value`; or its type is another one.
        """
        suffix = Path(path).suffix.lower()
        match suffix:
            case ".csv" | ".tsv":
                return _table(self.text(path), path, _SEPARATORS.get(suffix, ","))
            case ".jsonl":
                return [read_json(line, path) for line in self.text(path).split("\n") if line.strip()]
            case ".json" | ".yaml" | ".yml":
                value = self.value(path)
                return value if isinstance(value, list) else [value]
        raise NotMapped(f"{path}: only CSV, TSV, JSONL, JSON and YAML files are read")


def read_json(text: str, name: str) -> Any:
    """A JSON value.

    Raises:
        NotMapped: it is not JSON; NaN and infinite numbers are not.
    """
    try:
        return json.loads(text, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise NotMapped(f"{name} is not valid JSON ({error})") from error


def read_yaml(text: str, name: str) -> Any:
    """The value of a YAML document, with YAML 1.2's words for true and false, and without tags.

    Raises:
        NotMapped: it is not such a document, has an alias to itself, or is too large when its aliases are expanded.
    """
    import yaml

    try:
        loader = _loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded_size(node, {}) > MOST_VALUES:
                raise NotMapped(f"{name} has more than {MOST_VALUES:,} values when its aliases are expanded")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise NotMapped(f"{name} is not valid YAML ({' '.join(str(error).split())[:200]})") from error


def _expanded_size(node: Any, sizes: dict[int, int | None]) -> int:
    """The number of nodes under a node, each alias counted as often as it is used."""
    import yaml

    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise ValueError("an alias contains itself")
        return size
    sizes[id(node)] = None
    if isinstance(node, yaml.MappingNode):
        size = 1 + sum(_expanded_size(part, sizes) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size = 1 + sum(_expanded_size(part, sizes) for part in node.value)
    else:
        size = 1
    sizes[id(node)] = size
    return size


def _loader() -> Any:
    """A loader of plain JSON values: promptfoo reads YAML 1.2, in which `yes` and `12:30` are texts."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}  # noqa: RUF012 -- as PyYAML has it

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(written)) < len(written):
                raise ValueError(f"a key occurs twice after line {node.start_mark.line + 1}")
            self.flatten_mapping(node)
            return {
                str(self.construct_object(key, deep=True)): self.construct_object(value, deep=True)
                for key, value in node.value
            }

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
        ("merge", r"<<", "<"),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:int", _integer)
    Loader.add_constructor("tag:yaml.org,2002:float", _number)
    for tag in ("binary", "set", "omap", "pairs", "timestamp"):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", _no_tag)
    return Loader


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node)
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)


def _number(loader: Any, node: Any) -> float:
    text = loader.construct_scalar(node)
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ValueError(f"{text} is not a JSON number")
    return float(text)


def _no_tag(_: Any, node: Any) -> NoReturn:
    raise ValueError(f"the tag {node.tag} is not supported")


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _table(text: str, name: str, separator: str) -> list[dict[str, str]]:
    header = text.split("\n", 1)[0]
    if separator not in header and ";" in header:
        separator = ";"
    csv.field_size_limit(max(csv.field_size_limit(), _MOST_CELL))
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        columns = [column.strip() for column in reader.fieldnames or []]
        if len(set(columns)) < len(columns):
            raise NotMapped(f"{name} has two columns with one name")
        rows = []
        for row in reader:
            if None in row:
                raise NotMapped(f"{name}, line {reader.line_num}: there are more cells than columns")
            rows.append({column.strip(): value or "" for column, value in row.items()})
    except csv.Error as error:
        raise NotMapped(f"{name} is not a valid table ({error})") from error
    return rows
