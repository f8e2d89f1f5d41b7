"""Sends weights to nodes without access to a model's folder: one copy for each node, through Ray's object store.

Ray's connections exist already, and its token protects them. An HTTP server on this machine would need a port, a key
and a certificate, and with ray:// nodes may be unable to reach it.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import ParleyError
from serve.cluster.manifest import Manifest, file_sizes, make_manifest

PIECE_BYTES = 32 * 2**20
_ANSWER_S = 120.0  # includes hashing and syncing a large copy


class WeightSender:
    """Sends folders to actors. `serve.cluster.engine_actor.EngineActor` receives them."""

    def __init__(self, ray: Any, report: Callable[[str], None]) -> None:
        self._ray = ray
        self._report = report
        self._manifests: dict[Path, tuple[dict[str, int], float, Manifest]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def provide(self, actor: Any, node: str, folder: Path) -> Path:
        """The path of a folder's files on an actor's node. Copies them there unless the node has them.

        Args:
            node: the node's address. One folder at a time is sent to each node, so that engines share the copy.

        Raises:
            ParleyError: the node cannot store the copy, or it was damaged. OSError: a file cannot be read. RayError.
        """
        try:
            sizes = await asyncio.to_thread(file_sizes, folder)
        except FileNotFoundError:
            return folder
        if await asyncio.to_thread(self._get, actor.has_files.remote(folder, sizes)):
            return folder
        async with self._locks[node]:
            stopping = threading.Event()
            sending = asyncio.ensure_future(asyncio.to_thread(self._send, actor, node, folder, stopping))
            try:
                return await asyncio.shield(sending)
            except asyncio.CancelledError:
                stopping.set()
                await asyncio.wait({sending})  # so that the next copy does not begin before this one ends
                raise

    def _send(self, actor: Any, node: str, folder: Path, stopping: threading.Event) -> Path:
        manifest = self._manifest(folder)
        if (complete := self._get(actor.begin_copy.remote(manifest))) is not None:
            return complete
        size = sum(entry.size for entry in manifest.files.values())
        self._report(f"sending {folder} to {node}: {size / 1e6:.1f} MB")
        for name in manifest.files:
            with (folder / name).open("rb") as stream:
                while piece := stream.read(PIECE_BYTES):
                    if stopping.is_set():
                        raise ParleyError(f"the copy of {folder} was cancelled")
                    self._get(actor.write_copy.remote(name, self._ray.put(piece)))
        return self._get(actor.finish_copy.remote())

    def _manifest(self, folder: Path) -> Manifest:
        """The manifest of a folder; hashed again only if its files have changed."""
        sizes, changed = file_sizes(folder), max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        known = self._manifests.get(folder)
        if known is None or known[:2] != (sizes, changed):
            known = self._manifests[folder] = (sizes, changed, make_manifest(folder))
        return known[2]

    def _get(self, reference: Any) -> Any:
        answer = self._ray.get(reference, timeout=_ANSWER_S)
        if isinstance(answer, str):
            raise ParleyError(answer)
        return answer
