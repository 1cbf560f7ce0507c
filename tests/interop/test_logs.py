"""The log where others read it: pflogsumm, rsyslog, journald; with a real server and real mail."""

from __future__ import annotations

import contextlib
import json
import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs.servers import end, open_folder, require, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from ports import free_port
from server_process import RunningServer, Setting, serving
from tls_files import write_pair

pytestmark = pytest.mark.interop
PROPERTIES = (
    "inputname",
    "protocol-version",
    "syslogfacility-text",
    "syslogseverity-text",
    "hostname",
    "app-name",
    "procid",
    "msgid",
    "msg",
)


def outputs(*tables: str) -> str:
    return '[logging]\nformat = "off"\n' + "".join(f"[[logging.outputs]]\n{table}\n" for table in tables)


def traffic(server: RunningServer) -> None:
    with server.client() as client:
        client.sendmail(
            "anna@client.example",
            ["one@example.org", "two@example.org"],
            b"Message-ID: <1@x>\r\n\r\nhello\r\n",
        )
        client.sendmail("", ["one@example.org"], b"\r\nhello\r\n")
        client.sendmail("carl@other.example", ["b@far.example"], b"\r\nnobody is there\r\n")
        with contextlib.suppress(smtplib.SMTPException):
            client.sendmail("anna@client.example", ["x@unknown.example"], b"\r\nhello\r\n")


@contextlib.contextmanager
def running(setting: Setting, *tables: str) -> Iterator[RunningServer]:
    config = setting.write(extra=outputs(*tables))
    with serving(setting.folder, setting.port, "-c", config) as server:
        yield server


def test_pflogsumm_reads_the_mail_log(tmp_path: Path) -> None:
    require("pflogsumm")
    path = tmp_path / "mail.log"
    with running(Setting(tmp_path), f'to = "file"\nformat = "mail"\npath = "{path}"') as server:
        traffic(server)
        wait_until(lambda: path.read_text().count("status=") >= 4, "four attempts")
        assert server.stop() == 0
    done = subprocess.run(
        ["/usr/sbin/pflogsumm", "--syslog-name", "elemta", "--smtpd-stats", "-u", "20", str(path)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found = {" ".join(line.split()) for line in done.stdout.splitlines()}
    for line in (
        "3 received",
        "3 delivered",
        "1 deferred (1 deferrals)",
        "0 bounced",
        "1 rejected (25%)",
        "2 recipients",
    ):
        assert line in found, done.stdout
    assert any(line.startswith("far.example") or line.endswith("far.example") for line in found), done.stdout
    assert any("anna@client.example" in line for line in found), done.stdout
    assert done.stderr == ""


def test_a_moved_file_is_opened_again_at_sighup_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "elemta.log"
    with running(Setting(tmp_path), f'to = "file"\npath = "{path}"') as server:
        with server.client() as client:
            for number in range(40):
                client.sendmail(f"s{number}@client.example", ["one@example.org"], b"\r\nhello\r\n")
                if number == 20:
                    wait_until(lambda: "s5@client" in path.read_text(), "some lines")
                    path.rename(tmp_path / "elemta.log.1")
                    server.hang_up()
        wait_until(lambda: path.exists() and "server.reloaded" in path.read_text(), "the new file")
        assert server.stop() == 0
    lines = (tmp_path / "elemta.log.1").read_text().splitlines() + path.read_text().splitlines()
    senders = [record["sender"] for record in map(json.loads, lines) if record["type"] == "message.accepted"]
    assert senders == [f"s{number}@client.example" for number in range(40)]
    assert path.stat().st_mode & 0o007 == 0


def test_rsyslog_understands_what_comes_by_udp_and_tcp_and_over_a_socket(tmp_path: Path) -> None:
    require("rsyslogd")
    with open_folder() as folder:
        port = free_port()
        fields = " ".join(f'property(outname="{name}" name="{name}" format="jsonf") ' for name in PROPERTIES)
        (folder / "rsyslog.conf").write_text(
            'module(load="imudp")\nmodule(load="imtcp")\nmodule(load="imuxsock" SysSock.Use="off")\n'
            f'input(type="imudp" address="127.0.0.1" port="{port}")\ninput(type="imtcp" address="127.0.0.1" port="{port}")\n'
            f'input(type="imuxsock" Socket="{folder}/log" UseSpecialParser="off" ParseHostname="on")\n'
            f'template(name="json" type="list" option.jsonf="on") {{ {fields} }}\n'
            f'*.* action(type="omfile" file="{folder}/out" template="json")\n'
        )
        process = subprocess.Popen(
            ["/usr/sbin/rsyslogd", "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        out = folder / "out"
        try:
            wait_until((folder / "log").exists, "the socket of rsyslogd")
            tables = (
                f'to = "syslog"\naddress = "127.0.0.1:{port}"',
                f'to = "syslog"\nprotocol = "tcp"\nformat = "mail"\naddress = "127.0.0.1:{port}"\nfacility = "local5"',
                f'to = "syslog"\nformat = "console"\npath = "{folder}/log"\ntag = "mta"',
            )
            with running(Setting(tmp_path), *tables) as server:
                traffic(server)
                wait_until(
                    lambda: out.exists() and out.read_text().count("recipient.deferred") >= 3,
                    "lines of all three",
                )
                assert server.stop() == 0
        finally:
            end(process, 10)
        records = [json.loads(line) for line in out.read_text().splitlines()]
    ours = [each for each in records if each["procid"] == str(server.process.pid)]
    assert {each["protocol-version"] for each in ours} == {"1"}
    assert {each["hostname"] for each in ours} == {"mx.example.org"}
    udp, tcp, unix = (
        [each for each in ours if each["inputname"] == name] for name in ("imudp", "imtcp", "imuxsock")
    )
    assert (
        json.loads(next(each["msg"] for each in udp if each["msgid"] == "message.accepted"))["sender"]
        == "anna@client.example"
    )
    assert {each["syslogfacility-text"] for each in udp} == {"mail"}
    assert {each["syslogfacility-text"] for each in tcp} == {"local5"}
    assert any(each["app-name"] == "elemta/smtp" and "status=deferred" in each["msg"] for each in tcp)
    assert {each["app-name"] for each in unix} == {"mta"}
    assert [each["syslogseverity-text"] for each in unix if each["msgid"] == "recipient.deferred"] == [
        "warning"
    ]


def tls_driver() -> str:
    """The driver of rsyslog for TLS that is installed; skips without."""
    for folder in Path("/usr/lib").glob("*/rsyslog"):
        for name, file in (("gtls", "lmnsd_gtls.so"), ("ossl", "lmnsd_ossl.so")):
            if (folder / file).exists():
                return name
    pytest.skip("not installed: rsyslog-gnutls or rsyslog-openssl")


def test_rsyslog_gets_the_log_over_tls_from_who_has_a_certificate_and_after_it_was_away(
    tmp_path: Path,
) -> None:
    require("rsyslogd")
    driver = tls_driver()
    with open_folder() as folder:
        ours = write_pair(folder, "ours", "mx.example.org", now=time.time())
        theirs = write_pair(folder, "theirs", "logs.example.org", now=time.time())
        port, out = free_port(), folder / "out"
        (folder / "rsyslog.conf").write_text(
            f'global(DefaultNetstreamDriver="{driver}" DefaultNetstreamDriverCAFile="{ours.certificate}"\n'
            f'DefaultNetstreamDriverCertFile="{theirs.certificate}" DefaultNetstreamDriverKeyFile="{theirs.key}")\n'
            f'module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name"\n'
            'PermittedPeer=["mx.example.org"])\n'
            f'input(type="imtcp" address="127.0.0.1" port="{port}")\n'
            'template(name="json" type="list" option.jsonf="on") { property(outname="msgid" name="msgid" format="jsonf") '
            'property(outname="msg" name="msg" format="jsonf") }\n'
            f'*.* action(type="omfile" file="{out}" template="json")\n'
        )

        @contextlib.contextmanager
        def receiving() -> Iterator[None]:
            process = subprocess.Popen(
                ["/usr/sbin/rsyslogd", "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                yield
            finally:
                end(process, 10)

        def senders() -> list[str]:
            records = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
            found = [json.loads(each["msg"]) for each in records if each["msgid"] == "message.accepted"]
            return [each["sender"] for each in found]

        def send(server: RunningServer, sender: str) -> None:
            with server.client() as client:
                client.sendmail(sender, ["one@example.org"], b"\r\nhello\r\n")

        table = (
            f'to = "syslog"\nprotocol = "tls"\naddress = "127.0.0.1:{port}"\nname = "logs.example.org"\n'
            f'authorities = "{theirs.certificate}"\ncertificate = "{ours.certificate}"\nkey = "{ours.key}"'
        )
        wrong = f'to = "syslog"\nprotocol = "tls"\naddress = "127.0.0.1:{port}"\nname = "logs.example.org"'
        with running(Setting(tmp_path), table) as server:
            send(server, "a@client.example")  # nobody is there yet
            with receiving():
                send(server, "b@client.example")
                wait_until(lambda: senders() == ["a@client.example", "b@client.example"], "what was kept")
            send(server, "c@client.example")
            with receiving():
                wait_until(lambda: senders()[-1:] == ["c@client.example"], "what came while it was away")
            assert server.stop() == 0
        log = tmp_path / "elemta.log"
        (tmp_path / "wrong").mkdir()
        with (
            receiving(),
            running(Setting(tmp_path / "wrong"), wrong, f'to = "file"\npath = "{log}"') as server,
        ):
            send(server, "d@client.example")
            wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in log.read_text(), "the reason")
            assert server.stop() == 0
        assert "d@client.example" not in senders()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give journald a place of its own")
def test_journald_takes_a_field_for_each_value(tmp_path: Path) -> None:
    journald = "/lib/systemd/systemd-journald"
    require(journald, "journalctl", "unshare")
    with open_folder() as folder:
        script = (
            'set -e; cd "$1"; mkdir -p sockets journal; mount -t tmpfs none /run; mkdir -p /run/systemd/journal /run/log/journal; '
            "mount --bind sockets /run/systemd/journal; mount --bind journal /run/log/journal; exec "
            + journald
        )
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def entries() -> list[dict[str, object]]:
            done = subprocess.run(
                ["journalctl", "-o", "json", "--no-pager", "-D", str(folder / "journal"), "SYSLOG_IDENTIFIER=elemta"],
                check=False, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            return [json.loads(line) for line in done.stdout.splitlines()]

        try:
            wait_until((folder / "sockets" / "socket").exists, "the socket of journald")
            with running(Setting(tmp_path), f'to = "journal"\npath = "{folder}/sockets/socket"') as server:
                traffic(server)
                wait_until(
                    lambda: any(e.get("ELEMTA_TYPE") == "recipient.deferred" for e in entries()),
                    "the entry of an attempt",
                )
                found = entries()
                assert server.stop() == 0
        finally:
            end(process, 10)
    accepted = next(each for each in found if each.get("ELEMTA_TYPE") == "message.accepted")
    assert accepted["ELEMTA_RECIPIENTS"] == ["one@example.org", "two@example.org"]
    assert (accepted["PRIORITY"], accepted["_PID"], accepted["SYSLOG_FACILITY"]) == (
        "6",
        str(server.process.pid),
        "2",
    )
    deferred = next(each for each in found if each.get("ELEMTA_TYPE") == "recipient.deferred")
    assert deferred["PRIORITY"] == "4"
    assert "b@far.example" in str(deferred["MESSAGE"])
