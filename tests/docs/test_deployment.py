"""What deploy/ and compose.yaml say is what the proxy takes, and what Kubernetes does."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from proxy import startup
from proxy.quantities import seconds

ROOT = Path(__file__).parents[2]
SECRETS = {
    "DRAGOMAN_STORE__URL": "redis://redis:6379/0",
    "DRAGOMAN_STORE__SECRET": "as long as a secret should be",
}
MANIFEST = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
(UID,) = map(int, re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE))


def parts(configuration):
    """In how many parts the limits fall while the store is gone."""
    (options,) = (each.options for each in configuration.plugins if each.name == "rate_limit")
    return options.model_dump()["processes"]


def of_kind(kind):
    (found,) = (each for each in MANIFEST if each["kind"] == kind)
    return found


@pytest.mark.parametrize("resource", MANIFEST, ids=lambda each: each["kind"])
def test_kubernetes_takes_each_resource(resource):
    kubernetes_validate.validate(resource, "1.34", strict=True)


def test_all_that_scaling_needs_is_there():
    kinds = {each["kind"] for each in MANIFEST}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
    pods = {"app.kubernetes.io/name": "dragoman"}
    assert of_kind("Service")["spec"]["selector"] == pods
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == pods
    assert of_kind("Deployment")["spec"]["template"]["metadata"]["labels"] == pods
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "dragoman"}
    assert target["name"] == of_kind("Deployment")["metadata"]["name"]


def test_the_pods_configuration_is_valid_and_fits_the_pod(tmp_path):
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    file = tmp_path / Path(container["args"][-1]).name
    file.write_text(of_kind("ConfigMap")["data"][file.name])
    configuration = startup.load(file, environ=SECRETS)
    server = configuration.settings.server
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"api": server.port, "admin": server.admin_port}
    assert server.host == server.admin_host == "0.0.0.0"  # probes come from outside
    assert pod["terminationGracePeriodSeconds"] > server.grace + server.drain + 3
    assert not configuration.warnings
    assert parts(configuration) == of_kind("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert pod["securityContext"]["runAsUser"] == UID


def test_probes_ask_what_the_admin_listener_answers():
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
    }
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {probe["port"] for probe in paths.values()} == {"admin"}


def test_what_compose_mounts_is_there_and_valid():
    for name, service in COMPOSE.items():
        for volume in service.get("volumes", ()):
            assert (ROOT / volume.split(":")[0]).is_file(), (name, volume)
        for other in service.get("depends_on", ()):
            assert other in COMPOSE
    environ = COMPOSE["dragoman"]["environment"]
    configuration = startup.load(ROOT / "deploy/dragoman.toml", environ={**environ, **SECRETS})
    assert not configuration.warnings
    server = configuration.settings.server
    assert seconds(COMPOSE["dragoman"]["stop_grace_period"]) > server.grace + server.drain + 3
    assert parts(configuration) == COMPOSE["dragoman"]["deploy"]["replicas"] == 2


def test_the_collector_reads_each_replica():
    collector = yaml.safe_load((ROOT / "deploy/collector.yaml").read_text())
    (job,) = collector["receivers"]["prometheus"]["config"]["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["dragoman"]
    assert f"EXPOSE 8080 {found['port']}" in DOCKERFILE
    pipelines = collector["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics"}
    for pipeline in pipelines.values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])
