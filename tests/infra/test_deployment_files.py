"""Every deployment file against its public schema, and against the code that it starts. None is started here."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
SECRET = re.compile(r"(password|secret|token|auth|key)", re.IGNORECASE)


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from walk(each, f"{place}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from walk(each, f"{place}[{number}]")
    else:
        yield place, value


# --- Prefect


def test_prefect_yaml() -> None:
    """By Prefect's own model, and by the flows' own parameters."""
    from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
    from prefect.client.schemas.schedules import CronSchedule

    values = load("prefect.yaml")
    model = PrefectYamlModel.model_validate(values)
    assert {each.name for each in model.deployments} == {"nightly", "capture", "uploads", "housekeeping", "alarm"}
    for deployment in values["deployments"]:
        assert set(deployment) <= set(DeploymentConfig.model_fields), deployment["name"]
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        signature = inspect.signature(flow.fn)
        needed = {key for key, each in signature.parameters.items() if each.default is inspect.Parameter.empty}
        given = set(deployment.get("parameters", {}))
        assert given <= set(signature.parameters), deployment["name"]
        assert needed <= given | ({"run", "what"} if name == "digitize_alarm" else {"asset"})
        for each in deployment.get("schedules", ()):
            if "cron" in each:
                CronSchedule(cron=each["cron"], timezone=each["timezone"])
    assert values["prefect-version"] == pinned("prefect")


def pinned(name: str) -> str:
    found = re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


# --- containers


def test_compose_file() -> None:
    import check_jsonschema

    values = load("infra/compose/compose.yaml")
    schemas = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
    jsonschema.validate(values, json.loads((schemas / "compose-spec.json").read_text()))
    assert {"postgres", "prefect-server", "worker", "ray-head", "ray-cpu", "ray-gpu", "s3"} <= set(values["services"])
    for name, service in values["services"].items():
        for secret in service.get("secrets", ()):
            assert secret in values["secrets"], (name, secret)
        for other in service.get("depends_on", ()):
            assert other in values["services"]
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert str(value).startswith("/run/secrets/") or value == "token", f"{name}: {variable}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} listens beyond this machine"
    images = {name: service["image"] for name, service in values["services"].items()}
    assert f":{pinned('prefect')}-" in images["prefect-server"]
    assert all(":" in image.rpartition("/")[2] for image in images.values()), "an image without a version"


def test_the_secrets_that_compose_wants_are_made(tmp_path: Path) -> None:
    shutil.copy(INFRA / "compose/make-secrets.sh", tmp_path)
    made = [subprocess.run(["sh", tmp_path / "make-secrets.sh"], check=True, capture_output=True) for _ in range(2)]
    assert all(each.stdout == each.stderr == b"" for each in made), "a secret must not be printed"
    values = load("infra/compose/compose.yaml")
    wanted = {each["file"].removeprefix("./secrets/") for each in values["secrets"].values()}
    found = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(found) == wanted | {"s3.env"}
    assert len(set(found.values())) == len(found) and all(found.values())
    assert found["postgres_password"] in found["digitize_database_url"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_dockerfiles(name: str, tmp_path: Path) -> None:
    parser = DockerfileParser(str(tmp_path))
    parser.content = (INFRA / f"docker/{name}.Dockerfile").read_text()
    steps = [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]
    known = {"FROM", "RUN", "COPY", "WORKDIR", "ARG", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in steps} <= known
    assert all(re.search(r":[\w.-]+", value) for instruction, value in steps if instruction == "FROM")
    assert [value for instruction, value in steps if instruction == "USER"] == ["digitize"]
    ignored = (ROOT / ".dockerignore").read_text().split()
    for instruction, value in steps:
        if instruction == "COPY" and not value.startswith("--from="):
            for source in value.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(f"!{source}" == rule.removesuffix("/*.py") for rule in ignored), f"{source} is not sent"
        if instruction == "RUN" and "pip install" in value:
            assert "-c /tmp/constraints.txt" in value, "all nodes have the versions that were tested"
        if instruction in ("ARG", "ENV"):
            assert not re.search(r"password|secret|access_key", value, re.IGNORECASE)


def test_every_image_of_ours_has_this_version() -> None:
    assert VERSION
    for path in [ROOT / "prefect.yaml", *INFRA.rglob("*.yaml"), *INFRA.rglob("*.Dockerfile")]:
        for found in re.findall(r"digitize:(\d[\w.]*)-[cg]pu", path.read_text()):
            assert found == VERSION[1], path.name


# --- Kubernetes

_RAY_CLUSTER = {
    "": {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"},
    "autoscalerOptions": {"upscalingMode", "idleTimeoutSeconds", "env", "envFrom", "resources", "image"},
    "headGroupSpec": {"serviceType", "rayStartParams", "template", "enableIngress", "headService"},
    "workerGroupSpecs": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template"),
    },
}
"""Fields of RayCluster in ray.io/v1, from KubeRay's API types; the pod templates are Kubernetes' own."""


def pod(template: dict[str, Any], name: str) -> None:
    """A pod template by Kubernetes' schema, as a Pod."""
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template.get("metadata", {})}}
    kubernetes_validate.validate({**manifest, "spec": template["spec"]}, "1.32", strict=True)


def test_ray_cluster() -> None:
    values = load("infra/kubernetes/raycluster.yaml")
    assert (values["apiVersion"], values["kind"]) == ("ray.io/v1", "RayCluster")
    spec = values["spec"]
    groups = [("headGroupSpec", spec["headGroupSpec"]), *(("workerGroupSpecs", g) for g in spec["workerGroupSpecs"])]
    for name, group in [("", spec), ("autoscalerOptions", spec["autoscalerOptions"]), *groups]:
        assert set(group) <= _RAY_CLUSTER[name], name
    assert spec["rayVersion"] == pinned("ray")
    for _, group in groups:
        pod(group["template"], "ray")
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        token = {each["name"]: each for each in container["env"]}
        assert token["RAY_AUTH_MODE"]["value"] == "token" and "secretKeyRef" in token["RAY_AUTH_TOKEN"]["valueFrom"]
    cpu, gpu = spec["workerGroupSpecs"]
    assert cpu["minReplicas"] == gpu["minReplicas"] == 0
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_uploads_deployment() -> None:
    values = load("infra/kubernetes/uploads.yaml")
    kubernetes_validate.validate(values, "1.32", strict=True)
    arguments = values["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[0] == "uploads"


_SERVER = {
    "global": {"prefect"},
    "global.prefect": {"image", "prefectApiUrl", "prefectApiHost", "env"},
    "server": {"replicaCount", "basicAuth", "uiConfig", "env", "resources", "loggingLevel", "extraEnvVarsSecret"},
    "server.basicAuth": {"enabled", "authString", "existingSecret"},
    "server.uiConfig": {"enabled", "prefectUiApiUrl", "prefectUiUrl"},
    "backgroundServices": {"runAsSeparateDeployment", "env", "resources"},
    "sqlite": {"enabled", "persistence"},
    "postgresql": {"enabled", "auth", "primary", "image"},
    "secret": {"create", "name", "username", "password", "host", "port", "database"},
    "ingress": {"enabled", "servicePort", "className", "host", "annotations", "tls", "selfSigned"},
    "ingress.host": {"hostname", "path", "pathType"},
}
_WORKER = {
    "worker": {
        *("apiConfig", "serverApiConfig", "basicAuth", "image", "config", "replicaCount", "resources"),
        *("extraEnvVars", "extraEnvVarsSecrets", "extraVolumes", "extraVolumeMounts"),
    },
    "worker.serverApiConfig": {"apiUrl", "uiUrl"},
    "worker.basicAuth": {"enabled", "authString", "existingSecret"},
    "worker.image": {"repository", "prefectTag", "pullPolicy", "pullSecrets", "debug"},
    "worker.config": {"workPool", "workQueues", "queryInterval", "prefetchSeconds", "limit", "name", "type"},
    "worker.resources": {"requests", "limits"},
    "role": {"create", "extraPermissions"},
    "rolebinding": {"create"},
}
"""Values of the charts prefect-server and prefect-worker, from their values.schema.json: those that are used here."""


@pytest.mark.parametrize(("path", "known"), [("prefect-server", _SERVER), ("prefect-worker", _WORKER)])
def test_helm_values(path: str, known: dict[str, set[str]]) -> None:
    values = load(f"infra/kubernetes/{path}.values.yaml")
    assert set(values) <= {place.partition(".")[0] for place in known}
    for place, allowed in known.items():
        found: Any = values
        for part in place.split("."):
            found = found.get(part, {})
        assert set(found) <= allowed, place
    for place, value in walk(values):
        name = place.rpartition(".")[2]
        assert name not in ("authString", "password"), "secrets are the cluster's own"
        assert not (name == "value" and "auth" in str(value).lower())


# --- Terraform


def terraform() -> dict[str, Any]:
    merged: dict[str, list[Any]] = {}
    for path in sorted((INFRA / "terraform").glob("*.tf")):
        with path.open() as file:
            for kind, blocks in hcl2.load(file).items():
                merged.setdefault(kind, []).extend(blocks)
    return merged


def plain(value: Any) -> Any:
    """Without the quotes that the parser keeps."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def test_terraform_parses_and_refers_to_what_is_there() -> None:
    found = plain(terraform())
    kinds = {"resource", "data", "variable", "output", "locals", "terraform"}
    assert {kind for kind in found if not kind.startswith("__")} <= kinds
    declared = {f"{kind}.{name}" for block in found["resource"] for kind, names in block.items() for name in names}
    data = {f"data.{kind}.{name}" for block in found["data"] for kind, names in block.items() for name in names}
    variables = {name for block in found["variable"] for name in block}
    text = "\n".join(path.read_text() for path in sorted((INFRA / "terraform").glob("*.tf")))
    code = re.sub(r"^\s*#.*$|^(resource|data) .*$", "", text, flags=re.MULTILINE)
    used = set(re.findall(r"(?<!data\.)\b(aws_\w+\.\w+)\.", code))
    assert used <= declared, used - declared
    assert set(re.findall(r"\b(data\.aws_\w+\.\w+)\.", code)) <= data
    assert set(re.findall(r"\bvar\.(\w+)", code)) == variables
    if shutil.which("terraform"):
        command = ["terraform", "fmt", "-check", "-diff", INFRA / "terraform"]
        checked = subprocess.run(command, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout.decode()


def test_policies_are_least_privilege() -> None:
    statements = []
    for block in plain(terraform())["data"]:
        for document in block.get("aws_iam_policy_document", {}).items():
            name, body = document
            for statement in body["statement"]:
                statements.append((name, statement))
    assert len(statements) > 8
    for name, statement in statements:
        if statement["effect"] == "Deny":
            continue
        assert all("*" not in action for action in statement["actions"]), name
        assert all(resource != "*" for resource in statement["resources"]), name
        writes = [action for action in statement["actions"] if re.search("Put|Delete", action) and "s3:" in action]
        assert not writes or all(re.search(r"/\w+/\*", resource) for resource in statement["resources"]), name
    deletes = {name for name, each in statements for action in each["actions"] if action == "s3:DeleteObject"}
    assert deletes == {"stages", "housekeeping"}
    for name, each in statements:
        if name == "stages" and "s3:DeleteObject" in each["actions"]:
            assert all("/store/" in resource for resource in each["resources"]), "stages never delete what is published"


# --- what watches


def test_prometheus_configuration() -> None:
    values = load("infra/compose/prometheus.yml")
    compose = load("infra/compose/compose.yaml")["services"]
    hosts = [name for job in values["scrape_configs"] for sd in job.get("dns_sd_configs", ()) for name in sd["names"]]
    hosts += [
        target.partition(":")[0]
        for job in values["scrape_configs"]
        for group in job.get("static_configs", ())
        for target in group["targets"]
    ]
    assert set(hosts) <= set(compose)
    if shutil.which("promtool"):
        command = ["promtool", "check", "config", "--syntax-only", INFRA / "compose/prometheus.yml"]
        checked = subprocess.run(command, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr.decode()


def test_the_dashboard_shows_figures_that_ray_has() -> None:
    import ray.dashboard.modules.metrics.dashboards.default_dashboard_panels as panels

    known = set(re.findall(r"\bray_\w+", Path(panels.__file__).read_text()))
    dashboard = json.loads((INFRA / "compose/grafana/digitize.json").read_text())
    source = load("infra/compose/grafana/datasources.yaml")["datasources"][0]["uid"]
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source
        for target in panel["targets"]:
            assert set(re.findall(r"\bray_\w+", target["expr"])) <= known, panel["title"]


def test_nothing_here_is_a_secret() -> None:
    """No file of a deployment holds a value that looks like one."""
    for path in [
        ROOT / "prefect.yaml",
        *(each for each in INFRA.rglob("*") if each.suffix in (".yaml", ".yml", ".tf")),
    ]:
        for place, value in walk(yaml.safe_load(path.read_text()) if path.suffix != ".tf" else path.read_text()):
            assert not re.search(r"AKIA[0-9A-Z]{16}|[0-9a-f]{40}", str(value)), f"{path.name}{place}"
    assert (INFRA / "compose/make-secrets.sh").stat().st_mode & stat.S_IXUSR
