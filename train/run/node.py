"""A node: a machine that takes part in a training on several machines, and the flags that describe it. No torch."""

from dataclasses import dataclass

from models.errors import Invalid, Unavailable

PORT = 29400  # torchrun's default
TIMEOUT_S = 600.0
_LOST_AFTER_S = 30.0


class NodeLost(Unavailable):
    """Another node ended or cannot be reached. The training has to be started again on all nodes."""


@dataclass(frozen=True)
class Node:
    """This machine's place among the nodes of a training.

    Attributes:
        count: the number of nodes. rank: this one's number from 0; node 0 writes the run.
        host, port: an address of node 0 that the other nodes can reach.
        timeout_s: how long the nodes wait for each other at the start.
        lost_after_s: a node without a heartbeat for this long counts as lost.
        on: the Ray cluster's address if the nodes run on one.
    """

    count: int
    rank: int
    host: str
    port: int = PORT
    timeout_s: float = TIMEOUT_S
    lost_after_s: float = _LOST_AFTER_S
    on: str | None = None
    gpus: int = 1

    @property
    def first(self) -> bool:
        """Whether this node writes the run, its checkpoints and the model."""
        return self.rank == 0

    @property
    def address(self) -> str:
        """HOST:PORT of node 0."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def resume_command(self, run: str) -> str:
        """The command that continues a run on this node."""
        if self.on:
            gpus = f" --gpus {self.gpus}" if self.gpus > 1 else ""
            return f"parley train --resume {run} --on {self.on} --nodes {self.count}{gpus}"
        return f"parley train --resume {run} --nodes {self.count} --node-rank {self.rank} --rendezvous {self.address}"


@dataclass(frozen=True)
class NodeResult:
    """How a training ended on a node other than node 0. `loss_after` is None if the run had finished before."""

    node: int
    run: str
    loss_after: float | None = None


def parse_node(nodes: int, rank: int | None, rendezvous: str | None, timeout_s: float | None = None) -> Node | None:
    """The node that the flags describe; None for a training on one machine.

    Raises:
        Invalid: a flag is missing, wrong, or has no use on one machine.
    """
    if nodes == 1:
        if rank is not None or rendezvous or timeout_s:
            raise Invalid(
                "--node-rank, --rendezvous and --rendezvous-timeout are for several machines: add --nodes.",
                param="nodes",
            )
        return None
    if rank is None or rendezvous is None:
        raise Invalid(
            f"--nodes {nodes} also needs --node-rank (0 on the first machine, then 1, 2, …) and --rendezvous "
            f"HOST:{PORT} with the first machine's address.",
            param="nodes",
        )
    if not 0 <= rank < nodes:
        raise Invalid(f"--node-rank is {rank}: with --nodes {nodes} use 0 to {nodes - 1}.", param="node-rank")
    host, _, port = rendezvous.rpartition(":")
    if rendezvous.endswith("]") or not host:
        host, port = rendezvous, str(PORT)
    if not host.strip("[]") or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"--rendezvous is {rendezvous!r}: use HOST:PORT, such as 10.0.0.7:{PORT}.", param="rendezvous")
    return Node(nodes, rank, host.strip("[]"), int(port), timeout_s or TIMEOUT_S)
