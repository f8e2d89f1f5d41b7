"""How engines share a machine: cores and cache on a CPU, parts of each card on a GPU."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Invalid, Unavailable
from models.settings.settings import Settings, load_settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet.machine import Gpu, Machine, allowed_gpus, detect_machine, find_gpus, parse_gpus
from serve.fleet.placement import fit, plan

GIB = 1024**3
CARDS = (Gpu(0, "NVIDIA H100 80GB HBM3", 81559, "GPU-aa01"), Gpu(1, "Odd, name", 24576, "GPU-bb02"))


def specs(count: int, **options) -> list[ModelSpec]:
    return [
        ModelSpec(id=f"model-{number}", kind="base", path="org/name", engine=EngineOptions(**options))
        for number in range(count)
    ]


def card(index: int) -> Gpu:
    return Gpu(index, "card", 80_000)


def test_two_engines_on_two_cores_get_one_each(settings: Settings) -> None:
    shares = plan(Machine((4, 5), 8 * GIB), specs(2), settings)
    assert [shares[name].cores for name in ("model-0", "model-1")] == [(4,), (5,)]
    assert sum(share.kv_cache_bytes for share in shares.values()) == GIB


def test_many_cores_leave_one_to_the_gateway(settings: Settings) -> None:
    shares = plan(Machine(tuple(range(8)), 8 * GIB), specs(2), settings)
    assert shares["model-0"].cores + shares["model-1"].cores == tuple(range(1, 8))


@given(cores=st.integers(1, 64), engines=st.integers(1, 12))
def test_on_a_cpu_everybody_has_a_core_and_nobody_shares_one_without_need(cores: int, engines: int) -> None:
    settings = load_settings()
    shares = plan(Machine(tuple(range(cores)), 8 * GIB), specs(engines), settings)
    assert len(shares) == engines
    assert all(share.cores for share in shares.values())
    taken = [core for share in shares.values() for core in share.cores]
    if cores >= engines + 1:
        assert len(taken) == len(set(taken))


def test_two_engines_share_a_card_by_plan(settings: Settings) -> None:
    shares = plan(Machine((0,), GIB, (card(0),)), specs(2), settings)
    assert [share.gpu_memory_share for share in shares.values()] == [0.45, 0.45]
    assert {share.gpus for share in shares.values()} == {(0,)}


def test_two_cards_get_one_engine_each(settings: Settings) -> None:
    shares = plan(Machine((0,), GIB, (card(0), card(1))), specs(2), settings)
    assert {share.gpus for share in shares.values()} == {(0,), (1,)}
    assert all(share.gpu_memory_share == 0.9 for share in shares.values())


def test_a_spec_may_ask_for_its_share(settings: Settings) -> None:
    engines = [*specs(1, gpu_memory_share=0.6), ModelSpec(id="other", kind="merged", path="org/name", base="model-0")]
    shares = plan(Machine((0,), GIB, (card(0),)), engines, settings)
    assert shares["model-0"].gpu_memory_share == 0.6
    assert shares["other"].gpu_memory_share == pytest.approx(0.3, abs=0.001)


@pytest.mark.long
@given(
    cards=st.integers(1, 4),
    engines=st.integers(1, 6),
    wide=st.integers(1, 4),
    limit=st.floats(0.3, 1.0),
)
def test_no_card_is_ever_given_away_twice(cards: int, engines: int, wide: int, limit: float) -> None:
    machine = Machine((0,), GIB, tuple(card(index) for index in range(cards)))
    settings = load_settings(gpu_memory_share=limit)
    wanted = [*specs(1, tensor_parallel_size=min(wide, cards)), *specs(engines)[1:]]
    shares = plan(machine, wanted, settings)
    for index in range(cards):
        given_away = sum(share.gpu_memory_share for share in shares.values() if index in share.gpus)
        assert given_away <= limit + 1e-6
    assert all(share.gpu_memory_share > 0 for share in shares.values())


def test_what_does_not_fit_is_refused_in_one_line(settings: Settings) -> None:
    machine = Machine((0,), GIB, (card(0),))
    with pytest.raises(Invalid, match="90% of its memory"):
        plan(machine, specs(2, gpu_memory_share=0.6), settings)
    with pytest.raises(Invalid, match="needs 2 GPUs"):
        plan(machine, specs(1, tensor_parallel_size=2), settings)


def test_cards_are_read_from_nvidia_smi() -> None:
    listing = "0, GPU-aa01, NVIDIA H100 80GB HBM3, 81559\n1, GPU-bb02, Odd, name, 24576\n\n[garbage]\n"
    assert parse_gpus(listing) == CARDS


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 1", [1]),
        ("GPU-bb", [1]),
        ("0,-1,1", [0]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_users_choice_of_cards_is_kept(visible: str | None, indices: list[int]) -> None:
    assert [gpu.index for gpu in allowed_gpus(CARDS, visible)] == indices


@pytest.mark.parametrize("visible", ["2", "0,7", "GPU-cc", "MIG-aa", "first"])
def test_a_card_that_is_not_there_is_one_line(visible: str) -> None:
    with pytest.raises(Unavailable, match="CUDA_VISIBLE_DEVICES names"):
        allowed_gpus(CARDS, visible)


def test_engines_see_only_the_chosen_cards(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa01, card, 80000'\necho '1, GPU-bb02, card, 80000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    settings = load_settings(home=home)
    assert [gpu.index for gpu in detect_machine(settings).gpus] == [0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert {share.gpus for share in plan(detect_machine(settings), specs(2), settings).values()} == {(1,)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert detect_machine(settings).device == "cpu"


def test_an_engine_that_runs_stays_on_its_card(settings: Settings) -> None:
    machine = Machine((0,), GIB, tuple(card(index) for index in range(4)))
    wide = ModelSpec(id="wide", kind="base", path="org/name", engine=EngineOptions(tensor_parallel_size=2))
    placed = {name: share.gpus for name, share in plan(machine, specs(2), settings).items()}
    shares = plan(machine, [*specs(2), wide], settings, placed)
    assert {name: shares[name].gpus for name in placed} == placed
    assert shares["wide"].gpus == (2, 3)


def test_one_that_does_not_fit_keeps_no_other_from_running(settings: Settings) -> None:
    wide = ModelSpec(id="wide", kind="base", path="org/name", engine=EngineOptions(tensor_parallel_size=2))
    greedy = ModelSpec(id="greedy", kind="base", path="org/name", engine=EngineOptions(gpu_memory_share=0.95))
    fitted = fit(Machine((0,), GIB, (card(0),)), [wide, *specs(2), greedy], settings, {})
    assert {name: share.gpu_memory_share for name, share in fitted.shares.items()} == {"model-0": 0.45, "model-1": 0.45}
    assert set(fitted.refused) == {"wide", "greedy"}
    assert "needs 2 GPUs" in fitted.refused["wide"]


def test_cuda_without_a_card_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()
    with pytest.raises(Unavailable, match="nvidia-smi shows no GPU"):
        detect_machine(load_settings(home=home, device="cuda"))
    assert detect_machine(load_settings(home=home)).device == "cpu"
