"""The pod of deploy/kubernetes, run by Podman as the manifest says: it becomes ready, takes mail, and may nothing.

Podman knows pods, not StatefulSets: the pod is that of the template, with the claims as volumes and probes asked here as a kubelet would.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .engine import IMAGE, Engine
from .machine import ROOT, require, wait_until

pytestmark = pytest.mark.deploy

# This kernel's cgroups and limits, which an administrator of a cluster does not set up by hand.
SETTINGS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=30000:30000"]
[engine]
runtime = "runc"
events_logger = "file"
cgroup_manager = "cgroupfs"
"""


@dataclass
class Pod:
    """A pod that runs, and the commands for it."""

    engine: Engine
    folder: Path
    runroot: Path
    container: dict[str, Any]

    def call(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        storage = (f"--root={self.folder}/storage", f"--runroot={self.runroot}")
        where = ("--tmpdir", f"{self.folder}/tmp", "--network-config-dir", f"{self.folder}/net")
        settings = str(self.folder / "containers.conf")
        return self.engine.call(
            "podman", *storage, *where, *arguments, seconds=seconds, CONTAINERS_CONF=settings
        )

    def podman(self, *arguments: str, seconds: float = 120) -> str:
        done = self.call(*arguments, seconds=seconds)
        if done.returncode != 0:
            logs = self.call("logs", "elemta-elemta").stdout
            pytest.fail(
                f"podman {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:]}\n{logs[-2000:]}"
            )
        return done.stdout.strip()

    def execute(self, *command: str) -> str:
        return self.podman("exec", "elemta-elemta", *command)

    @property
    def address(self) -> str:
        (pod,) = json.loads(
            self.podman("pod", "inspect", "elemta", "--format", "[{{json .InfraContainerID}}]")
        )
        networks = json.loads(self.podman("inspect", pod, "--format", "{{json .NetworkSettings.Networks}}"))
        (network,) = networks.values()
        return str(network["IPAddress"])


def manifest() -> list[dict[str, Any]]:
    """What Podman takes: ConfigMap, claims and the pod of the StatefulSet in overlays/try."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy/kubernetes/overlays/try")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    (stateful,) = (document for document in documents if document["kind"] == "StatefulSet")
    pod = stateful["spec"]["template"]
    wanted = [document for document in documents if document["kind"] == "ConfigMap"]
    for claim in stateful["spec"]["volumeClaimTemplates"]:
        name = claim["metadata"]["name"]
        pod["spec"]["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": name}})
        claim["spec"]["accessModes"] = ["ReadWriteOnce"]
        wanted.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    (container,) = pod["spec"]["containers"]
    container["image"] = IMAGE
    pod["metadata"]["name"] = "elemta"
    wanted.append({"apiVersion": "v1", "kind": "Pod", **pod})
    return wanted


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """Where Podman's runroot may be: it refuses a path of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="pod-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def pod(engine: Engine, short_folder: Path) -> Iterator[Pod]:
    require("podman", "runc", "kubectl")
    folder = engine.folder / "podman"
    folder.mkdir()
    (folder / "containers.conf").write_text(SETTINGS)
    documents = manifest()
    (container,) = documents[-1]["spec"]["containers"]
    probes = {name: container.pop(name) for name in list(container) if name.endswith("Probe")}
    pod = Pod(engine, folder, short_folder, {**container, **probes})
    engine.docker("save", "--output", str(folder / "image.tar"), IMAGE, seconds=120)
    pod.podman("load", "--quiet", "--input", str(folder / "image.tar"), seconds=200)
    file = folder / "pod.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    pod.podman("play", "kube", "--network=podman", str(file))
    try:
        yield pod
    finally:
        pod.call("play", "kube", "--down", str(file))
        subprocess.run(["umount", folder / "storage/overlay"], check=False, capture_output=True, timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


PROBE = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read())
except OSError as error:
    print(error)
"""


def test_all_probes_succeed_as_a_kubelet_asks(pod: Pod, engine: Engine) -> None:
    address = pod.address
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = pod.container[name]["httpGet"]
        url = f"http://{address}:{get['port']}{get['path']}"
        wait_until(lambda url=url: engine.python(PROBE, url).strip() == "200", f"{name}: {url}", 30)


def test_the_pod_is_nobody_and_may_nothing(pod: Pod) -> None:
    status = pod.execute("cat", "/proc/1/status")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert {int(number) for number in facts["Uid"].split()} == {10001}
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert pod.call("exec", "elemta-elemta", "sh", "-c", ": >/etc/elemta/x").returncode != 0
    assert pod.call("exec", "elemta-elemta", "sh", "-c", ": >/opt/x").returncode != 0


SEND = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], 2525, timeout=20) as connection:
    connection.sendmail("a@example.com", ["alice@example.org"], "Subject: hello\\n\\nWorld\\n")
"""


def test_mail_comes_to_its_volume(pod: Pod, engine: Engine) -> None:
    engine.python(SEND, pod.address)
    new = "/var/lib/elemta/mail/example.org/alice/new"
    wait_until(
        lambda: "World" in pod.call("exec", "elemta-elemta", "sh", "-c", f"cat {new}/*").stdout, "the message"
    )


def test_it_ends_by_itself_within_its_grace(pod: Pod) -> None:
    before, *arguments = pod.container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod.execute("sh", "-c", f"command -v {before}"), "what is called before the stop is in the image"
    assert arguments
    pod.podman("stop", "--time", "40", "elemta-elemta")
    assert pod.podman("inspect", "elemta-elemta", "--format", "{{.State.ExitCode}}") == "0"
