"""The rendezvous of a training's nodes: they exchange values, and each sends heartbeats by which others see its end.

Node 0 serves a TCPStore of torch.distributed at the address that all nodes are started with. torch's elastic agents and
the training's processes use the same store, so one port is enough to start; gloo and NCCL open other connections.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from models.errors import Invalid, Unavailable
from train.run.node import Node, NodeLost

_POLL_S = 0.2
_BEAT_S = 2.0
_CONNECT_S = 2.0
_CLOSE_S = 10.0  # how long node 0, which serves the store, waits for the others to leave
_OPERATION_S = 30.0


class Rendezvous:
    """One node's connection to all nodes. Its methods may be called from several threads.

    `run` is the run's id. Once the run has begun, the error about a lost node contains the command that continues it.
    """

    def __init__(self, node: Node, store: Any) -> None:
        self.node = node
        self.run = ""
        self.run_has_begun = False
        self._store = store
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._beats = 0
        self._heartbeats: dict[int, tuple[str, float]] = {}  # rank → its last heartbeat, and when that was first read
        self._beater = threading.Thread(target=self._beat, name="rendezvous", daemon=True)
        self._beater.start()

    def exchange(self, key: str, value: Any, timeout_s: float | None = None) -> list[Any]:
        """The JSON values of all nodes under this key, by rank; waits for those that are missing.

        Raises:
            NodeLost: a node has ended or cannot be reached, or `timeout_s` has passed.
        """
        self._set(f"{key}/{self.node.rank}", json.dumps(value))
        deadline = time.monotonic() + (timeout_s or float("inf"))
        missing = list(range(self.node.count))
        while missing := [rank for rank in missing if not self._has(f"{key}/{rank}")]:
            if reason := self.lost(missing):
                raise self.error(reason)
            if time.monotonic() > deadline:
                raise self.error(f"{_nodes(missing)} did not answer within {timeout_s:g} s")
            time.sleep(_POLL_S)
        return [json.loads(self._get(f"{key}/{rank}")) for rank in range(self.node.count)]

    def published(self, key: str) -> dict[int, Any]:
        """Rank → value, for the nodes that have already stored one under this key."""
        ranks = [rank for rank in range(self.node.count) if self._has(f"{key}/{rank}")]
        return {rank: json.loads(self._get(f"{key}/{rank}")) for rank in ranks}

    def lost(self, ranks: Sequence[int]) -> str:
        """A clause about one of these nodes that has ended or sends no heartbeats; "" if there is none."""
        for rank in ranks:
            if rank == self.node.rank:
                continue
            if self._has(f"end/{rank}"):
                return f"node {rank} has ended{_because(self._get(f'end/{rank}'))}"
            beat = self._get(f"beat/{rank}") if self._has(f"beat/{rank}") else ""
            known, since = self._heartbeats.get(rank, (None, 0.0))
            if beat != known:
                self._heartbeats[rank] = (beat, time.monotonic())
            elif time.monotonic() - since > self.node.lost_after_s:
                return f"node {rank} has not answered for {self.node.lost_after_s:g} s"
        return ""

    def error(self, reason: str) -> NodeLost:
        """The error for a lost node, with the command that continues the run."""
        if not self.run_has_begun:
            return NodeLost(f"The training cannot begin: {reason}. Start the command again on all nodes.")
        command = self.node.resume_command(self.run)
        if self.node.on:
            return NodeLost(f"The training stopped: {reason}. `{command}` continues it from the last checkpoint.")
        return NodeLost(
            f"The training stopped: {reason}. To continue it from the last checkpoint, run `{command}` here, and the "
            "same with its own --node-rank on each other node."
        )

    def end(self, reason: str) -> None:
        """Reports to the other nodes that this one has ended with an error."""
        with suppress(NodeLost):
            self._set(f"end/{self.node.rank}", reason)

    def close(self) -> None:
        """Leaves the rendezvous. Node 0, which serves the store, first waits up to 10 s for the others to leave."""
        with suppress(NodeLost):
            self._set(f"left/{self.node.rank}", "1")
            deadline = time.monotonic() + _CLOSE_S
            others = (
                [rank for rank in range(1, self.node.count) if self._has(f"beat/{rank}")] if self.node.first else []
            )
            while others and time.monotonic() < deadline:
                others = [rank for rank in others if not self._has(f"left/{rank}") and not self.lost([rank])]
                time.sleep(_POLL_S)
        self._closed.set()
        self._beater.join(_BEAT_S)

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT_S if self._beats else 0):
            self._beats += 1
            try:
                self._set(f"beat/{self.node.rank}", str(self._beats))
            except NodeLost:
                return

    def _set(self, key: str, value: str) -> None:
        self._call(lambda: self._store.set(key, value))

    def _has(self, key: str) -> bool:
        return bool(self._call(lambda: self._store.check([key])))

    def _get(self, key: str) -> str:
        return str(self._call(lambda: self._store.get(key)).decode())

    def _call(self, operation: Callable[[], Any]) -> Any:
        try:
            with self._lock:
                return operation()
        except RuntimeError as error:  # torch.distributed's errors are RuntimeErrors
            raise self.error(f"node 0 at {self.node.address} no longer answers") from error


@contextmanager
def open_rendezvous(node: Node) -> Iterator[Rendezvous]:
    """The rendezvous, once all nodes have joined.

    Raises:
        Unavailable: not all nodes join in time. Invalid: they were started with different --nodes, or the same rank.
    """
    store = _serve(node) if node.first else _connect(node)
    try:
        claims = store.add(f"rank/{node.rank}", 1)
    except RuntimeError as error:
        raise Unavailable(
            f"Node 0 at {node.address} does not answer as a node of a training ({_plain(error)}): check --rendezvous, "
            "and start the command again on all nodes."
        ) from error
    if claims > 1:
        raise Invalid(
            f"Another machine already uses --node-rank {node.rank}: give each node a rank of its own.",
            param="node-rank",
        )
    rendezvous = Rendezvous(node, store)
    try:
        _gather(rendezvous)
        yield rendezvous
    except BaseException as error:
        rendezvous.end(_describe(error))
        raise
    finally:
        rendezvous.close()


def _serve(node: Node) -> Any:
    from torch.distributed import TCPStore

    try:  # the store's own error is a page long
        family, kind, protocol, _, address = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        return TCPStore(
            node.host, node.port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=_OPERATION_S)
        )
    except (OSError, RuntimeError) as error:
        raise Unavailable(
            f"Node 0 cannot listen at {node.address} ({_plain(error)}): give --rendezvous an address of this machine "
            "and a free port."
        ) from error


def _connect(node: Node) -> Any:
    from torch.distributed import TCPStore

    deadline = time.monotonic() + node.timeout_s
    while True:
        try:
            # The store's own attempts would fill the terminal with warnings.
            socket.create_connection((node.host, node.port), _CONNECT_S).close()
            return TCPStore(node.host, node.port, is_master=False, timeout=timedelta(seconds=_OPERATION_S))
        except (OSError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Node 0 did not answer at {node.address} within {node.timeout_s:g} s ({_plain(error)}): start the "
                    "same command there with --node-rank 0, and check the address, the port and the firewall."
                ) from error
            time.sleep(_POLL_S)


def _gather(rendezvous: Rendezvous) -> None:
    """Waits for all nodes and compares their numbers."""
    node = rendezvous.node
    rendezvous._set(f"count/{node.rank}", str(node.count))
    deadline = time.monotonic() + node.timeout_s
    while True:
        here = [rank for rank in range(node.count) if rendezvous._has(f"count/{rank}")]
        for rank in here:
            if (count := rendezvous._get(f"count/{rank}")) != str(node.count):
                raise Invalid(
                    f"Node {rank} was started with --nodes {count}, and node {node.rank} with --nodes {node.count}: "
                    "use the same number on all nodes.",
                    param="nodes",
                )
        missing = [rank for rank in range(node.count) if rank not in here]
        if not missing:
            return
        if reason := rendezvous.lost(here):
            raise Unavailable(f"Not all nodes joined: {reason}. Start the command again on all nodes.")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{_nodes(missing).capitalize()} did not join at {node.address} within {node.timeout_s:g} s: start the "
                "same command there with its own --node-rank, on all nodes within this time (--rendezvous-timeout)."
            )
        time.sleep(_POLL_S)


def require_same(values: Sequence[Mapping[str, Any]]) -> None:
    """Raises Invalid, with the first difference, unless the values of all nodes are equal. Digests are not shown."""
    for rank, other in enumerate(values):
        for name, first in values[0].items():
            if other.get(name) == first:
                continue
            shown = f" ({other.get(name)} there, {first} on node 0)" if not str(first).startswith("sha256:") else ""
            raise Invalid(
                f"Node {rank} and node 0 differ in {name}{shown}: start the same command on all nodes, with the same "
                "base and data.",
                param="nodes",
            )


def local_address(node: Node) -> str:
    """The address of this machine on the route to node 0."""
    if node.first:
        return node.host
    with socket.create_connection((node.host, node.port), _CONNECT_S) as connection:
        return str(connection.getsockname()[0])


def network_interface(node: Node) -> str | None:
    """The name of this machine's network interface on the route to node 0; None if it is not known."""
    import psutil

    address = socket.gethostbyname(node.host) if node.first else local_address(node)
    names = (name for name, entries in psutil.net_if_addrs().items() if address in [entry.address for entry in entries])
    return next(names, None)


def _nodes(ranks: Sequence[int]) -> str:
    return f"node{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _because(reason: str) -> str:
    return f" ({reason.rstrip('.')})" if reason else ""


def _describe(error: BaseException) -> str:
    """The reason for this node's end, as reported to the others."""
    if isinstance(error, NodeLost):
        return ""
    return "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__


def _plain(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:120].rstrip(".") if lines else type(error).__name__
