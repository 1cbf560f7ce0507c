"""A Docker engine of the test's own: started, used and ended, in a network of its own so that it leaves no bridge and no rule behind.

Images are built before, by the same engine in the network of this machine: a build fetches what it installs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .machine import ROOT, TREES, debian_tree, require, run_script, wait_until

# Debian's own client and plugins first: another client may not know how to build with this engine.
_PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
IMAGE = "localhost/elemta:test"
BASE = "elemta-test/python"
COMPANIONS = "elemta-test/companions"
"""Whom elemta works with in docker-compose.yml, all in one image."""
_COMPANIONS = "ca-certificates,dovecot-imapd,dovecot-lmtpd,prometheus,rspamd"

_DNS = "198.51.100.53"
_NO_NAMES = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    query, client = server.recvfrom(4096)
    end = query.find(b"\\0", 12) + 5  # of the one question
    server.sendto(query[:2] + b"\\x81\\x83" + query[4:6] + bytes(6) + query[12:end], client)  # RFC 1035 4.1.1: NXDOMAIN
"""


@dataclass
class Engine:
    """A running engine, and commands for it."""

    folder: Path
    process: int

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": _PATH, "DOCKER_HOST": f"unix://{self.folder}/docker.sock", "DOCKER_BUILDKIT": "0"}

    def call(
        self, *command: str, seconds: float = 60, text: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command against the engine, in its network."""
        return subprocess.run(
            ["nsenter", "--target", str(self.process), "--net", "--", *command],
            cwd=ROOT,
            env={**os.environ, **self.environment, **more},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def run(self, *command: str, seconds: float = 60, text: str = "", **more: str) -> str:
        """The same; fails with its last words."""
        done = self.call(*command, seconds=seconds, text=text, **more)
        if done.returncode != 0:
            pytest.fail(
                f"{' '.join(command)}: status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
            )
        return done.stdout

    def docker(self, *arguments: str, seconds: float = 60) -> str:
        return self.run("docker", *arguments, seconds=seconds).strip()

    def python(self, program: str, *arguments: str) -> str:
        """Run a Python program in the network where published ports are."""
        return self.run("/usr/bin/python3", "-", *arguments, text=program)

    def inspect(self, name: str, path: str) -> str:
        return self.docker("inspect", "--format", "{{" + path + "}}", name)


@contextlib.contextmanager
def _dockerd(folder: Path, *prefix: str, options: tuple[str, ...] = ()) -> Iterator[Engine]:
    log = folder / "dockerd.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *prefix,
                "dockerd",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/docker.pid",
                f"--host=unix://{folder}/docker.sock",
                "--exec-opt=native.cgroupdriver=cgroupfs",
                *options,
            ],
            env={**os.environ, "PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    engine = Engine(folder, process.pid)
    try:
        wait_until(
            lambda: process.poll() is not None or engine.call("docker", "version").returncode == 0,
            "the engine answers",
            40,
        )
        if process.poll() is not None:
            pytest.fail(f"dockerd: {log.read_text()[-2000:]}")
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def _no_names(engine: Engine) -> Iterator[None]:
    """In a network without the world nobody shall wait for it: there is no such name, says its name server to everything."""
    server = subprocess.Popen(
        ["nsenter", f"--target={engine.process}", "--net", "--", "/usr/bin/python3", "-c", _NO_NAMES, _DNS],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def _import(engine: Engine, tree: Path, name: str) -> None:
    with subprocess.Popen(
        ["tar", "-C", str(tree), "--one-file-system", "-c", "."], stdout=subprocess.PIPE
    ) as tar:
        done = subprocess.run(
            ["docker", "import", "-", name],
            stdin=tar.stdout,
            env={**os.environ, **engine.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr


def _build_base(engine: Engine, tree: Path) -> None:
    """A stand-in for the official image of Python, with this machine's certificate authorities."""
    _import(engine, tree, f"{BASE}:tree")
    context = engine.folder / "base"
    context.mkdir()
    lines = [f"FROM {BASE}:tree", "RUN ln -s /usr/bin/python3 /usr/local/bin/python"]
    if _BUNDLE.exists():
        shutil.copy(_BUNDLE, context / "bundle.crt")
        lines += [f"COPY bundle.crt {_BUNDLE}", f"ENV PIP_CERT={_BUNDLE}"]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    engine.docker("build", "--network=host", "--quiet", "--tag", BASE, str(context), seconds=200)


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """An engine that has IMAGE, built from this repository, and COMPANIONS."""
    require("dockerd", "docker", "nsenter", "unshare", "iptables")
    base, companions = debian_tree(), debian_tree(name="companions", packages=_COMPANIONS)
    with tempfile.TemporaryDirectory(dir=TREES, prefix="docker-") as name:
        folder = Path(name)
        alone = ("--bridge=none", "--iptables=false", "--ip-forward=false")
        with _dockerd(folder, options=alone) as builder:
            _build_base(builder, base)
            run_script(
                *("bash", "scripts/image.sh", IMAGE),
                seconds=400,
                environment={**builder.environment, "BASE_IMAGE": BASE, "BUILD_NETWORK": "host"},
            )
            _import(builder, companions, COMPANIONS)
        with _dockerd(folder, "unshare", "--net", "--", options=(f"--dns={_DNS}",)) as engine:
            engine.run("ip", "link", "set", "lo", "up")
            engine.run("ip", "address", "add", _DNS, "dev", "lo")
            try:
                with _no_names(engine):
                    yield engine
            finally:
                for container in engine.docker("ps", "--all", "--quiet").split():
                    engine.call("docker", "rm", "--force", "--volumes", container)
        subprocess.run(
            ["umount", folder / "exec/netns/default"], check=False, capture_output=True, timeout=20
        )
