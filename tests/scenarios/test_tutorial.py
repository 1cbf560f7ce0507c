"""The tutorial, block by block, in a copy of what a clone has: files are written, commands run, outputs compared."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port

TOP = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CLONE = ("elemta", "scripts", "plugins", "conftest.py", "pyproject.toml")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose virtual environment is made already: that of this test."""
    folder = tmp_path / "clone"
    folder.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    for name in CLONE:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / name, folder / name)
    venv = folder / ".venv"
    venv.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    content = (folder / "pyproject.toml").read_bytes()
    (venv / ".elemta-test").write_text(hashlib.sha256(content).hexdigest() + "\n")
    return folder


@contextlib.contextmanager
def in_background(script: str, folder: Path, port: int) -> Iterator[None]:
    with subprocess.Popen(
        ["bash", "-c", f"exec {script}"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)


def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / '.venv/bin'}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(folder), "HOME": str(folder), "LANG": "C.UTF-8"}


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="not in a virtual environment")
def test_the_tutorial_works(clone: Path) -> None:
    port = free_port()
    output = ""
    with contextlib.ExitStack() as stack:
        for match in BLOCK.finditer((TOP / "docs/tutorial.md").read_text()):
            language, title, text = (
                match[1],
                match[2],
                match[3].replace("127.0.0.1:2525", f"127.0.0.1:{port}"),
            )
            if language in ("python", "toml"):
                (clone / title).write_text(text)
                (clone / title).chmod(0o644)
            elif text.startswith("elemta run"):
                stack.enter_context(in_background(text, clone, port))
            elif language == "sh":
                done = subprocess.run(
                    ["bash", "-euc", text.replace("swaks", "! swaks", 1) if "RCPT" in text else text],
                    cwd=clone,
                    env=environment(clone),
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                output = done.stdout + done.stderr
                assert done.returncode == 0, output
            else:
                assert language == "text"
                missing = [line for line in text.splitlines() if line not in output]
                assert not missing, f"{missing} not in:\n{output}"


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="not in a virtual environment")
def test_a_mistake_in_the_settings_is_told_with_its_line(clone: Path) -> None:
    blocks = {
        title: text for _, title, text in BLOCK.findall((TOP / "docs/tutorial.md").read_text()) if title
    }
    (clone / "plugins/former-staff").mkdir()
    (clone / "plugins/former-staff/plugin.py").write_text(blocks["plugins/former-staff/plugin.py"])
    (clone / "plugins/former-staff/plugin.py").chmod(0o644)
    lines = blocks["policy.toml"].replace("names =", "name =").splitlines()
    (clone / "policy.toml").write_text("\n".join(lines))
    done = subprocess.run(
        ["elemta", "plugin", "check", "-c", "policy.toml"],
        cwd=clone,
        env=environment(clone),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    line = 1 + lines.index('name = ["carol", "dave"]')
    assert f"policy.toml:{line}: plugins[0].config.name" in done.stderr
