"""Two real vLLM engines behind the gateway, used with the real OpenAI SDK, and killed in every way.

One stack serves the whole file; the tests run in order, and the last one kills it.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import openai
import pytest

import serve
from models.database import Database, open_database, upgrade
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import engine_states
from serve.processes import guardian
from tests.serve.gateways import serving
from tests.stack import free_ports
from tests.tiny_model import make_adapter, make_base

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]
HELLO: list = [{"role": "user", "content": "hello"}]
MODELS = ("tiny", "tiny-merged", "tiny-adapter")


class Live:
    """The running stack and what tests need of it."""

    def __init__(self, settings: Settings, database: Database, weights: Path) -> None:
        self.settings = settings
        self.database = database
        self.registry = Registry(database)
        self.weights = weights
        self.running = serve.start(settings, page=False, worker=False)
        self.sdk = openai.OpenAI(base_url=settings.gateway_url, api_key="any", max_retries=0, timeout=60)

    def say(self, model: str, **options) -> str:
        options = {"max_tokens": 8, "temperature": 0} | options
        answer = self.sdk.chat.completions.create(model=model, messages=HELLO, **options)
        return answer.choices[0].message.content or ""

    def engine_pids(self, model: str) -> tuple[int, int, int]:
        """(guardian, API server, engine core) of a model's engine."""
        keeper = engine_states.read_statuses(self.database)[model].pid
        assert keeper is not None
        server = guardian.children(keeper)[0]
        core = next(
            pid for pid in guardian.descendants(server) if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        return keeper, server, core

    def wait(self, condition: Callable[[dict[str, engine_states.ModelState]], bool], timeout_s: float = 120) -> float:
        """Seconds until the models' states meet a condition."""
        began = time.monotonic()
        while not condition(engine_states.model_states(self.database)):
            assert time.monotonic() - began < timeout_s, engine_states.model_states(self.database)
            time.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("stack")
    weights = home / "weights"
    base = make_base(weights / "base")
    other = make_base(weights / "merged", seed=7)
    adapter = make_adapter(weights / "adapter", base)
    settings = load_settings(home=home, port=free_ports(1)[0], device="cpu", cpu_kv_cache_gib=0.25)
    upgrade(settings)
    database = open_database(settings)
    registry = Registry(database)
    registry.register(ModelSpec(id="tiny", kind="base", path=str(base)))
    registry.register(ModelSpec(id="tiny-merged", kind="merged", base="tiny", path=str(other)))
    registry.register(ModelSpec(id="tiny-adapter", kind="adapter", base="tiny", path=str(adapter), lora_rank=8))
    stack = Live(settings, database, weights)
    try:
        stack.running.wait_ready(240)
        yield stack
    finally:
        stack.running.stop()
        database.dispose()


def test_a_base_beside_adapters_in_all_slots_answers_as_if_alone(live: Live) -> None:
    """vLLM's kernels for CPUs would answer it with the adapter in the last slot."""
    answer = partial(live.say, max_tokens=16)
    adapters = ["tiny-adapter", *(f"tiny-adapter-{number}" for number in range(2, 5))]
    base = live.weights / "base"
    for number, name in enumerate(adapters[1:], 2):
        folder = make_adapter(live.weights / name, base, seed=number)
        live.registry.register(ModelSpec(id=name, kind="adapter", base="tiny", path=str(folder), lora_rank=8))
    live.wait(lambda states: all(name in states and states[name].state == "ready" for name in adapters))
    try:
        alone = {name: answer(name) for name in ("tiny", *adapters)}  # in all four slots of the engine
        assert len(set(alone.values())) == len(alone)
        with ThreadPoolExecutor(10) as pool:
            for _ in range(2):
                beside = dict(zip(alone, pool.map(answer, alone), strict=True))
                assert beside == alone
    finally:
        for name in adapters[1:]:
            live.registry.retire(name)


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_answers_streamed_and_not(live: Live, model: str) -> None:
    answer = live.sdk.chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0)
    assert answer.model == model
    assert answer.usage is not None
    stream = live.sdk.chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason
    text = live.sdk.completions.create(model=model, prompt="hello", max_tokens=4, temperature=0).choices[0].text
    parts = live.sdk.completions.create(model=model, prompt="hello", max_tokens=4, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts) == text


def test_an_adapter_is_not_its_base(live: Live) -> None:
    assert len({live.say(model, max_tokens=16) for model in MODELS}) == 3


async def test_the_async_sdk_and_requested_usage(live: Live) -> None:
    async with openai.AsyncOpenAI(base_url=live.settings.gateway_url, api_key="any") as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=5, stream=True, stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 5
        assert {model.id async for model in client.models.list()} == set(MODELS)


def test_constrained_json_passes_through(live: Live) -> None:
    schema = {
        "type": "object",
        "properties": {
            "verdict": {"enum": ["A", "B", "tie"]},
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["verdict", "score"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    for model in ("tiny-adapter", "tiny-merged"):
        # These weights are random: the answer is complete JSON only because decoding allows nothing else.
        text = live.say(model, response_format=shape, max_tokens=80)
        assert re.fullmatch(r'\{"verdict":"(A|B|tie)","score":[1-5]\}', text), text
        assert live.say(model, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}) in ("yes", "no")


def test_the_engines_own_refusals_are_the_sdks_classes(live: Live) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        live.sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 3000}])
    assert long.value.type == "invalid_request_error"
    assert long.value.code is None or not long.value.code.isdigit()
    with pytest.raises(openai.BadRequestError) as empty:
        live.sdk.post("/chat/completions", body={"model": "tiny"}, cast_to=object)
    assert empty.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as hot:
        live.say("tiny", temperature=-1)
    assert "temperature" in hot.value.message


def test_a_hosted_upstream_played_by_a_second_gateway(live: Live, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "second")
    upgrade(settings)
    with serving(settings, open_database(settings)) as second:
        second.hosted("theirs", base_url=live.settings.gateway_url, model="tiny-adapter")
        client = openai.OpenAI(base_url=second.base_url, api_key="any", max_retries=0)
        answer = client.chat.completions.create(model="theirs", messages=HELLO, max_tokens=8, temperature=0)
        assert answer.choices[0].message.content == live.say("tiny-adapter")
        chunks = client.chat.completions.create(
            model="theirs", messages=HELLO, max_tokens=8, temperature=0, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == live.say("tiny-adapter")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="theirs", messages=HELLO, temperature=-1)


def test_adapters_come_and_go_while_it_runs(live: Live) -> None:
    before = live.engine_pids("tiny")
    folder = make_adapter(live.weights / "second", live.weights / "base", rank=16, seed=9)
    live.registry.register(ModelSpec(id="late", kind="adapter", base="tiny", path=str(folder), lora_rank=16))
    live.wait(lambda known: known["late"].state == "ready", 20)
    assert live.say("late") != live.say("tiny")
    broken = make_adapter(live.weights / "broken", live.weights / "base")
    (broken / "adapter_config.json").write_text("{}")
    live.registry.register(ModelSpec(id="broken", kind="adapter", base="tiny", path=str(broken)))
    live.wait(lambda known: known["broken"].state == "failed", 20)
    with pytest.raises(openai.InternalServerError, match="is not running"):
        live.say("broken")
    # Streams of the removed adapter and of its base end normally.
    endless = {"max_tokens": 700, "stream": True, "extra_body": {"ignore_eos": True}, "temperature": 0}
    streams = {
        name: live.sdk.chat.completions.create(model=name, messages=HELLO, **endless) for name in ("late", "tiny")
    }
    counts = {name: [next(stream)] for name, stream in streams.items()}
    for name in ("late", "broken"):
        live.registry.retire(name)
    live.wait(lambda known: "late" not in known)
    for name, stream in streams.items():
        counts[name] += list(stream)
        assert counts[name][-1].choices[0].finish_reason == "length"
    time.sleep(1)
    with pytest.raises(openai.NotFoundError):
        live.say("late")
    assert live.say("tiny-adapter")
    assert live.engine_pids("tiny") == before


def test_a_killed_engine_comes_back_and_harms_no_other(live: Live) -> None:
    expected = {model: live.say(model) for model in MODELS}
    keeper, server, core = live.engine_pids("tiny")
    os.kill(server, signal.SIGKILL)
    live.wait(lambda known: known["tiny"].state != "ready", 10)
    assert live.say("tiny-merged") == expected["tiny-merged"]
    took = live.wait(lambda known: known["tiny"].state == known["tiny-adapter"].state == "ready")
    print(f"the engine was back after {took:.1f} s")
    assert {model: live.say(model) for model in MODELS} == expected
    assert not any(Path(f"/proc/{pid}").exists() for pid in (keeper, server, core))


def test_a_dead_engine_core_is_a_dead_engine_and_a_request_waits_for_its_return(live: Live) -> None:
    expected = live.say("tiny-merged")
    _, server, core = live.engine_pids("tiny-merged")
    os.kill(core, signal.SIGKILL)
    live.wait(lambda known: known["tiny-merged"].state != "ready", 15)
    assert live.say("tiny") is not None
    # Held for queue_wait_s, then refused with Retry-After; the SDK retries by itself.
    patient = live.sdk.with_options(max_retries=4, timeout=90)
    answer = patient.chat.completions.create(model="tiny-merged", messages=HELLO, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content == expected
    assert not Path(f"/proc/{server}").exists()


def test_a_killed_gateway_is_back_in_seconds_and_the_engines_never_notice(live: Live) -> None:
    before = live.engine_pids("tiny")
    state = live.running.state()
    assert state
    keeper = state["processes"]["gateway"]["pid"]
    # Its guardian is killed too: the parent stops what it leaves.
    family = [keeper, *guardian.descendants(keeper)]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while True:
        try:
            assert live.say("tiny")
            break
        except openai.APIConnectionError:
            time.sleep(0.05)
    assert time.monotonic() - began < 10
    assert live.engine_pids("tiny") == before


def test_nothing_is_left_ten_seconds_after_the_parent_was_killed(live: Live) -> None:
    family = guardian.descendants(live.running.pid)
    assert len(family) >= 8
    live.running.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < deadline, [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family if Path(f"/proc/{pid}").exists()
        ]
        time.sleep(0.05)


def test_options_reach_the_engine_and_one_that_cannot_start_says_why(live: Live, tmp_path: Path) -> None:
    settings = live.settings.model_copy(update={"home": tmp_path, "port": free_ports(1)[0]})
    upgrade(settings)
    database = open_database(settings)
    options = EngineOptions(extra_args=("--no-such-flag",))
    Registry(database).register(ModelSpec(id="odd", kind="base", path=str(live.weights / "base"), engine=options))
    with serve.start(settings, page=False, worker=False):
        deadline = time.monotonic() + 60
        while "no-such-flag" not in (message := engine_states.model_states(database)["odd"].message):
            assert time.monotonic() < deadline, message
            time.sleep(0.2)
