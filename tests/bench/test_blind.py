"""A short run of the blind bench, and proof that it detects names in any encoding and a difference between sides."""

import base64
import json

import numpy as np
import pytest

from bench.blind.__main__ import main
from bench.blind.canaries import CANARIES, count_names, encodings
from bench.blind.classifier import accuracy


@pytest.mark.long
def test_raters_receive_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--battles", "24", "--raters", "4", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["battles"], result["names_found"], result["leaks"], result["faults"]) == (24, 0, [], 0)
    assert result["names_hidden"] > 0  # some answers name their model
    assert result["responses"] > 24 * 2
    # An interval of 95 % misses 50 % in one run of 20. At chance, 22 of 24 are right in one run of 50,000.
    assert result["classifier_accuracy"] < 0.9
    assert result["classifier_low"] < result["classifier_accuracy"] < result["classifier_high"]
    assert 0.1 < result["left_share"] < 0.9
    assert result["upstream_accuracy"] > 0.8  # the models themselves are easy to tell apart


def test_a_name_is_found_in_every_encoding() -> None:
    name = CANARIES[0].name
    forms = encodings((name, CANARIES[0].upstream))
    for before in ("", "x", "xy"):
        text = f"{before}{name} said".encode()
        for raw in (text, text.upper(), text.hex().encode(), base64.b64encode(text), base64.urlsafe_b64encode(text)):
            assert count_names(b"HTTP/1.1 200 OK\r\n\r\n" + raw, forms), raw
    assert count_names(b"canary-kea and cassowary", forms) == 0


@pytest.mark.long
def test_the_classifier_detects_only_a_real_difference() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.random(400) < 0.5, np.arange(400) % 40
    noise = rng.normal(size=(400, 12))
    chance = accuracy(noise, labels, groups)
    assert chance.low <= 0.5 <= chance.high
    shifted = noise.copy()
    shifted[:, 3] += 1.5 * labels
    assert accuracy(shifted, labels, groups).low > 0.6
    product = noise.copy()  # only both columns together separate the classes
    product[:, 0] = np.abs(product[:, 0]) * np.sign(product[:, 1]) * np.where(labels, 1, -1)
    assert accuracy(product, labels, groups).low > 0.6
