"""What a host needs to start an engine, and the command that starts it."""

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from models.spec import ModelSpec
from serve.fleet import vllm_command
from serve.fleet.engine_files import with_files
from serve.fleet.placement import Share
from serve.fleet.vllm_command import Endpoint
from serve.processes.children import Command


@dataclass(frozen=True)
class EngineLaunch:
    """An engine to start: its name, model and share.

    `adapters`: the number of its model's adapters. `memory_bytes`: the memory that it needs by plan. `key`: the key
    that requests to it must carry. `home`: the folder of its log, caches and files. `module`: the server to start.
    `hub_token`: for models that are hub ids. `certificate`: the PEM files of its TLS certificate and private key.
    """

    name: str
    spec: ModelSpec
    share: Share
    adapters: int
    memory_bytes: int
    key: str
    home: Path
    module: str = vllm_command.MODULE
    hub_token: SecretStr | None = None
    certificate: tuple[Path, Path] | None = None

    @property
    def logs(self) -> Path:
        """The folder of its log."""
        return self.home / "logs"


def engine_command(launch: EngineLaunch, endpoint: Endpoint) -> Command:
    """The command that starts an engine at an address. Writes the files that the command names.

    It may take a while: a tokenizer may have 30 MB, and the template is read in a separate process.

    Raises:
        ParleyError, OSError: the model's files cannot be read, or those of the command cannot be written.
    """
    address = urlsplit(endpoint.address)
    command = vllm_command.command(
        launch.spec, launch.share, port=address.port or 0, key=endpoint.key, adapters=launch.adapters
    )
    argv = [launch.module if part == vllm_command.MODULE else part for part in command.argv]
    argv[argv.index("--host") + 1] = address.hostname or ""
    if launch.certificate:
        argv += ["--ssl-certfile", str(launch.certificate[0]), "--ssl-keyfile", str(launch.certificate[1])]
    command = replace(command, name=f"engine-{launch.name}", argv=tuple(argv))
    command = vllm_command.with_cache(command, launch.home / "cache")
    command = vllm_command.with_hub_token(command, launch.spec, launch.hub_token)
    return with_files(command, launch.spec, launch.home / "cache" / "engines")
