"""Runs an image that deploy/build_image.sh has built, and checks its container. Needs root and buildah.

    python3 deploy/check_image.py cpu|gpu [NAME]

It prints one line for each check. Both images: the user, that the packages load and torch is the right build, `parley
--help`, `parley doctor`, a start with volumes, the owner's key (printed at the first start only), the image's health
check, SIGTERM. CPU image: the demo, and a chat from outside the container. GPU image: without a GPU, an error that says
so.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UID = 10001
_READY_S = 300
_IMPORTS = "import gradio, peft, torch, trl, vllm, transformers.trainer; print(torch.version.cuda)"
_EXIT = re.compile(r"(subprocess exited|Error: exit status|error running container: )")
_KEY = re.compile(r"shown only now: (pk-[\w-]+)")


class Failed(Exception):
    """A check that failed, in one line."""


class Container:
    """A container of the image with its own volumes. It shares the host's network, so it gets free ports."""

    def __init__(self, image: str, folder: Path) -> None:
        self.id = buildah("from", "--pull-never", image).strip()
        # buildah mounts an empty folder at each declared volume, over one that `buildah run --volume` mounts there.
        buildah("config", "--volume=/var/lib/parley-", "--volume=/models-", self.id)
        self.config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
        self.home, self.models = folder / "state", folder / "models"
        for volume in (self.home, self.models):
            volume.mkdir()
            os.chown(volume, UID, UID)
        self.port, self.page_port = free_port(), free_port()

    def command(self, *program: str, **environment: str) -> list[str]:
        """The command line that runs a program in the container, as the image's user."""
        ports = {"PARLEY_PORT": str(self.port), "PARLEY_PAGE_PORT": str(self.page_port)}
        variables = [f"--env={name}={value}" for name, value in (ports | environment).items()]
        volumes = [f"--volume={self.home}:/var/lib/parley", f"--volume={self.models}:/models"]
        user = f"--user={self.config['User']}"
        return ["buildah", "run", user, *variables, *volumes, self.id, "--", *program]

    def run(self, *program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a program in the container until it ends."""
        command = self.command(*program, **environment)
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)

    def is_healthy(self) -> bool:
        """Whether the image's health check passes; its port is this container's."""
        kind, *check = self.config["Healthcheck"]["Test"]
        if kind != "CMD":
            raise Failed(f"the health check is {kind}, not CMD")
        return self.run(*(word.replace(":8000/", f":{self.port}/") for word in check)).returncode == 0

    @contextmanager
    def started(self, log: Path, *program: str, **environment: str) -> Iterator[None]:
        """Runs Parley until the end of the block, then sends SIGTERM and checks that nothing is left.

        Raises:
            Failed: it ends before it is ready, does not become ready in time, or does not end after SIGTERM.
        """
        with log.open("w") as stream:
            process = subprocess.Popen(self.command(*program, **environment), stdout=stream, stderr=stream)
        try:
            deadline = time.monotonic() + _READY_S
            while not (state := self._state()).get("ready"):
                if process.poll() is not None:
                    raise Failed(f"{' '.join(program)} has ended: {last_line(log.read_text())}")
                if time.monotonic() > deadline:
                    raise Failed(f"{' '.join(program)} is not ready after {_READY_S} s: {last_line(log.read_text())}")
                time.sleep(0.5)
            yield
            os.kill(state["pid"], signal.SIGTERM)
            if status := process.wait(60):
                raise Failed(f"{' '.join(program)} ended with {status} after SIGTERM: {last_line(log.read_text())}")
        finally:
            process.kill()
            process.wait()
        if left := processes_of(UID):
            raise Failed(f"processes are left after SIGTERM: {'; '.join(left)}")

    def _state(self) -> dict[str, object]:
        try:
            return json.loads((self.home / "up.json").read_bytes())
        except (OSError, ValueError):
            return {}

    def ask(self, key: str | None, model: str) -> tuple[int, str]:
        """Sends a chat request from outside the container; returns the status and the answer's text."""
        body = {"model": model, "max_tokens": 48, "messages": [{"role": "user", "content": "Where is my parcel?"}]}
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text)["choices"][0]["message"]["content"] if answer.status == 200 else text


def main() -> int:
    """Runs the checks; returns the exit status: 1 if one failed, 2 for wrong arguments."""
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("cpu", "gpu"):
        print((__doc__ or "").strip())
        return 2
    build = sys.argv[1]
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")  # as deploy/build_image.sh
    folder = Path(tempfile.mkdtemp(prefix="parley-image-"))
    folder.chmod(0o755)  # the container's user must be able to reach the volumes
    container = None
    try:
        if os.geteuid() != 0 or shutil.which("buildah") is None:
            raise Failed("this needs root and buildah: apt-get install buildah")
        container = Container(sys.argv[2] if len(sys.argv) == 3 else f"parley:{build}", folder)
        check_commands(container, build)
        check_starts(container, folder, build)
    except Failed as failure:
        print(f"parley: {failure}", file=sys.stderr)
        return 1
    finally:
        if container is not None:
            buildah("rm", container.id)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def check_commands(container: Container, build: str) -> None:
    """Checks the user, the help and the doctor."""
    shell = container.run("sh", "-c", "id -u; test -w /opt/parley || echo read-only")
    expect(shell.stdout.split() == [str(UID), "read-only"], f"uid {UID}, which cannot write the program", shell.stderr)
    versions = container.run("python", "-c", _IMPORTS)
    cuda = versions.stdout.strip() != "None"
    expect(versions.returncode == 0, "torch, transformers, peft, trl, vllm and gradio load", last_line(versions.stderr))
    expect(cuda == (build == "gpu"), f"PyTorch's CUDA version: {versions.stdout.strip()}", "that of the other build")
    helped = container.run("parley", "--help")
    expect(helped.returncode == 0 and "OpenAI-compatible" in helped.stdout, "parley --help", last_line(helped.stderr))
    doctor = container.run("parley", "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(doctor.stdout or "[]")}
    failed = {name for name, finding in findings.items() if finding["state"] == "fail"}
    # No key exists yet. On a machine without a GPU, the GPU image must say so.
    has_gpu = shutil.which("nvidia-smi") is not None
    expected = {"keys"} | ({"GPU"} if build == "gpu" and not has_gpu else set())
    expect(failed == expected, f"parley doctor: only {', '.join(sorted(expected))} fails", f"{failed} {doctor.stderr}")
    if "GPU" in expected:
        up = container.run("parley", "up", "--make-owner-key")
        line = last_line(up.stderr)
        expect(up.returncode == 1 and "nvidia-smi shows no GPU" in line, f"parley up, without a GPU: {line}", line)


def check_starts(container: Container, folder: Path, build: str) -> None:
    """Checks two starts with the same volumes."""
    program = ("parley", "demo" if build == "cpu" else "up", "--make-owner-key")
    logs = folder / "first.log", folder / "second.log"
    began = time.monotonic()
    with container.started(logs[0], *program, PARLEY_DEVICE="cpu"):
        key = _KEY.search(logs[0].read_text())
        expect(
            key is not None, f"{' '.join(program)} is ready after {time.monotonic() - began:.0f} s, with a key", "none"
        )
        expect(container.is_healthy(), "the image's health check passes", "it fails")
        if build == "cpu" and key:
            status, text = container.ask(None, "support-concise")
            expect(status == 401, "a chat from outside without a key: 401", f"{status} {text}")
            status, text = container.ask(key[1], "support-concise")
            expect(status == 200 and len(text) > 10, f"a chat from outside: {text!r}", f"{status} {text}")
    expect(not container.is_healthy(), "SIGTERM ends it; the health check fails then", "it passes")
    began = time.monotonic()
    with container.started(logs[1], *program, PARLEY_DEVICE="cpu"):
        printed = _KEY.search(logs[1].read_text())
        expect(printed is None, f"ready again after {time.monotonic() - began:.0f} s, without printing a key", "a key")
        if build == "cpu" and key:
            status, text = container.ask(key[1], "support-friendly")
            expect(status == 200, "the same key still works", f"{status} {text}")


def expect(condition: bool, what: str, found: str) -> None:
    """Prints a check that passed.

    Raises:
        Failed: the condition is false. `found`: what was observed instead.
    """
    if not condition:
        raise Failed(f"this check failed: {what} (found: {found})")
    print(f"ok  {what}", flush=True)


def processes_of(user: int) -> list[str]:
    """The processes of a user, as `pid command`."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "-U", str(user)], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()


def buildah(*arguments: str) -> str:
    """Runs buildah; returns its output.

    Raises:
        Failed: it failed, with its last line.
    """
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"buildah {arguments[0]}: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    """The last line of a program's output. `buildah run` adds lines about the exit status, which are left out."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not _EXIT.match(line)), "no output")


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
