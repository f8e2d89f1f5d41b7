"""A node that shares no folder with the machine of `parley up` gets the weights; its engines are reached over TLS."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.cluster.nodes import Nodes
from bench.replicas.load import load
from models.registry.registry import Registry
from models.spec import EngineOptions, ModelSpec
from serve.cluster.manifest import make_manifest
from tests.certificates import make_pair
from tests.cluster.conftest import Deploy

pytestmark = pytest.mark.long

ADDRESS = "127.0.0.2"
# More CPUs than the other nodes have, so that its engines run on the node of this test.
WIDE = EngineOptions(tensor_parallel_size=5, replicas=2)


@contextmanager
def separate_node(cluster: str, hidden: Path, home: Path) -> Iterator[None]:
    """A node in a mount namespace of its own, where a folder is empty."""
    command = 'mount -t tmpfs none "$1" && exec "$2" start --address "$3" --node-ip-address "$4" --num-cpus 10 --block'
    ray = Path(sys.executable).with_name("ray")
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", command, "bash", hidden, ray, cluster, ADDRESS],
        env=os.environ | {"PARLEY_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
        process.wait()


@pytest.fixture
def separable() -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("A mount namespace needs root.")


@pytest.mark.usefixtures("separable")
async def test_a_node_without_the_weights_gets_one_copy(
    deployed: Deploy, nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parley.supervisor")
    authority = make_pair(tmp_path, "authority")
    here = nodes.nodes[0].node_ip_address
    pair = make_pair(tmp_path, "engines", host=here, others=(ADDRESS,), issuer=authority)
    tls = {"engine_tls_certificate": pair.certificate, "engine_tls_key": pair.key}
    async with deployed(settings=tls | {"engine_tls_ca": authority.certificate}) as deployment:
        home, registry = deployment.gateway.settings.home, Registry(deployment.gateway.database)
        model, adapter = home / "model", home / "lora"
        for folder, text in ((model, "{}"), (adapter, '{"r": 8}')):
            folder.mkdir()
            (folder / "config.json").write_text(text)
            (folder / "model.safetensors").write_bytes(os.urandom(100_000))
        theirs = tmp_path / "home-of-the-node"
        with separate_node(nodes.address, home.parent, theirs):
            registry.register(ModelSpec(id="wide", kind="base", path=str(model), engine=WIDE))
            registry.register(ModelSpec(id="lora", kind="adapter", base="wide", path=str(adapter), lora_rank=8))
            # The two replicas, and the adapter on at least one of them.
            await deployment.until(lambda: len(deployment.engines) >= 4 and deployment.all_ready())
            for name, status in deployment.engines.items():
                node = here if name == "stand-in" else ADDRESS
                assert (status.address or "").startswith(f"https://{node}:"), name
            for name in ("wide", "lora", "stand-in"):
                async with load(deployment.gateway.base_url, 1, model=name) as users:
                    await asyncio.sleep(0.5)  # then the stream that runs is completed
                assert users.streams
                assert not users.lost()

            cache = theirs / "cache" / "weights"
            copies = {folder: cache / make_manifest(folder).digest for folder in (model, adapter)}
            for folder, copy in copies.items():
                assert caplog.text.count(f"sending {folder} to {ADDRESS}: 0.1 MB") == 1, "once for both replicas"
                assert make_manifest(copy) == make_manifest(folder)
            assert set(cache.iterdir()) == set(copies.values())
            assert str(copies[model]) in psutil.Process(deployment.program("wide#2")).cmdline()
            logs = "".join(log.read_text() for log in (theirs / "logs").glob("engine-wide*.log"))
            assert f"loads lora from {copies[adapter]}" in logs

            registry.retire("lora")
            registry.retire("wide")
            await deployment.until(lambda: deployment.engines.keys() == {"stand-in"})
