"""A gateway in front of several replicas of a model: which one gets a request, and what clients see if one fails."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from models.database import Database
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus
from serve.gateway.conversations import ConversationReplicas, find_conversation
from tests.fakes.http_server import Reply, Request
from tests.fakes.vllm_engine import FakeVLLM
from tests.serve.gateways import Serving, serving

CHAT = "/v1/chat/completions"


class Replica(FakeVLLM):
    """An engine with a fault in its streams: with `early`, they break before their first piece."""

    fault: str = ""

    def chat(self, request: Request) -> Reply | dict[str, Any]:
        reply = super().chat(request)
        if self.fault == "early" and isinstance(reply, Reply):
            return Reply(_broken())
        return reply

    @property
    def served(self) -> int:
        return self.count("POST", CHAT)


def _broken() -> Iterator[bytes]:
    raise ConnectionAbortedError("the engine ended")
    yield b""


class Pair:
    """A gateway and two replicas of the model `m`."""

    def __init__(self, gateway: Serving, replicas: list[Replica]) -> None:
        self.gateway, self.replicas = gateway, replicas
        self.client = openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)

    def publish(self, name: str, *addresses: str | None) -> None:
        rows = [
            EngineStatus(name if number == 1 else f"{name}#{number}", "ready", address)
            for number, address in enumerate(addresses, 1)
            if address
        ]
        before = self.gateway.registry.revision()
        engine_states.delete_statuses(self.gateway.database, [name, f"{name}#2"])
        engine_states.write_statuses(self.gateway.database, rows)
        self.gateway.seen(lambda snapshot: snapshot.revision >= before + 2)

    def restart(self) -> None:
        for replica in self.replicas:
            replica.faults.clear()
            replica.fault = ""
        self.publish("m", *(replica.address for replica in self.replicas))
        for number in range(2):  # both answer, so that no failure from another test counts
            self.ask(f"ready {number}")
        for replica in self.replicas:
            replica.requests.clear()

    def ask(self, *texts: str, model: str = "m", **fields: Any) -> str:
        roles = ("user", "assistant") * len(texts)
        messages: Any = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
        if fields.pop("stream", False):
            stream = self.client.chat.completions.create(model=model, messages=messages, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        answer = self.client.chat.completions.create(model=model, messages=messages, **fields)
        return answer.choices[0].message.content or ""

    def served(self) -> list[int]:
        return [replica.served for replica in self.replicas]

    def metric(self, line: str) -> float:
        text = self.gateway.app.metrics.text().decode()
        return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line)), 0.0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    from models.database import open_database, upgrade
    from models.settings.settings import load_settings

    home = tmp_path_factory.mktemp("replicas")
    settings = load_settings(home=home)
    upgrade(settings)
    database = open_database(settings)
    with ExitStack() as stack:
        replicas = [stack.enter_context(Replica()) for _ in range(2)]
        gateway = stack.enter_context(serving(settings, database))
        folder = home / "weights"
        folder.mkdir()
        (folder / "model.safetensors").touch()
        gateway.registry.register(ModelSpec(id="m", kind="base", path=str(folder), engine=EngineOptions(replicas=2)))
        yield Pair(gateway, replicas)
    database.dispose()


@pytest.fixture
def pair(running: Pair) -> Pair:
    running.restart()
    return running


def test_requests_are_spread_and_a_conversation_stays_where_its_prefix_is(pair: Pair) -> None:
    for number in range(6):
        assert pair.ask(f"hello {number}") == f"hello {number}"
    assert pair.served() == [3, 3]
    for replica in pair.replicas:
        replica.requests.clear()
    pair.ask("first")
    before = pair.served()
    for turn in (("first", "a", "second"), ("first", "a", "second", "b", "third")):
        pair.ask(*turn)
    assert pair.served() == [3 * count for count in before]
    pair.ask("one", prompt_cache_key="mine")
    pair.ask("two", prompt_cache_key="mine")
    assert sorted(pair.served()) in ([0, 5], [2, 3])
    assert pair.metric('parley_replicas{model="m",state="ready"}') == 2
    assert pair.metric('parley_engine_requests_running{engine="m#2"}') == 0


def test_removed_replicas_leave_the_metrics(pair: Pair) -> None:
    gauges = ('parley_breaker_state{model="m#2"', 'parley_engine_requests_running{engine="m#2"')

    def shown() -> list[bool]:
        return [gauge in pair.gateway.app.metrics.text().decode() for gauge in gauges]

    assert shown() == [True, True]
    pair.publish("m", pair.replicas[0].address)
    assert shown() == [False, False]
    assert pair.metric('parley_breaker_state{model="m",state="closed"}') == 1


@pytest.mark.parametrize(
    ("fault", "stream"), [("cut", False), ("cut", True), ("status", False), ("gone", True), ("early", True)]
)
def test_a_replica_that_fails_before_its_first_byte_is_replaced_without_an_error(
    pair: Pair, fault: str, stream: bool
) -> None:
    first, second = pair.replicas
    retries = pair.metric('parley_replica_retries_total{model="m"}')
    if fault == "cut":
        first.cut("POST", CHAT, after=False, times=9)
    elif fault == "status":
        first.fail("POST", CHAT, 500, times=9)
    elif fault == "gone":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        pair.publish("m", f"http://127.0.0.1:{port}", second.address)
    first.fault = fault
    for number in range(4):
        assert pair.ask(f"{fault} {number}", stream=stream) == f"{fault} {number}"
    assert second.served == 4
    assert pair.metric('parley_replica_retries_total{model="m"}') == retries + 2


def test_a_request_that_ends_engines_is_sent_to_two_replicas_at_most(pair: Pair) -> None:
    with pytest.raises(openai.InternalServerError):
        pair.ask("dead")
    assert pair.served() == [1, 1]
    for _ in range(24):
        with pytest.raises(openai.InternalServerError):
            pair.ask("dead")
    assert pair.ask("from somebody else") == "from somebody else"


def test_a_request_without_any_message_is_the_engines_to_answer(pair: Pair) -> None:
    with pytest.raises(openai.BadRequestError, match="no such route"):
        pair.client.embeddings.create(model="m", input=[])


def test_requests_for_an_adapter_go_where_it_is_loaded(pair: Pair) -> None:
    pair.gateway.engine("alone", pair.gateway.settings.home / "alone", pair.replicas[0].address)
    spec = ModelSpec(id="lora", kind="adapter", base="m", path="org/lora", lora_rank=8)
    if "lora" not in {known.id for known in pair.gateway.registry.list()}:
        pair.gateway.registry.register(spec)
    pair.publish("lora", None, pair.replicas[1].address)
    for number in range(3):
        assert pair.ask(f"hello {number}", model="lora") == f"hello {number}"
    assert pair.served() == [0, 3]
    database = pair.gateway.database
    assert engine_states.take_use_reports(database) == set()  # the adapter is on one replica
    pair.publish("lora", *(replica.address for replica in pair.replicas))
    pair.ask("hello", model="lora")
    deadline = time.monotonic() + 5
    while engine_states.take_use_reports(database) != {"lora"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert pair.metric('parley_breaker_state{model="lora#2",state="closed"}') == 1
    pair.publish("lora", None, pair.replicas[1].address)
    # A model with one engine has no replicas to choose from.
    routes = pair.gateway.app.watcher.current.routes
    assert routes["alone"].replicas is None
    lora = routes["lora"].replicas
    assert lora is not None
    assert ([target.engine for target in lora.routes], lora.running) == (["m#2"], 2)


def test_a_conversation_is_recognised_by_its_messages() -> None:
    def conversation(*texts: str, model: str = "m", **fields: Any):
        return find_conversation(model, {"messages": [{"role": "user", "content": text} for text in texts], **fields})

    known = ConversationReplicas()
    first = conversation("system", "hello")
    assert first is not None
    assert known.find(first) is None
    known.remember(first, "here")
    longer, other = conversation("system", "hello", "answer", "more"), conversation("system", "bye", "answer", "more")
    assert longer is not None
    assert other is not None
    assert (known.find(longer), known.find(other), known.find(first)) == ("here", None, None)
    elsewhere = conversation("system", "hello", "answer", "more", model="lora")
    assert elsewhere is not None
    assert known.find(elsewhere) is None
    assert find_conversation("m", {"prompt": "once"}) is None
    assert find_conversation("m", {"input": []}) is None


def test_without_a_ready_replica_a_request_waits_for_one(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """The last replica ends, and another one takes its place while the request waits."""
    with Replica() as replica, serving(settings, database) as gateway:
        gateway.engine("m", tmp_path / "weights", None)
        pair = Pair(gateway, [replica])
        assert gateway.app.watcher.current.routes["m"].targets[0].address is None
        pair.publish("m", None, replica.address)
        route = gateway.app.watcher.current.routes["m"]
        assert (route.replicas, route.engine, route.address) == (None, "m#2", f"{replica.address}/v1")
        assert pair.ask("hello") == "hello"
