"""deploy/compose.yaml and deploy/kubernetes: valid by their schemas, and consistent with this program.

Each variable is a setting, each command exists, each port and probe is served, and each name refers to something.
"""

import copy
import importlib.metadata
import json
import re
from pathlib import Path

import jsonschema
import pytest
import typer
import typer.main

import parley
from models.settings.secret_names import is_secret_name
from models.settings.settings import Settings
from serve.gateway.app import _OWN_ROUTES
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    ROOT,
    Part,
    compose,
    compose_parts,
    documents,
    kubernetes_parts,
    kustomization,
    pods,
    resources,
    variables,
)

KUBERNETES_VERSION = "1.34"
PARTS = [
    pytest.param(part, id=f"{source.__name__}-{part.name}")
    for source in (compose_parts, kubernetes_parts)
    for part in source()
]
# Read by libraries and not by Parley's settings: docs/settings.md.
OTHERS = {"HF_HOME", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"}


@pytest.mark.long
def test_the_kubernetes_resources_are_valid() -> None:
    validator = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: make setup-dev"
    )
    for resource in resources():
        validator.validate(resource, KUBERNETES_VERSION, strict=True)
    broken = copy.deepcopy(resources("Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["imgae"] = "x"
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, KUBERNETES_VERSION, strict=True)


@pytest.mark.long
def test_the_compose_file_is_valid() -> None:
    try:
        package = importlib.metadata.distribution("check-jsonschema")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("check-jsonschema, which has the schema, is not installed: make setup-dev")
    path = package.locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(Path(str(path)).read_text("utf-8"))
    jsonschema.validate(compose(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"gateway": {"imgae": "x"}}}, schema)


@pytest.mark.parametrize("part", PARTS)
def test_every_variable_is_a_setting_or_a_credential(part: Part) -> None:
    for name in part.environment:
        setting = name.removeprefix("PARLEY_").lower()
        if name.startswith("PARLEY_"):
            assert setting in Settings.model_fields, name
        else:
            assert name in OTHERS or is_secret_name(name), name


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_every_command_exists_with_its_options(part: Part) -> None:
    program, *words = part.command
    assert program == "parley"
    command = typer.main.get_command(parley.build())
    while subcommands := getattr(command, "commands", None):
        command = subcommands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known
    assert all(word.startswith("-") for word in words) or part.name == "engines"


@pytest.mark.parametrize("part", PARTS)
def test_every_health_check_requests_a_route_at_its_port(part: Part) -> None:
    ports = {"page": Settings.model_fields["page_port"].default}
    for port, path in part.checks:
        assert port == ports.get(part.name, Settings.model_fields["port"].default)
        assert path == "/health" if part.name == "page" else path in _OWN_ROUTES & {"/health"}
    if part.name in ("gateway", "page"):
        assert part.checks


@pytest.mark.parametrize("part", PARTS)
def test_state_is_in_the_volumes_of_the_image(part: Part) -> None:
    image = (ROOT / "Dockerfile").read_text()
    volumes = set(re.findall(r'"([^"]+)"', image[image.index("VOLUME") : image.index("EXPOSE")]))
    assert "/var/lib/parley" in part.mounts
    assert set(part.mounts) - {"/dev/shm", "/var/lib/parley/logs"} <= volumes


def test_the_gateways_address_is_where_it_listens() -> None:
    names = {service["metadata"]["name"]: service["spec"]["ports"][0]["port"] for service in resources("Service")}
    port = Settings.model_fields["port"].default
    assert names["gateway"] == port
    for part in (*compose_parts(), *kubernetes_parts()):
        if part.name in ("gateway", "page", "worker"):
            assert part.environment["PARLEY_GATEWAY_ADDRESS"] == f"http://gateway:{port}"
    (scraped,) = documents(DEPLOY / "monitoring" / "prometheus.yaml")[0]["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"gateway:{port}"]}]
    assert scraped["metrics_path"] in _OWN_ROUTES


def test_engines_get_no_secret_but_their_own() -> None:
    for part in (*compose_parts(), *kubernetes_parts()):
        if part.name == "engines":
            assert set(part.environment) == {"PARLEY_PAGE_KEY"}


def test_every_name_in_the_kubernetes_files_refers_to_something() -> None:
    claims = {claim["metadata"]["name"] for claim in resources("PersistentVolumeClaim")}
    labels = [resource["spec"]["template"]["metadata"]["labels"] for resource, _ in pods()]
    secrets = {generated["name"] for generated in kustomization()["secretGenerator"]}
    for resource, spec in pods():
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes.values()
            if len(volume) > 1 and "persistentVolumeClaim" in volume
        }
        assert used <= claims
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            assert {item["secretRef"]["name"] for item in container.get("envFrom", [])} <= secrets
        if resource["kind"] == "Deployment":
            assert resource["spec"]["selector"]["matchLabels"] == resource["spec"]["template"]["metadata"]["labels"]
    for service in resources("Service"):
        assert service["spec"]["selector"] in labels
    for budget in resources("PodDisruptionBudget"):
        (chosen,) = [
            r
            for r, _ in pods()
            if r["spec"]["template"]["metadata"]["labels"] == budget["spec"]["selector"]["matchLabels"]
        ]
        assert chosen["spec"]["replicas"] > budget["spec"]["minAvailable"]


def test_kustomize_lists_every_file_and_every_image() -> None:
    listed = kustomization()
    assert set(listed["resources"]) == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    images = {container["image"] for _, spec in pods() for container in spec["containers"]}
    assert images == {image["name"] for image in listed["images"]}
    keys = {
        item["valueFrom"]["secretKeyRef"]["key"]
        for _, spec in pods()
        for container in spec["containers"]
        for item in container.get("env", [])
        if "valueFrom" in item
    }
    assert keys <= set(variables(KUBERNETES / "secrets.env.example"))


def test_pods_run_as_the_images_user_without_privileges() -> None:
    uid = re.search(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert uid
    for _, spec in pods():
        assert spec["securityContext"]["runAsUser"] == int(uid[1])
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_running_answers_may_finish_before_a_gateway_is_killed() -> None:
    grace_s = Settings.model_fields["stop_grace_s"].default
    (gateway,) = [spec for resource, spec in pods() if resource["metadata"]["name"] == "gateway"]
    waits_s = int(gateway["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert gateway["terminationGracePeriodSeconds"] > waits_s + grace_s + 2
    assert int(compose()["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > grace_s + 2


def test_the_variables_files_and_volumes_of_the_compose_file_exist() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(variables(DEPLOY / "compose.env.example"))
    file = compose()
    for service in file["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in file["volumes"], mount
        for needed in service.get("depends_on", {}):
            assert needed in file["services"]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
