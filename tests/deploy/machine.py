"""A throw-away Debian machine: systemd booted by systemd-nspawn on an overlay over a tree that is made once.

Its network is its own, with loopback only. Every command has an end; what is ended is ended by its own id.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TREES = ROOT / "var/deploy"
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


def require(*programs: str) -> None:
    """Skip the test, with the reason, where it cannot run: not root, or one of the programs absent."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine")
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


def run_script(*command: str, seconds: float = 300, environment: dict[str, str] | None = None) -> str:
    """Run a command in the repository; fails with its last words."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        pytest.fail(f"{shlex.join(command)}: status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def debian_tree(suite: str = "bookworm", name: str = "", packages: str = "") -> Path:
    """The tree that machines are copies of, or `name` with these packages; made at the first call, kept under var/."""
    tree = TREES / (name or suite)
    if not tree.exists():
        require("mmdebstrap")
        if not _mirror_answers():
            pytest.skip("no mirror of Debian can be reached, and there is no tree below var/deploy")
        TREES.mkdir(parents=True, exist_ok=True)
        more = [packages] if packages else []
        run_script("bash", "scripts/make-tree.sh", str(tree), suite, *more, seconds=400)
    return tree


@functools.cache
def _mirror_answers() -> bool:
    done = subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False, timeout=300)
    return done.returncode == 0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Look ten times a second; fails with `what` where it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def overlay(tree: Path) -> Iterator[Path]:
    """A copy of the tree that costs nothing, and leaves nothing."""
    with tempfile.TemporaryDirectory(dir=TREES, prefix="machine-") as name:
        upper, work, root = (Path(name) / part for part in ("upper", "work", "root"))
        for folder in (upper, work, root):
            folder.mkdir()
        options = f"lowerdir={tree},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True, timeout=20)
        try:
            yield root
        finally:
            subprocess.run(["umount", "--lazy", root], check=True, timeout=20)


@dataclass
class Machine:
    """A booted machine, and commands in it."""

    root: Path
    leader: int
    """The process that is number 1 in there."""

    def call(self, *command: str, seconds: float = 60, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in there, with `text` as its input."""
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "env", "-i", _PATH, "LC_ALL=C.UTF-8", *command],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def run(self, *command: str, seconds: float = 60, text: str = "") -> str:
        """The same; fails with its last words and those of elemta where it fails."""
        done = self.call(*command, seconds=seconds, text=text)
        if done.returncode != 0:
            journal = self.call("journalctl", "--no-pager", "-n", "30", "-u", "elemta.service").stdout
            words = (done.stdout + done.stderr)[-3000:]
            pytest.fail(f"{shlex.join(command)}: status {done.returncode}\n{words}\n{journal}")
        return done.stdout

    def python(self, program: str, *arguments: str, seconds: float = 60) -> str:
        """Run a Python program in there."""
        return self.run("python3", "-", *arguments, seconds=seconds, text=program)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd tells it."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Make a file in there, folders included."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace what stands exactly once in a file."""
        file = self.root / path.lstrip("/")
        before = file.read_text()
        assert before.count(old) == 1, (path, old)
        file.write_text(before.replace(old, new))


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the tree at `root`, wait until it has settled, and power it off at the end."""
    require("systemd-nspawn", "nsenter")
    log = root.parent / "console.log"
    with log.open("wb") as console:
        nspawn = subprocess.Popen(
            [
                "systemd-nspawn",
                f"--directory={root}",
                "--register=no",
                "--keep-unit",
                "--boot",
                "--private-network",
                "--console=pipe",
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    try:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        wait_until(lambda: nspawn.poll() is not None or bool(children.read_text().split()), "a first process")
        if nspawn.poll() is not None:
            pytest.fail(f"systemd-nspawn: {log.read_text()[-2000:]}")
        machine = Machine(root, int(children.read_text().split()[0]))
        wait_until(lambda: _state(machine) in ("running", "degraded"), "the machine has started", 60)
        machine.run("ip", "link", "set", "lo", "up")
        yield machine
        machine.call("systemctl", "poweroff")
        with contextlib.suppress(subprocess.TimeoutExpired):
            nspawn.wait(30)
    finally:
        if nspawn.poll() is None:
            nspawn.send_signal(signal.SIGTERM)
            try:
                nspawn.wait(10)
            except subprocess.TimeoutExpired:
                nspawn.kill()
                nspawn.wait(10)


def _state(machine: Machine) -> str:
    return machine.call("systemctl", "is-system-running").stdout.strip()


def smtp(port: int, *lines: str) -> str:
    """A Python program that speaks these lines on that port, then QUIT, and prints all that it is told."""
    return _TALK.format(port=port, lines=list(lines))


_TALK = """
import smtplib
connection = smtplib.SMTP(timeout=20)
print(*connection.connect("127.0.0.1", {port}))
for line in {lines!r}:
    code, text = connection.docmd(line)
    print(code, text.decode())
connection.quit()
"""

_SEND = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20) as connection:
    connection.sendmail("a@example.com", sys.argv[2:], "Subject: hello\\n\\nWorld\\n")
"""


def send(machine: Machine, port: int, recipients: Sequence[str]) -> None:
    """Hand one message in; fails where it is not taken."""
    machine.python(_SEND, str(port), *recipients)
