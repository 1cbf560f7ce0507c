"""Manifests and chart: valid for the versions of Kubernetes that they are for, hardened, and their configurations can be used.

scripts/artefacts.sh brings what these tests need; elsewhere they are skipped with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from elemta.config import parse_config

ROOT = Path(__file__).parent.parent.parent
KUSTOMIZATIONS = ("base", "overlays/try", "overlays/production")
VERSIONS = ("1.30", "1.32")
SECRETS = {"tls": {"secret": "elemta-tls"}, "keys": {"secret": "elemta-keys"}}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "whole": {
        **SECRETS,
        "replicas": 3,
        "domains": ["one.example", "two.example"],
        "store": {"host": "mailstore", "port": 2424},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "externalTrafficPolicy": "Local"},
        "image": {"repository": "registry.example/elemta", "digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "x"}]},
        "persistence": {"size": "1Gi", "storageClass": "fast", "accessMode": "ReadWriteOnce"},
        "extraConfig": '[limits]\nmessage_size = "10MiB"',
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "mail", "operator": "Exists"}],
    },
    "only TLS": {"tls": {"secret": "elemta-tls"}, "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
}  # fmt: skip


def kustomized(name: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy/kubernetes" / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def rendered(name: str) -> list[dict[str, Any]]:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with helm.Chart.load(ROOT / "deploy/helm/elemta") as chart:
        files = chart.render(values=VALUES[name], name="mail", namespace="mail")
    return [
        document
        for path, text in files.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def validate(documents: list[dict[str, Any]]) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed", exc_type=ImportError
    )
    for document in documents:
        for version in VERSIONS:
            kubernetes.validate(document, version, strict=True)


def one(documents: list[dict[str, Any]], kind: str, name_ends: str = "") -> dict[str, Any]:
    (found,) = (x for x in documents if x["kind"] == kind and x["metadata"]["name"].endswith(name_ends))
    return found


def check_whole(documents: list[dict[str, Any]]) -> None:
    """What a schema cannot see: names that lead somewhere, what the pod may, a configuration that is right."""
    stateful = one(documents, "StatefulSet")["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    labels = stateful["template"]["metadata"]["labels"].items()
    selectors = [
        stateful["selector"]["matchLabels"],
        *(x["spec"]["selector"] for x in documents if x["kind"] == "Service"),
        *(x["spec"]["selector"]["matchLabels"] for x in documents if x["kind"] == "PodDisruptionBudget"),
        *(x["spec"]["podSelector"]["matchLabels"] for x in documents if x["kind"] == "NetworkPolicy"),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "readinessProbe", "livenessProbe", "resources"} <= container.keys()
    (service,) = (x for x in documents if x["kind"] == "Service" and x["spec"].get("clusterIP") != "None")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports.keys() - {"admin"}
    assert stateful["serviceName"] in {x["metadata"]["name"] for x in documents if x["kind"] == "Service"}

    configmap = one(documents, "ConfigMap")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == configmap["metadata"]["name"]
    claims = {claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == volumes.keys() | claims
    config = parse_config(configmap["data"]["elemta.toml"], "elemta.toml")
    assert config.admin.address is not None
    listening = {listener.address.port for listener in config.listeners} | {config.admin.address.port}
    assert listening == set(ports.values())
    files = [config.tls.certificate, config.tls.key, config.auth.users, *(key.key for key in config.signing)]
    for file in filter(None, files):
        assert str(file.parent) in mounts
    assert mounts[str(config.state_dir)] == "state"
    waits = pod["terminationGracePeriodSeconds"]
    assert waits > config.timeouts.drain + int(container["lifecycle"]["preStop"]["exec"]["command"][1])


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kustomizations_are_valid(name: str) -> None:
    validate(kustomized(name))


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kustomizations_fit_together(name: str) -> None:
    check_whole(kustomized(name))


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_is_valid(name: str) -> None:
    validate(rendered(name))


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_fits_together(name: str) -> None:
    check_whole(rendered(name))


def test_the_chart_has_no_finding() -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    report = helm.chart.lint(ROOT / "deploy/helm/elemta", VALUES["whole"], strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    "values", [{"domains": []}, {"hostname": 'a"\nb'}, {"replicas": "two"}, {"service": {"type": "Nonsense"}}]
)
def test_values_that_would_break_the_configuration_are_refused(values: dict[str, Any]) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with (
        helm.Chart.load(ROOT / "deploy/helm/elemta") as chart,
        pytest.raises(helm.errors.HelmError),
    ):
        chart.validate_schema(values)


def versions() -> Iterator[str]:
    chart = yaml.safe_load((ROOT / "deploy/helm/elemta/Chart.yaml").read_text())
    base = yaml.safe_load((ROOT / "deploy/kubernetes/base/kustomization.yaml").read_text())
    yield chart["version"]
    yield chart["appVersion"]
    yield base["images"][0]["newTag"]


def test_chart_and_manifests_are_for_this_version() -> None:
    import elemta

    assert set(versions()) == {elemta.__version__}
