"""The units under a booted systemd: activation, watchdog, reload, stop, credentials, and what the process may."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine, booted, debian_tree, overlay, require, send, smtp, wait_until

pytestmark = pytest.mark.deploy

# The tests start it more often in a minute than an administrator would.
WATCHDOG = """
[Unit]
StartLimitIntervalSec=0
[Service]
WatchdogSec=3s
"""


@pytest.fixture(scope="module")
def machine(packages: dict[str, Path]) -> Iterator[Machine]:
    """elemta as its package lays it out, its sockets enabled, nothing started."""
    require("systemd-nspawn", "nsenter")
    with overlay(debian_tree()) as root:
        shutil.copy(packages["deb"], root / "root/elemta.deb")
        with booted(root) as machine:
            machine.run("dpkg", "--install", "/root/elemta.deb", seconds=200)
            machine.write("/etc/systemd/system/elemta.service.d/test.conf", WATCHDOG)
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "enable", "--now", "elemta.socket", "elemta-submission.socket")
            yield machine


def _main_process(machine: Machine) -> int:
    return int(machine.show("elemta.service", "MainPID"))


def _active(machine: Machine, unit: str) -> str:
    return machine.show(unit, "ActiveState")


def test_the_first_connection_starts_the_server(machine: Machine) -> None:
    machine.run("systemctl", "stop", "elemta.service")
    assert _active(machine, "elemta.service") == "inactive"
    assert _active(machine, "elemta.socket") == "active"
    answer = machine.python(smtp(25, "EHLO client.example"))
    assert answer.startswith("220 mx.example.org") or "mx.example.org" in answer.splitlines()[0]
    assert _active(machine, "elemta.service") == "active"


def test_it_serves_port_25_without_any_privilege(machine: Machine) -> None:
    machine.python(smtp(25))
    status = machine.run("cat", f"/proc/{_main_process(machine)}/status")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    user = int(machine.run("id", "-u", "elemta"))
    assert user != 0
    assert {int(number) for number in facts["Uid"].split()} == {user}
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


def test_the_running_service_exposes_little(machine: Machine) -> None:
    machine.run("systemd-analyze", "security", "--threshold=12", "elemta.service")


def test_mail_is_taken_and_delivered(machine: Machine) -> None:
    send(machine, 25, ["alice@example.org"])
    new = machine.root / "var/lib/elemta/mail/example.org/alice/new"
    wait_until(lambda: new.exists() and any(new.iterdir()), "the message is in the maildir")
    text = next(new.iterdir()).read_text()
    assert "World" in text
    # an IPv4 client of a socket for both families is no ::ffff:127.0.0.1
    assert "[127.0.0.1]" in text


def test_a_hung_server_is_replaced_and_its_socket_stays(machine: Machine) -> None:
    machine.python(smtp(25))
    before = _main_process(machine)
    restarts = int(machine.show("elemta.service", "NRestarts"))
    machine.run("kill", "-STOP", str(before))
    # The kernel completes the connection; whoever comes next answers it.
    assert machine.python(smtp(25, "EHLO client.example")).startswith("220")
    assert _main_process(machine) != before
    assert int(machine.show("elemta.service", "NRestarts")) == restarts + 1
    journal = machine.run("journalctl", "--no-pager", "-u", "elemta.service")
    assert "Watchdog timeout" in journal


def test_reload_changes_settings_in_the_same_process(machine: Machine) -> None:
    machine.python(smtp(25))
    before = _main_process(machine)
    config = "/etc/elemta/elemta.toml"
    machine.edit(config, "[admin]", '[limits]\nmessage_size = "7MiB"\n\n[admin]')
    machine.run("systemctl", "reload", "elemta.service")
    wait_until(
        lambda: f"SIZE {7 * 1024 * 1024}" in machine.python(smtp(25, "EHLO client.example")), "the new size"
    )
    assert _main_process(machine) == before
    machine.edit(config, '[limits]\nmessage_size = "7MiB"\n\n', "")
    machine.run("systemctl", "reload", "elemta.service")


STOP_IN_A_SESSION = """
import smtplib, subprocess, time
connection = smtplib.SMTP("127.0.0.1", 25, timeout=30)
connection.ehlo("client.example")
connection.mail("a@example.com")
connection.rcpt("late@example.org")
assert connection.docmd("DATA")[0] == 354
began = time.monotonic()
stop = subprocess.Popen(["systemctl", "stop", "elemta.service"])
time.sleep(2)
assert stop.poll() is None, "it did not wait for the message"
connection.send(b"Subject: late\\r\\n\\r\\nhello\\r\\n.\\r\\n")
print(connection.getreply()[0])
assert stop.wait(40) == 0
print(time.monotonic() - began)
"""


def test_stop_lets_a_message_under_way_finish_and_keeps_the_socket(machine: Machine) -> None:
    code, seconds = machine.python(STOP_IN_A_SESSION).split()
    assert code == "250"
    assert float(seconds) < 25
    assert machine.show("elemta.service", "Result") == "success"
    assert _active(machine, "elemta.socket") == "active"
    machine.python(smtp(25))  # the next connection starts it again, and what was accepted is there
    new = machine.root / "var/lib/elemta/mail/example.org/late/new"
    wait_until(lambda: new.exists() and any(new.iterdir()), "the message is in the maildir")


def test_a_wrong_configuration_is_told_and_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", "elemta.service", "elemta.socket")
    machine.edit("/etc/elemta/elemta.toml", 'role = "mx"\ntls =', 'role = "mx"\ntsl =')
    assert machine.call("systemctl", "start", "elemta.service").returncode != 0
    journal = machine.run("journalctl", "--no-pager", "-n", "20", "-u", "elemta.service")
    assert "elemta.toml:" in journal
    assert "tsl" in journal
    assert _active(machine, "elemta.service") == "failed"
    machine.edit("/etc/elemta/elemta.toml", 'role = "mx"\ntsl =', 'role = "mx"\ntls =')
    machine.run("systemctl", "reset-failed", "elemta.service")
    machine.run("systemctl", "start", "elemta.socket", "elemta.service")


SUBMIT = """
import smtplib, ssl
context = ssl._create_unverified_context()
with smtplib.SMTP_SSL("127.0.0.1", 465, timeout=20, context=context) as connection:
    connection.login("alice@example.org", "correct horse battery")
    connection.sendmail("alice@example.org", ["carol@example.org"], "From: alice@example.org\\n\\nHello\\n")
with smtplib.SMTP("127.0.0.1", 587, timeout=20) as connection:
    connection.starttls(context=context)
    print(connection.ehlo()[1].decode())
"""


def test_users_submit_with_a_key_that_only_root_can_read(machine: Machine) -> None:
    folder = "/etc/elemta"
    machine.run(
        *(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=mx.example.org",
        ),
        *("-addext", "subjectAltName=DNS:mx.example.org"),
        *("-keyout", f"{folder}/credentials/privkey.pem", "-out", f"{folder}/fullchain.pem"),
    )
    machine.run("rm", f"{folder}/privkey.pem")
    assert (machine.root / "etc/elemta/credentials").stat().st_mode & 0o077 == 0
    handed_in = "/run/credentials/elemta.service/elemta_privkey.pem"
    machine.edit(f"{folder}/elemta.toml", f"{folder}/privkey.pem", handed_in)
    machine.run("elemta", "user", "add", "alice@example.org", text="correct horse battery\n")
    machine.run("systemctl", "stop", "elemta.service")
    machine.run("systemctl", "start", "elemta-submission.socket")
    answer = machine.python(SUBMIT)
    assert "AUTH" in answer
    new = machine.root / "var/lib/elemta/mail/example.org/carol/new"
    wait_until(lambda: new.exists() and any(new.iterdir()), "the message is in the maildir")
    assert "no listener" not in machine.run("journalctl", "--no-pager", "-n", "20", "-u", "elemta.service")


def test_the_queue_can_be_seen_by_the_services_user_while_it_is_stopped(machine: Machine) -> None:
    machine.run("systemctl", "stop", "elemta.service")
    assert "[]" in machine.run("runuser", "-u", "elemta", "--", "elemta", "queue", "list", "--json")
