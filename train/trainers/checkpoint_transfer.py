"""Copies a checkpoint's state from the first process to nodes that do not have it, over the process group.

Nodes need no shared folder: only node 0 has the run's folder. Each file is sent in pieces and verified by its digest.
"""

from pathlib import Path
from typing import Any

from train.run.checkpoints import STATE, Damaged, Saved, file_matches

_PIECE = 64 << 20  # bytes


def receive_checkpoint(saved: Saved, writes: bool) -> None:
    """Makes the state of `saved`, which the first process has, available to all. Every process must call it.

    Args:
        writes: whether this process writes missing files; one of each node does.

    Raises:
        Damaged: the first process's file, or a received one, does not match its digest.
    """
    import torch
    import torch.distributed as dist

    # NCCL moves memory of GPUs only.
    group: Any = dist.new_group(backend="gloo")
    rank, entries = dist.get_rank(), saved.files or {}
    for name in sorted(name for name in entries if name.startswith(f"{STATE}/")):
        size, path = entries[name][0], saved.folder / name
        misses: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(misses, writes and not file_matches(path, entries[name]), group=group)
        if misses[0]:
            raise Damaged(f"{name} of {saved.folder.name} is missing or damaged on node 0")
        if not any(misses):
            continue
        receives = bool(misses[rank])
        source = path.open("rb") if rank == 0 else None
        target = _open_for_writing(path) if receives and rank else None
        for begin in range(0, size, _PIECE):
            length = min(_PIECE, size - begin)
            piece = torch.empty(length, dtype=torch.uint8)
            if source:
                piece = torch.frombuffer(bytearray(source.read(length)), dtype=torch.uint8)
            dist.broadcast(piece, 0, group=group)
            if target:
                target.write(piece.numpy().tobytes())
        for file in (source, target):
            if file:
                file.close()
        if receives and not file_matches(path, entries[name]):
            raise Damaged(f"{name} of {saved.folder.name} was not received completely")
    dist.barrier(group=group)
    dist.destroy_process_group(group)


def _open_for_writing(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")
