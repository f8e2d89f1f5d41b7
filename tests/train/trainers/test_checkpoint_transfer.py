"""train/trainers/checkpoint_transfer.py: what the first process needs; test_nodes.py sends a whole checkpoint."""

import hashlib
from pathlib import Path

import pytest
import torch.distributed as dist

from train.run.checkpoints import Damaged, Saved
from train.trainers.checkpoint_transfer import receive_checkpoint


def test_all_processes_stop_if_the_first_has_no_whole_state(tmp_path: Path) -> None:
    """Otherwise they would wait for its pieces."""
    content = b"optimiser"
    state = tmp_path / "state"
    state.mkdir()
    files = {"state/optimizer.pt": (len(content), hashlib.sha256(content).hexdigest())}
    saved = Saved(tmp_path, 3, 1.0, files=files)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with pytest.raises(Damaged, match=r"state/optimizer.pt of .* is missing or damaged on node 0"):
            receive_checkpoint(saved, writes=True)
        (state / "optimizer.pt").write_bytes(content)
        receive_checkpoint(saved, writes=True)
    finally:
        dist.destroy_process_group()
