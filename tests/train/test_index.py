"""train/__init__.py: every name of the public API resolves."""

import pytest

import train


@pytest.mark.long
def test_every_name_resolves() -> None:
    assert all(hasattr(train, name) for name in train.__all__)
