"""This room's commands with unusual input or output; tests/test_parley.py runs the usual cases."""

from pathlib import Path

import pytest

from models.errors import Invalid
from models.registry.new_model import NewModel
from models.terminal import console


def test_a_models_id_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("ft:gpt-4o-mini:acme:rocket:A1")
    assert capsys.readouterr().out == "ft:gpt-4o-mini:acme:rocket:A1\n"


@pytest.mark.parametrize("content", ['{"r": null}', "[]", '"r"', "{", "{}"])
def test_a_broken_adapter_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(Invalid, match="not an adapter's configuration"):
        NewModel("name", path=str(tmp_path), base="base").spec()
