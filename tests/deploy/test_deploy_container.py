"""The image and the stack of docker-compose.yml, in a real Docker engine: what they may, what they do, what they leave."""

from __future__ import annotations

import json
import re

import pytest

from .engine import COMPANIONS, IMAGE, Engine
from .machine import ROOT, require, smtp, wait_until

pytestmark = pytest.mark.deploy

HARDENED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp", "--pids-limit", "256", "--memory", "1g"),
)


@pytest.fixture(scope="module")
def running(engine: Engine) -> str:
    """A container as docs/install.md starts it, with its port published, looked after every two seconds."""
    return engine.docker(
        *("run", "--detach", "--name", "elemta", *HARDENED),
        *("--volume", "elemta:/var/lib/elemta", "--publish", "127.0.0.1:2525:25"),
        *("--health-interval", "2s", "--health-timeout", "4s", "--health-retries", "2"),
        IMAGE,
    )


def _health(engine: Engine, container: str, wanted: str) -> None:
    wait_until(
        lambda: engine.inspect(container, ".State.Health.Status") == wanted, f"{container} is {wanted}", 60
    )


def test_it_becomes_healthy(engine: Engine, running: str) -> None:
    _health(engine, running, "healthy")


def test_it_is_nobody_and_may_nothing(engine: Engine, running: str) -> None:
    status = engine.docker("exec", running, "cat", "/proc/1/status")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert {int(number) for number in facts["Uid"].split()} == {10001}
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    for file in ("/etc/elemta/elemta.toml", "/opt/elemta/x", "/x"):
        done = engine.call("docker", "exec", running, "sh", "-c", f": >>{file}")
        assert done.returncode != 0, file


def test_nothing_that_installs_or_compiles_is_in_it(engine: Engine, running: str) -> None:
    found = engine.docker("exec", running, "sh", "-c", "command -v gcc cc pip pip3 || :")
    assert found == ""
    files = engine.docker("exec", running, "find", "/opt/elemta", "-name", "*.c", "-o", "-name", "pip")
    assert files == ""


SEND = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", 2525, timeout=20) as connection:
    connection.sendmail("a@example.com", ["alice@example.org"], f"Subject: {sys.argv[1]}\\n\\nWorld\\n")
"""


def _subjects(engine: Engine, container: str) -> list[str]:
    found = engine.call(
        *("docker", "exec", container, "sh", "-c", "grep -rh ^Subject: /var/lib/elemta/mail/*/*/new")
    )
    return sorted(line.removeprefix("Subject: ").strip() for line in found.stdout.splitlines())


def test_mail_from_outside_comes_in_on_port_25(engine: Engine, running: str) -> None:
    answer = engine.python(smtp(2525, "EHLO client.example"))
    assert "mx.example.org" in answer
    engine.python(SEND, "first")
    wait_until(lambda: _subjects(engine, running) == ["first"], "the message is in the maildir")
    assert json.loads(engine.docker("exec", running, "elemta", "status", "--json"))


def test_a_stop_is_orderly_and_another_container_goes_on_with_the_queue(engine: Engine, running: str) -> None:
    engine.docker("exec", running, "elemta", "queue", "pause", "domain", "example.org")
    engine.python(SEND, "second")
    engine.docker("stop", "--time", "40", running)
    assert engine.inspect(running, ".State.ExitCode") == "0"
    engine.docker("rm", running)
    again = engine.docker(
        *("run", "--detach", "--name", "elemta", *HARDENED, "--volume", "elemta:/var/lib/elemta"), IMAGE
    )
    _health(engine, again, "healthy")
    assert _subjects(engine, again) == ["first"]
    engine.docker("exec", again, "elemta", "queue", "resume", "domain", "example.org")
    wait_until(lambda: _subjects(engine, again) == ["first", "second"], "what was queued is delivered")
    engine.docker("rm", "--force", again)
    engine.docker("volume", "rm", "elemta")


def test_one_that_hangs_is_called_unhealthy(engine: Engine) -> None:
    container = engine.docker(
        *("run", "--detach", *HARDENED),
        *(
            "--health-interval",
            "1s",
            "--health-timeout",
            "3s",
            "--health-retries",
            "1",
            "--health-start-period",
            "0s",
        ),
        IMAGE,
    )
    _health(engine, container, "healthy")
    engine.docker("kill", "--signal", "STOP", container)
    _health(engine, container, "unhealthy")
    engine.docker("rm", "--force", "--volumes", container)


def test_a_wrong_configuration_is_told_with_its_line(engine: Engine) -> None:
    text = (ROOT / "deploy/docker/elemta.toml").read_text().replace("[admin]", "[adnim]")
    file = engine.folder / "wrong.toml"
    file.write_text(text)
    done = engine.call(
        *("docker", "run", "--rm", *HARDENED, "--volume", f"{file}:/etc/elemta/elemta.toml:ro", IMAGE)
    )
    assert done.returncode == 78
    assert re.search(r"elemta\.toml:\d+: .*adnim", done.stdout + done.stderr)


QUERY = """
import json, sys, urllib.parse, urllib.request
url = "http://127.0.0.1:9090/api/v1/query?" + urllib.parse.urlencode({"query": sys.argv[1]})
with urllib.request.urlopen(url, timeout=20) as answer:
    result = json.load(answer)["data"]["result"]
print(result[0]["value"][1] if result else "")
"""


def test_mail_passes_through_the_whole_stack(engine: Engine) -> None:
    require("docker-compose")
    images = dict.fromkeys(("RSPAMD_IMAGE", "DOVECOT_IMAGE", "PROMETHEUS_IMAGE"), COMPANIONS)

    def compose(*arguments: str) -> str:
        command = ("docker-compose", "--no-ansi", "--project-name", "stack", *arguments)
        done = engine.call(*command, seconds=180, ELEMTA_IMAGE=IMAGE, **images)
        if done.returncode != 0:
            logs = engine.call(
                *command[:4], "logs", "--tail=30", "elemta", "dovecot", ELEMTA_IMAGE=IMAGE, **images
            )
            pytest.fail(f"{arguments}: {(done.stdout + done.stderr)[-3000:]}\n{logs.stdout[-6000:]}")
        return done.stdout

    try:
        compose("up", "--detach")
        said = compose("run", "--rm", "client")
        assert "submitted, signed, delivered and read" in said
        assert "an honest message: 250, a test message for spam filters: 55" in said
        compose("run", "--rm", "client")  # and once more: the first start is not a special one
        wait_until(
            lambda: engine.python(QUERY, 'up{job="elemta"}').strip() == "1", "Prometheus sees elemta", 40
        )
        accepted = "sum(elemta_messages_accepted_total)"
        wait_until(
            lambda: float(engine.python(QUERY, accepted).strip() or 0) >= 4, "Prometheus has counted it", 40
        )
    finally:
        compose("down", "--volumes", "--timeout", "40")
    assert engine.docker("ps", "--all", "--quiet") == ""
