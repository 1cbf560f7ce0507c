"""The Debian package in real machines: installed by the guide, upgraded and downgraded with a full queue, removed, purged."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import ROOT, Machine, booted, debian_tree, overlay, require, run_script, wait_until

pytestmark = pytest.mark.deploy

MESSAGES = 10_000
MINUTES_OF_A_NEW_USER = 5


@pytest.fixture(scope="module")
def machine(packages: dict[str, Path]) -> Iterator[Machine]:
    """A machine where nobody has installed anything yet."""
    require("systemd-nspawn", "nsenter", "dpkg-deb")
    with overlay(debian_tree()) as root, booted(root) as machine:
        shutil.copy(packages["deb"], root / "root/elemta.deb")
        yield machine


def another_version(packages: dict[str, Path], machine: Machine, version: str, comment: str) -> str:
    """The same package under another version, its shipped configuration with one comment more."""
    tree = machine.root.parent / f"deb-{version}"
    run_script("dpkg-deb", "--raw-extract", str(packages["deb"]), str(tree))
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join(f"Version: {version}\n" if x.startswith("Version:") else x for x in lines))
    config = tree / "etc/elemta/elemta.toml"
    config.write_text(config.read_text() + f"\n# {comment}\n")
    made = machine.root / f"root/elemta-{version}.deb"
    run_script("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made))
    shutil.rmtree(tree)
    return f"/root/{made.name}"


def test_lintian_finds_no_error(packages: dict[str, Path]) -> None:
    require("lintian")
    done = subprocess.run(
        ["lintian", "--fail-on", "error", str(packages["deb"])],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith("E:")]
    assert (done.returncode, errors) == (0, []), done.stdout + done.stderr


RECEIVE = """
import smtplib, ssl
with smtplib.SMTP("127.0.0.1", 25, timeout=20) as connection:
    connection.starttls(context=ssl._create_unverified_context())
    connection.sendmail("friend@example.com", ["alice@mail.test"], "Subject: welcome\\n\\nHello\\n")
"""

SUBMIT = """
import smtplib, ssl
with smtplib.SMTP("127.0.0.1", 587, timeout=20) as connection:
    connection.starttls(context=ssl._create_unverified_context())
    connection.login("alice@mail.test", "correct horse battery")
    connection.sendmail(
        "alice@mail.test", ["bob@mail.test"], "From: alice@mail.test\\nSubject: lunch\\n\\nAt noon?\\n"
    )
"""


def test_three_lines_later_mail_flows_on_25_and_587_with_tls_and_signed(machine: Machine) -> None:
    began = time.monotonic()
    said = machine.run("dpkg", "--install", "/root/elemta.deb", seconds=200)
    assert "change the lines (1) to (3)" in said
    assert machine.show("elemta.socket", "ActiveState") == "inactive"  # it waits for its name
    config = "/etc/elemta/elemta.toml"
    machine.edit(config, 'hostname = "mx.example.org"', 'hostname = "mx.mail.test"')
    machine.edit(config, 'postmaster = "postmaster@example.org"', 'postmaster = "alice@mail.test"')
    machine.edit(config, 'local = ["example.org"]', 'local = ["mail.test"]')
    machine.run("elemta", "check")
    machine.run("systemctl", "enable", "--now", "elemta", seconds=120)
    machine.run("elemta", "user", "add", "alice@mail.test", text="correct horse battery\n")
    machine.run("systemctl", "reload", "elemta")
    machine.python(RECEIVE)
    machine.python(SUBMIT)
    mail = machine.root / "var/lib/elemta/mail/mail.test"
    for name, field in (("alice", "Subject: welcome"), ("bob", "DKIM-Signature: v=1; a=rsa-sha256;")):
        new = mail / name / "new"
        wait_until(lambda new=new: new.exists() and any(new.iterdir()), f"mail for {name}")
        text = next(new.iterdir()).read_text()
        assert field in text
    assert "d=mail.test; s=elemta;" in text
    assert time.monotonic() - began < MINUTES_OF_A_NEW_USER * 60


def test_secrets_are_for_root_and_the_server_only(machine: Machine) -> None:
    for name in ("privkey.pem", "dkim.pem", "users"):
        assert machine.run("stat", "-c", "%a %U %G", f"/etc/elemta/{name}").split() == [
            "640",
            "root",
            "elemta",
        ]
    assert machine.run("stat", "-c", "%a %U", "/var/lib/elemta").split() == ["700", "elemta"]
    assert machine.run("stat", "-c", "%a %U", "/var/log/elemta").split() == ["750", "elemta"]
    assert machine.run("stat", "-c", "%a %U", "/etc/elemta/credentials").split() == ["700", "root"]


def test_what_the_server_imports_is_compiled(machine: Machine) -> None:
    library = machine.root / "usr/lib/elemta/elemta"
    assert len(list(library.glob("cli/__pycache__/*.pyc"))) >= len(list(library.glob("cli/*.py")))


FILL = """
import smtplib, sys, threading
count, clients = int(sys.argv[1]), 8
failures = []
def client(number):
    try:
        for first in range(number, count, clients * 100):
            with smtplib.SMTP("127.0.0.1", 25, timeout=60) as connection:
                for index in range(first, min(count, first + clients * 100), clients):
                    connection.sendmail(
                        f"sender{index}@example.com", [f"user{index % 50}@mail.test"], f"Subject: number {index}\\n\\nText\\n"
                    )
    except Exception as error:
        failures.append(repr(error))
threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\\n".join(failures) or 0)
"""

KEEP_CALLING = """
import smtplib, sys, time
# connects all the time while the package is replaced: a refused connection would raise
end, done = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as connection:
        assert connection.noop()[0] == 250
    done += 1
    time.sleep(0.1)
print(done)
"""


def _queued(machine: Machine) -> int:
    status = json.loads(machine.run("elemta", "status", "--json"))
    spool = status["spool"]
    return int(spool["queued"]) + int(spool["held"]) + int(spool["leased"])


def _install(machine: Machine, *arguments: str) -> None:
    """Replace the package while clients connect."""
    before = int(machine.show("elemta.service", "MainPID"))
    with subprocess.Popen(
        ["nsenter", "-t", str(machine.leader), "-a", "/usr/bin/python3", "-c", KEEP_CALLING, "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as caller:
        machine.run("dpkg", *arguments, seconds=200)
        said = caller.communicate(timeout=120)[0]
    assert caller.returncode == 0, said
    assert int(said) > 0
    assert int(machine.show("elemta.service", "MainPID")) != before
    assert machine.show("elemta.service", "ActiveState") == "active"


def test_upgrade_and_downgrade_lose_nothing_of_a_full_queue(
    machine: Machine, packages: dict[str, Path]
) -> None:
    machine.run("elemta", "queue", "pause", "domain", "mail.test")
    machine.python(FILL, str(MESSAGES), seconds=400)
    assert _queued(machine) == MESSAGES
    newer = another_version(packages, machine, "99.0-1", "a new comment")
    _install(machine, "--force-confold", "--install", newer)
    assert "99.0-1" in machine.run("dpkg-query", "--show", "elemta")
    config = (machine.root / "etc/elemta/elemta.toml").read_text()
    assert 'local = ["mail.test"]' in config  # what was changed stays
    assert "a new comment" not in config
    assert "a new comment" in (machine.root / "etc/elemta/elemta.toml.dpkg-dist").read_text()
    assert _queued(machine) == MESSAGES
    _install(machine, "--force-confold", "--force-downgrade", "--install", "/root/elemta.deb")
    assert _queued(machine) == MESSAGES
    machine.run("elemta", "queue", "audit", seconds=120)
    machine.run("elemta", "queue", "resume", "domain", "mail.test")
    wait_until(lambda: _queued(machine) == 0, "all are delivered", 300)
    mail = machine.root / "var/lib/elemta/mail/mail.test"
    subjects = [
        next(line for line in file.read_text().splitlines() if line.startswith("Subject: "))
        for file in mail.glob("user*/new/*")
    ]
    assert sorted(subjects) == sorted(f"Subject: number {index}" for index in range(MESSAGES))


NEWER_SCHEMA = """
import pathlib, sqlite3, sys
(path,) = pathlib.Path("/var/lib/elemta").rglob("spool.db")
connection = sqlite3.connect(path)
(version,) = connection.execute("PRAGMA user_version").fetchone()
connection.execute(f"PRAGMA user_version = {version + int(sys.argv[1])}")
connection.commit()
"""


def test_an_older_program_refuses_a_newer_spool_and_says_what_to_do(machine: Machine) -> None:
    machine.run("systemctl", "stop", "elemta.socket", "elemta-submission.socket", "elemta")
    machine.python(NEWER_SCHEMA, "1")
    assert machine.call("systemctl", "start", "elemta").returncode != 0
    journal = machine.run("journalctl", "--no-pager", "-n", "40", "-u", "elemta.service")
    assert "run the newer program" in journal
    machine.run("systemctl", "stop", "elemta.socket", "elemta-submission.socket", "elemta")
    machine.python(NEWER_SCHEMA, "-1")
    machine.run("systemctl", "reset-failed", "elemta")
    machine.run("systemctl", "start", "elemta")


def test_remove_keeps_queue_and_configuration_and_a_second_install_finds_them(machine: Machine) -> None:
    machine.run("elemta", "queue", "pause", "domain", "mail.test")
    machine.python(FILL, "3", seconds=60)
    machine.run("dpkg", "--remove", "elemta", seconds=120)
    assert machine.call("systemctl", "is-active", "elemta.socket").stdout.strip() == "inactive"
    assert not (machine.root / "usr/lib/elemta").exists()
    assert not (machine.root / "usr/bin/elemta").exists()
    assert 'local = ["mail.test"]' in (machine.root / "etc/elemta/elemta.toml").read_text()
    machine.run("dpkg", "--install", "/root/elemta.deb", seconds=200)
    machine.run("systemctl", "enable", "--now", "elemta", seconds=120)
    assert _queued(machine) == 3


def _commands(heading: str) -> str:
    """The commands that the page about backups gives under this heading."""
    page = (ROOT / "docs/backup.md").read_text()
    (section,) = (part for part in page.split("\n## ")[1:] if part.startswith(heading + "\n"))
    return section.partition("```sh\n")[2].partition("```")[0]


def test_a_backup_brings_queue_and_configuration_back(machine: Machine) -> None:
    machine.run("bash", "-e", text=_commands("Back up"), seconds=120)
    assert _queued(machine) == 3
    machine.run("elemta", "queue", "remove", "--domain", "mail.test", "--yes")
    (machine.root / "etc/elemta/elemta.toml").write_text("lost = true\n")
    machine.run("bash", "-e", text=_commands("Restore"), seconds=120)
    assert _queued(machine) == 3
    machine.run("elemta", "queue", "resume", "domain", "mail.test")
    wait_until(lambda: _queued(machine) == 0, "what was saved is delivered", 60)


def test_purge_leaves_nothing_but_delivered_mail(machine: Machine) -> None:
    machine.run("dpkg", "--purge", "elemta", seconds=120)
    assert not (machine.root / "etc/elemta").exists()
    assert not (machine.root / "var/log/elemta").exists()
    assert [file.name for file in (machine.root / "var/lib/elemta").iterdir()] == ["mail"]
    assert machine.call("systemctl", "cat", "elemta.service").returncode != 0
    wants = machine.root / "etc/systemd/system"
    assert not [str(link) for link in wants.rglob("elemta*")]
