"""SIGHUP of the whole server, run as a process of its own: what changes, what goes on, what is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from server_process import ENDS_WITHIN, RunningServer, Setting, environment, serving, wait_for
from tls_files import write_pair

MESSAGE = b"Subject: across a reload\r\n\r\nhello\r\n"


def listener(name: str, port: int, **more: str) -> str:
    lines = [
        f"{key} = {value}"
        for key, value in {"name": f'"{name}"', "address": f'"127.0.0.1:{port}"', **more}.items()
    ]
    return "\n".join(["[[listeners]]", *lines, ""])


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write()
    return setting


@pytest.fixture
def server(setting: Setting) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


def rewrite(setting: Setting, listeners: str, extra: str = "") -> None:
    """The configuration with other listeners."""
    setting.write(extra=extra)
    text = setting.file.read_text()
    start, end = text.index("[[listeners]]"), text.index("[domains]")
    setting.file.write_text(text[:start] + listeners + text[end:])


def reload(server: RunningServer) -> dict[str, Any]:
    """SIGHUP, and what was told of it."""
    before = len(server.events("server.reloaded"))
    server.hang_up()
    events = wait_for(
        lambda: (found := server.events("server.reloaded"))[before:] and found, "the reload is told"
    )
    return dict(events[-1])


def client(port: int) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port, local_hostname="client.example", timeout=10)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def delivered(setting: Setting) -> int:
    folder = setting.mail / "example.org" / "bob" / "new"
    return len(list(folder.glob("*"))) if folder.exists() else 0


def test_listeners_limits_and_certificates_change_under_a_session_that_goes_on(
    setting: Setting, server: RunningServer
) -> None:
    second = free_port()
    pair = write_pair(setting.folder, "mx", "mx.example.org", now=time.time())
    with client(setting.port) as session:
        session.ehlo()
        size = session.esmtp_features["size"]
        assert "starttls" not in session.esmtp_features
        assert session.mail("anna@client.example")[0] == 250
        assert session.rcpt("bob@example.org")[0] == 250
        extra = (
            f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n[limits]\nmessage_size = "1MiB"\n'
            f"[policy]\n"
        )
        rewrite(setting, listener("mx", setting.port, tls='"starttls"') + listener("second", second), extra)
        told = reload(server)
        assert {
            "listeners",
            "tls",
            "limits",
            "certificates",
            "listener second added",
            "listener mx changed",
        } <= set(told["changed"])
        assert told.get("error", "") == ""
        assert told["restart"] == []
        with client(second) as other:
            other.ehlo()
            assert other.esmtp_features["size"] == str(1 << 20)
            assert other.sendmail("anna@client.example", ["bob@example.org"], MESSAGE) == {}
        with client(setting.port) as private:
            context = ssl.create_default_context(cafile=str(pair.certificate))
            context.check_hostname = False
            private.ehlo()
            assert private.starttls(context=context)[0] == 220
            assert private.sendmail("anna@client.example", ["bob@example.org"], MESSAGE) == {}
        # The session that was there before: as it began.
        assert session.data(MESSAGE)[0] == 250
        session.ehlo()
        assert session.esmtp_features["size"] == size
        # And without its listener.
        rewrite(setting, listener("second", second), extra)
        assert reload(server)["changed"] == ["listeners", "listener mx removed"]
        wait_for(lambda: refuses(setting.port), "the listener is gone")
        assert session.sendmail("anna@client.example", ["bob@example.org"], MESSAGE) == {}
    wait_for(lambda: delivered(setting) == 4, "all four messages have arrived")
    assert server.stop() == 0
    assert server.events("task.crashed") == []


def test_an_address_in_use_keeps_the_old_configuration_and_says_so(
    setting: Setting, server: RunningServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken = foreign.getsockname()[1]
        rewrite(setting, listener("other", taken), '[limits]\nmessage_size = "1MiB"\n')
        told = reload(server)
    assert f"127.0.0.1:{taken}: Address already in use" in told["error"]
    assert told["changed"] == []
    with client(setting.port) as session:
        session.ehlo()
        assert session.esmtp_features["size"] == str(50 << 20)


def quiet_port() -> int:
    """Below the range that clients get theirs from: what waits there after its end keeps a wildcard out."""
    for port in random.sample(range(12000, 32000), 100):
        try:
            with socket.create_server(("", port)):
                return port
        except OSError:
            continue
    raise AssertionError("no free port")


def test_a_listener_goes_from_one_address_to_all_of_them_on_the_same_port(tmp_path: Path) -> None:
    setting = Setting(tmp_path, port=quiet_port())
    setting.write()
    with serving(tmp_path, setting.port, "-c", setting.file) as server, client(setting.port) as session:
        session.ehlo()
        rewrite(setting, listener("mx", setting.port).replace("127.0.0.1", "0.0.0.0"))
        assert reload(server)["changed"] == ["listeners", "listener mx changed"]
        assert session.noop()[0] == 250
        with smtplib.SMTP("127.0.0.2", setting.port, timeout=10) as other:
            assert other.noop()[0] == 250
            # RFC 5321 §4.5.1: postmaster at whatever address we are reached at
            other.ehlo()
            assert other.mail("a@client.example")[0] == 250
            assert other.rcpt("postmaster@[127.0.0.2]")[0] == 250
            assert other.rcpt("someone@[127.0.0.2]")[0] == 550


def test_certificate_files_that_were_replaced_are_used_after_a_hangup(
    setting: Setting, tmp_path: Path
) -> None:
    pair = write_pair(setting.folder, "mx", "mx.example.org")
    extra = f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    rewrite(setting, listener("mx", setting.port, tls='"starttls"'), extra)

    def shown() -> str:
        with client(setting.port) as session:
            session.starttls(context=ssl._create_unverified_context())
            assert isinstance(session.sock, ssl.SSLSocket)
            return ssl.DER_cert_to_PEM_cert(session.sock.getpeercert(binary_form=True) or b"")

    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        assert shown() == pair.certificate.read_text()
        write_pair(setting.folder, "mx", "mx.example.org")
        assert shown() != pair.certificate.read_text()
        assert reload(server)["changed"] == ["certificates"]
        assert shown() == pair.certificate.read_text()
        pair.key.write_text("nonsense")
        assert "no private key" in reload(server)["error"]
        assert shown() == pair.certificate.read_text()


@contextlib.contextmanager
def activated(setting: Setting, *sockets: socket.socket, names: str) -> Generator[RunningServer, None, None]:
    """The server as systemd starts it, with sockets from descriptor 3 on."""
    log = setting.folder / "activated"
    # Out of the way of those that the shell gives them
    high = [fcntl.fcntl(sock, fcntl.F_DUPFD, 200) for sock in sockets]
    moves = " ".join(f"{3 + index}<&{target}" for index, target in enumerate(high))
    command = f'LISTEN_PID=$$ exec "$0" -m elemta run -c "$1" {moves}'
    with log.open("ab") as err:
        process = subprocess.Popen(
            ["/bin/bash", "-c", command, sys.executable, str(setting.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=environment() | {"LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names},
            pass_fds=high,
        )
    for target in high:
        os.close(target)
    server = RunningServer(process, setting.port, log, log)
    try:
        wait_for(lambda: server.events("server.started"), "the server has started", 30)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(ENDS_WITHIN)


def test_sockets_from_systemd_are_kept_over_reloads(setting: Setting) -> None:
    named, unnamed = (socket.create_server(("127.0.0.1", 0), backlog=50) for _ in range(2))
    with named, unnamed:
        by_name, by_address = named.getsockname()[1], unnamed.getsockname()[1]
        # A socket goes to the listener of its name, whatever its address there; others by address.
        both = listener("mx", free_port()) + listener("second", by_address)
        rewrite(setting, both)
        with activated(setting, named, unnamed, names="mx:elemta.socket") as server:
            for port in (by_name, by_address):
                with client(port) as session:
                    assert session.noop()[0] == 250
            rewrite(setting, listener("second", by_address))
            assert reload(server)["changed"] == ["listeners", "listener mx removed"]
            with client(by_address) as session:
                assert session.noop()[0] == 250
            rewrite(setting, both)
            assert reload(server)["changed"] == ["listeners", "listener mx added"]
            with client(by_name) as session:
                assert session.noop()[0] == 250


def test_a_server_without_standard_descriptors_serves(setting: Setting) -> None:
    process = subprocess.Popen(
        [
            "/bin/bash",
            "-c",
            'exec "$0" -m elemta run -c "$1" 0<&- 1>&- 2>&-',
            sys.executable,
            str(setting.file),
        ],
        env=environment(),
    )
    try:

        def greeted() -> bool:
            assert process.poll() is None
            try:
                with client(setting.port) as session:
                    return session.sendmail("anna@client.example", ["bob@example.org"], MESSAGE) == {}
            except OSError:
                return False

        wait_for(greeted, "the server takes a message", 30)
        links = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert links == ["/dev/null"] * 3
        wait_for(lambda: delivered(setting) == 1, "it has arrived")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN) == 0
