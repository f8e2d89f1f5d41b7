"""The files in deploy/ for Docker Compose and Kubernetes, as data."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


@dataclass(frozen=True)
class Part:
    """One of Parley's containers. `mounts`: path → volume; `checks`: the port and path of each health check."""

    name: str
    command: list[str]
    environment: dict[str, str]
    mounts: dict[str, str]
    checks: list[tuple[int, str]]


@functools.cache
def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file, shared by all tests."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def compose() -> dict[str, Any]:
    """deploy/compose.yaml."""
    return documents(DEPLOY / "compose.yaml")[0]


def resources(kind: str | None = None) -> list[dict[str, Any]]:
    """The Kubernetes resources, of one kind or all."""
    files = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [resource for path in files for resource in documents(path) if kind in (None, resource["kind"])]


def kustomization() -> dict[str, Any]:
    """deploy/kubernetes/kustomization.yaml."""
    return documents(KUBERNETES / "kustomization.yaml")[0]


def variables(path: Path) -> dict[str, str]:
    """The lines NAME=VALUE of a file."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#"))


def compose_parts() -> list[Part]:
    """Parley's containers in deploy/compose.yaml."""
    return [
        Part(
            name,
            service["command"],
            service.get("environment", {}),
            {mount.split(":")[1]: mount.split(":")[0] for mount in service.get("volumes", [])},
            [
                (int(port), path)
                for word in service.get("healthcheck", {}).get("test", [])
                for port, path in re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", word)
            ],
        )
        for name, service in compose()["services"].items()
        if service["image"].startswith("parley:")
    ]


def pods() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each Deployment or Job with its pod's spec."""
    for resource in resources():
        if resource["kind"] in ("Deployment", "Job"):
            yield resource, resource["spec"]["template"]["spec"]


def kubernetes_parts() -> list[Part]:
    """Parley's containers in deploy/kubernetes."""
    secrets = variables(KUBERNETES / "secrets.env.example")
    return [
        Part(
            resource["metadata"]["name"],
            container["command"],
            (secrets if "envFrom" in container else {})
            | {item["name"]: item.get("value", "") for item in container.get("env", [])},
            {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]},
            [
                (named_port(container, check["port"]), check["path"])
                for name in ("startupProbe", "livenessProbe", "readinessProbe")
                if (check := container.get(name, {}).get("httpGet"))
            ],
        )
        for resource, spec in pods()
        for container in spec["containers"]
    ]


def named_port(container: dict[str, Any], name: str) -> int:
    """The number of a container's port."""
    return next(port["containerPort"] for port in container["ports"] if port["name"] == name)
