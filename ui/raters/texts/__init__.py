"""The raters' page in several languages, one file each. A home may add or replace files in its folder `texts`."""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from models.errors import Invalid


def load_texts(language: str, home: Path) -> Mapping[str, str]:
    """The texts of a language by key. `de-AT` falls back to `de`; a missing text is English.

    Args:
        home: $PARLEY_HOME; `texts/LANGUAGE.json` in it comes first.

    Raises:
        Invalid: a file in the home is not a JSON object of texts.
    """
    folder = home / "texts"
    name = language.lower()
    codes = dict.fromkeys((name.partition("-")[0], name))
    stamps = tuple(_stamp(folder / f"{code}.json") for code in codes)
    return _merged(tuple(codes), folder, stamps)


@lru_cache(maxsize=32)
def _merged(codes: tuple[str, ...], folder: Path, stamps: tuple[int, ...]) -> Mapping[str, str]:
    """English, overlaid with each code's shipped and own texts. `stamps`: a changed file is read again."""
    texts = shipped_texts("en")
    for code, stamp in zip(codes, stamps, strict=True):
        texts = texts | shipped_texts(code)
        if stamp:
            texts = texts | _own(folder / f"{code}.json")
    return texts


def shipped_texts(code: str) -> dict[str, str]:
    """The texts of a language that come with Parley; none where there is no file."""
    path = files("ui.raters.texts").joinpath(f"{code}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _own(path: Path) -> dict[str, str]:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Invalid(f"{path} is not JSON: {error}.") from None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise Invalid(f"{path} must be a JSON object whose values are texts.")
    return texts


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0
