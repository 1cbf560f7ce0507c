"""What an operator and a mail client see of the whole server, run as a process of its own."""

from __future__ import annotations

import http.client
import json
import mailbox
import os
import re
import signal
import smtplib
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from server_process import RunningServer, Setting, elemta, serving, wait_for

MESSAGE = (
    b"From: Anna <anna@client.example>\r\n"
    b"To: bob@example.org\r\n"
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <1@client.example>\r\n"
    b"X-Folded: one\r\n\ttwo\r\n"
    b"\r\n"
    b"Hello,\r\n"
    b".a line that begins with a dot\r\n"
    b"..\r\n"
    b"8-bit: \xc3\xa9 \xff, trailing blanks:  \r\n"
    b"\r\n"
    b"end\r\n"
)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write()
    return setting


@pytest.fixture
def server(setting: Setting) -> Generator[RunningServer, None, None]:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        yield server


def accept_undeliverable(server: RunningServer) -> str:
    """A message to the closed port; its id from the reply."""
    with server.client() as client:
        client.ehlo()
        assert client.mail("anna@client.example")[0] == 250
        assert client.rcpt("carl@far.example")[0] == 250
        code, text = client.data(b"Subject: far\r\n\r\nfar away\r\n")
    assert code == 250
    match = re.search(rb"queued as ([0-9A-Za-z]{16})", text)
    assert match, text
    return match[1].decode()


def listed(setting: Setting, *options: str) -> list[Any]:
    done = elemta("queue", "list", "--json", "-c", setting.file, *options)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["messages"])


def wait_deferred(setting: Setting, message: str) -> Any:
    """The entry once its first attempt is over."""

    def attempted() -> Any:
        for entry in listed(setting):
            if (
                entry["id"] == message
                and entry["recipients"][0]["attempts"]
                and not entry["recipients"][0]["leased"]
            ):
                return entry
        return None

    return wait_for(attempted, "an attempt was made")


# Mail


def test_a_message_arrives_in_the_maildir_byte_for_byte_with_return_path_and_received(
    setting: Setting, server: RunningServer
) -> None:
    with server.client() as client:
        refused = client.sendmail("anna@client.example", ["bob@example.org"], MESSAGE, ["BODY=8BITMIME"])
    assert refused == {}
    folder = setting.mail / "example.org" / "bob"
    wait_for(lambda: folder.exists() and any((folder / "new").glob("*")), "the message is in new/")
    box = mailbox.Maildir(str(folder), create=False)
    (key,) = box.keys()
    stored = box.get_bytes(key)
    head, _, rest = stored.partition(b"From: Anna")
    assert b"From: Anna" + rest == MESSAGE.replace(b"\r\n", b"\n")
    assert head.startswith(b"Return-Path: <anna@client.example>\n")
    assert re.search(rb"^Received: from client\.example .*\bby mx\.example\.org\b", head, re.M | re.S)
    message = box[key]
    assert message["Return-Path"] == "<anna@client.example>"
    assert len(message.get_all("Received", [])) == 1
    assert not any((folder / "tmp").iterdir())
    wait_for(lambda: listed(setting) == [], "the queue is empty")


def test_one_message_for_two_recipients_arrives_at_both(setting: Setting, server: RunningServer) -> None:
    with server.client() as client:
        client.sendmail("anna@client.example", ["bob@example.org", "dora@example.org"], MESSAGE)
    for name in ("bob", "dora"):
        folder = setting.mail / "example.org" / name
        wait_for(lambda f=folder: f.exists() and len(list((f / "new").glob("*"))) == 1, f"{name} has it")


def test_the_null_sender_is_written_as_an_empty_return_path(setting: Setting, server: RunningServer) -> None:
    with server.client() as client:
        client.sendmail("", ["bob@example.org"], MESSAGE)
    folder = setting.mail / "example.org" / "bob"
    wait_for(lambda: folder.exists() and any((folder / "new").glob("*")), "the message is in new/")
    (stored,) = mailbox.Maildir(str(folder), create=False)
    assert stored["Return-Path"] == "<>"


def test_a_client_from_outside_is_refused_for_other_domains(server: RunningServer) -> None:
    with server.client() as client:
        client.ehlo()
        client.mail("anna@client.example")
        for recipient in (
            "victim@elsewhere.example",
            "victim%elsewhere.example@far.example",
            "@mx.example.org:victim@elsewhere.example",
            '"victim@elsewhere.example"@far.example',
            "victim@[127.0.0.1]",
        ):
            code, text = client.rcpt(recipient)
            assert 500 <= code < 600, (recipient, code, text)
        assert client.rcpt("victim@elsewhere.example")[0] == 550
        # Our own domain as the sender proves nothing.
        client.rset()
        client.mail("postmaster@example.org")
        assert client.rcpt("victim@elsewhere.example")[0] == 550


def test_a_client_in_relay_networks_may_send_anywhere_and_others_still_not(setting: Setting) -> None:
    setting.write(networks=["127.0.0.2/32"])
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        for source, code in (("127.0.0.2", 250), ("127.0.0.3", 550)):
            with server.client(source) as client:
                client.ehlo()
                client.mail("anna@client.example")
                assert client.rcpt("someone@elsewhere.example")[0] == code


# Signals


def test_sigterm_answers_idle_sessions_with_421_and_exits_0(server: RunningServer) -> None:
    client = server.client()
    client.ehlo()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    assert client.getreply()[0] == 421
    client.close()
    with pytest.raises(OSError):
        server.client()


def test_a_message_whose_last_dot_was_answered_survives_sigkill(setting: Setting) -> None:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        message = accept_undeliverable(server)
        server.process.kill()
        server.process.wait(10)
    assert [entry["id"] for entry in listed(setting)] == [message]
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        assert [entry["id"] for entry in listed(setting)] == [message]
        assert server.stop() == 0


def rcpt(server: RunningServer, recipient: str) -> int:
    with server.client() as client:
        client.ehlo()
        client.mail("anna@client.example")
        return client.rcpt(recipient)[0]


def test_sighup_puts_a_new_list_of_domains_into_effect_without_ending_sessions(
    setting: Setting, server: RunningServer
) -> None:
    assert rcpt(server, "bob@new.example") == 550
    with server.client() as idle:
        idle.ehlo()
        setting.write(domains=["example.org", "new.example"])
        server.hang_up()
        wait_for(lambda: rcpt(server, "bob@new.example") == 250, "the new domain is ours")
        assert idle.noop()[0] == 250
        with server.client() as client:
            client.sendmail("anna@client.example", ["bob@new.example"], MESSAGE)
    folder = setting.mail / "new.example" / "bob" / "new"
    wait_for(lambda: folder.exists() and any(folder.iterdir()), "mail for the new domain arrives")
    setting.write()
    server.hang_up()
    wait_for(lambda: rcpt(server, "bob@new.example") == 550, "the domain is no longer ours")


def test_sighup_with_a_broken_file_changes_nothing_and_says_so(
    setting: Setting, server: RunningServer
) -> None:
    setting.file.write_text('hostname = "mx.example.org"\n[domains]\nlocal = ["a domain"]\nlokal = 1\n')
    server.hang_up()
    (told,) = wait_for(lambda: server.events("server.reloaded"), "the reload is in the log")
    assert "lokal" in json.dumps(told)
    assert server.process.poll() is None
    assert rcpt(server, "bob@example.org") == 250
    assert rcpt(server, "bob@new.example") == 550
    setting.file.unlink()
    server.hang_up()
    wait_for(lambda: len(server.events("server.reloaded")) == 2, "the second reload is in the log")
    assert rcpt(server, "bob@example.org") == 250
    setting.write(domains=["example.org", "new.example"])
    server.hang_up()
    wait_for(lambda: rcpt(server, "bob@new.example") == 250, "a right file is taken again")
    assert server.stop() == 0


def test_sighup_changes_the_level_of_the_log(setting: Setting, server: RunningServer) -> None:
    wait_for(lambda: server.events("session.opened"), "sessions are logged")
    setting.write(extra='[logging]\nlevel = "error"\n')
    server.hang_up()

    def silent() -> bool:
        before = len(server.events("session.opened"))
        rcpt(server, "bob@example.org")
        time.sleep(0.3)
        return len(server.events("session.opened")) == before

    wait_for(silent, "sessions are no longer logged")
    setting.write()
    server.hang_up()
    wait_for(lambda: not silent(), "sessions are logged again")


def test_a_second_signal_ends_it_at_once(setting: Setting, server: RunningServer) -> None:
    with server.client() as client:
        client.ehlo()
        client.mail("anna@client.example")
        client.rcpt("bob@example.org")
        client.docmd("DATA")
        client.send(b"Subject: half\r\n")  # a transaction under way may take its time
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.events("server.stopping"), "it stops")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(12) == 0
        assert time.monotonic() - began < 8
        client.close()
    assert listed(setting) == []


def test_systemd_is_told_of_start_reload_and_stop(setting: Setting) -> None:
    address = str(setting.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(15)
        with serving(
            setting.folder, setting.port, "-c", setting.file, NOTIFY_SOCKET=address, WATCHDOG_USEC="60000000"
        ) as server:
            told = {manager.recv(4096).partition(b"\n")[0] for _ in range(2)}
            assert told == {b"READY=1", b"WATCHDOG=1"}
            server.hang_up()
            assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(4096).startswith(b"READY=1")
            assert server.stop() == 0
            assert manager.recv(4096).startswith(b"STOPPING=1")


def test_the_admin_port_answers_with_the_token_of_the_state_folder(setting: Setting) -> None:
    port = free_port()
    setting.write(extra=f'[admin]\naddress = "127.0.0.1:{port}"\n')

    def get(path: str, token: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        file = setting.state / "admin.token"
        assert file.stat().st_mode & 0o777 == 0o600
        assert (setting.state / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert get("/livez") == (200, b"alive\n")
        assert get("/readyz") == (200, b"ready\n")
        assert get("/metrics")[0] == 401
        assert b"elemta_sessions_open" in get("/metrics", file.read_text().strip())[1]
        assert server.stop() == 0


# Starts that fail


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("elemta: ")
    return lines[0]


def test_a_second_instance_on_the_same_state_folder_exits_75_with_one_line(
    setting: Setting, server: RunningServer
) -> None:
    second = setting.folder / "second.toml"
    second.write_text(setting.file.read_text().replace(f":{setting.port}", f":{free_port()}"))
    done = elemta("run", "-c", second)
    assert done.returncode == 75
    assert str(setting.state) in one_line(done.stderr)
    # The first one did not notice, its admin socket included.
    assert rcpt(server, "bob@example.org") == 250
    assert elemta("status", "-c", setting.file).returncode == 0


def test_a_port_in_use_exits_75_with_one_line(setting: Setting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", setting.port))
        taken.listen()
        done = elemta("run", "-c", setting.file)
    assert done.returncode == 75
    line = one_line(done.stderr)
    assert str(setting.port) in line
    assert "in use" in line
    assert not setting.state.exists()


def test_an_admin_port_in_use_exits_75_with_one_line(setting: Setting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        setting.write(extra=f'[admin]\naddress = "127.0.0.1:{port}"\n')
        done = elemta("run", "-c", setting.file)
    assert done.returncode == 75, done.stderr
    assert str(port) in one_line(done.stderr)


def test_a_file_in_the_place_of_the_state_folder_exits_74_with_one_line(setting: Setting) -> None:
    setting.state.write_text("in the way")
    done = elemta("run", "-c", setting.file)
    assert done.returncode == 74, done.stderr
    assert str(setting.state) in one_line(done.stderr)
    assert setting.state.read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_folder_without_rights_exits_74_with_one_line(setting: Setting) -> None:
    setting.folder.joinpath("locked").mkdir(mode=0o500)
    setting.file.write_text(
        setting.file.read_text().replace(str(setting.state), str(setting.folder / "locked" / "state"))
    )
    done = elemta("run", "-c", setting.file)
    assert done.returncode == 74, done.stderr
    one_line(done.stderr)


def test_a_broken_configuration_exits_78_with_each_mistake_and_its_line(setting: Setting) -> None:
    text = (
        setting.file.read_text()
        + '\n[limits]\nmesage_size = "1MiB"\nerrors = -1\n\n[timeouts]\ncommand = "soon"\n'
    )
    setting.file.write_text(text)
    done = elemta("run", "-c", setting.file)
    assert done.returncode == 78
    lines = text.splitlines()
    for mistake in ("mesage_size", "errors", "command"):
        number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"{mistake} ="))
        assert any(
            mistake in line and re.search(rf"\b{number}\b", line) for line in done.stderr.splitlines()
        ), (
            mistake,
            number,
            done.stderr,
        )
    assert "Traceback" not in done.stderr
    assert not setting.state.exists()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("127.0.0.1", setting.port, timeout=5)


def test_a_configuration_that_is_not_toml_or_not_there_exits_78(setting: Setting) -> None:
    setting.file.write_text("hostname = \n")
    assert elemta("run", "-c", setting.file).returncode == 78
    done = elemta("run", "-c", setting.folder / "absent.toml")
    assert done.returncode == 78
    assert "absent.toml" in one_line(done.stderr)


def test_a_missing_certificate_exits_78(setting: Setting) -> None:
    setting.write(extra='[tls]\ncertificate = "/nowhere/cert.pem"\nkey = "/nowhere/key.pem"\n')
    done = elemta("run", "-c", setting.file)
    assert done.returncode == 78, done.stderr
    assert "/nowhere/cert.pem" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_admin_token_that_others_can_read_exits_78(setting: Setting) -> None:
    token = setting.folder / "token"
    token.write_text("a token that is long enough\n")
    token.chmod(0o644)
    setting.write(extra=f'[admin]\ntoken_file = "{token}"\n')
    done = elemta("run", "-c", setting.file)
    assert done.returncode == 78, done.stderr
    assert "chmod 600" in one_line(done.stderr)


# The queue


def steer(setting: Setting, message: str) -> None:
    """Every queue action, the same with and without a running server."""

    def act(action: str, *selection: str) -> Any:
        done = elemta("queue", action, "-c", setting.file, "--json", *selection)
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)["recipients"], done.returncode

    def state() -> str:
        (entry,) = listed(setting)
        return str(entry["recipients"][0]["state"])

    assert act("hold", message) == (1, 0)
    assert state() == "held"
    assert act("hold", message) == (0, 1)  # nothing left to hold
    assert act("retry", message) == (0, 1)  # a held recipient is not tried
    assert [entry["id"] for entry in listed(setting, "--state", "held")] == [message]
    assert listed(setting, "--state", "queued") == []
    assert act("release", "--domain", "far.example") == (1, 0)
    assert state() == "queued"
    assert act("release", message) == (0, 1)
    assert act("hold", "--sender", "nobody@client.example") == (0, 1)
    assert act("hold", "0000000000000000") == (0, 1)


def test_an_undeliverable_message_is_listed_with_its_reason_and_steered_while_the_server_runs(
    setting: Setting, server: RunningServer
) -> None:
    message = accept_undeliverable(server)
    entry = wait_deferred(setting, message)
    (recipient,) = entry["recipients"]
    assert entry["sender"] == "anna@client.example"
    assert recipient["address"] == "carl@far.example"
    assert recipient["state"] == "queued"
    assert recipient["due"] > time.time()
    assert recipient["reason"]
    assert str(setting.closed) in recipient["remote"] + recipient["reason"]
    shown = elemta("queue", "list", "-c", setting.file)
    assert shown.returncode == 0
    assert message in shown.stdout
    assert "carl@far.example" in shown.stdout
    assert recipient["reason"] in shown.stdout

    steer(setting, message)
    before = wait_deferred(setting, message)["recipients"][0]["attempts"]
    done = elemta("queue", "retry", "-c", setting.file, "--all")
    assert (done.returncode, done.stdout) == (0, "1 recipient due now\n")
    wait_for(lambda: listed(setting)[0]["recipients"][0]["attempts"] > before, "it is tried again at once")

    wait_deferred(setting, message)
    done = elemta("queue", "remove", "-c", setting.file, "--recipient", "carl@far.example")
    assert (done.returncode, done.stdout) == (0, "1 recipient removed\n")
    assert listed(setting) == []
    assert elemta("queue", "list", "-c", setting.file).stdout == "the queue is empty\n"
    assert server.stop() == 0


def test_the_queue_is_steered_offline_after_the_server_was_stopped(setting: Setting) -> None:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        message = accept_undeliverable(server)
        wait_deferred(setting, message)
        assert server.stop() == 0
    steer(setting, message)

    shown = elemta("queue", "show", "-c", setting.file, message, "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["id"] == message
    stats = json.loads(elemta("queue", "stats", "-c", setting.file, "--json").stdout)
    assert (stats["accepted"], stats["queued"], stats["messages"]) == (1, 1, 1)

    done = elemta("queue", "retry", "-c", setting.file, message)
    assert (done.returncode, done.stdout) == (0, "1 recipient due now\n")
    assert listed(setting)[0]["recipients"][0]["due"] <= time.time()
    done = elemta("queue", "remove", "-c", setting.file, "--all")
    assert (done.returncode, done.stdout) == (0, "1 recipient removed\n")
    assert listed(setting) == []
    assert json.loads(elemta("queue", "stats", "-c", setting.file, "--json").stdout)["removed"] == 1


def test_a_recipient_released_offline_is_tried_when_the_server_starts(setting: Setting) -> None:
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        message = accept_undeliverable(server)
        attempts = wait_deferred(setting, message)["recipients"][0]["attempts"]
        elemta("queue", "hold", "-c", setting.file, message)
        assert server.stop() == 0
    assert elemta("queue", "release", "-c", setting.file, message).returncode == 0
    with serving(setting.folder, setting.port, "-c", setting.file):
        wait_for(lambda: listed(setting)[0]["recipients"][0]["attempts"] > attempts, "it is tried")


def test_show_tells_one_message_and_refuses_what_is_none(setting: Setting, server: RunningServer) -> None:
    message = accept_undeliverable(server)
    wait_deferred(setting, message)
    shown = elemta("queue", "show", "-c", setting.file, message)
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"message {message}\n")
    assert "carl@far.example" in shown.stdout
    for wrong in ("0000000000000000", "../../etc/passwd", "x"):
        done = elemta("queue", "show", "-c", setting.file, wrong)
        assert done.returncode == 1
        one_line(done.stderr)
    # The ids of a message that is gone, and all of them offline.
    server.stop()
    done = elemta("queue", "show", "-c", setting.file, "0000000000000000")
    assert (done.returncode, done.stderr) == (1, "elemta: no such message\n")


def test_stats_and_status_count_with_the_server_and_status_is_1_without(
    setting: Setting, server: RunningServer
) -> None:
    accept_undeliverable(server)
    stats = elemta("queue", "stats", "-c", setting.file)
    assert stats.returncode == 0
    assert "messages" in stats.stdout
    status = elemta("status", "-c", setting.file)
    assert status.returncode == 0, status.stderr
    assert "mx.example.org" in status.stdout
    assert f"127.0.0.1:{setting.port}" in status.stdout
    answer = json.loads(elemta("status", "-c", setting.file, "--json").stdout)
    assert answer["ready"] is True
    assert answer["counts"]["messages"] == 1
    assert answer["listeners"][0]["name"] == "mx"
    assert server.stop() == 0
    done = elemta("status", "-c", setting.file)
    assert done.returncode == 1
    assert str(setting.state) in one_line(done.stderr)
    assert done.stdout == ""


def test_queue_commands_without_any_spool_say_so(setting: Setting) -> None:
    for command in (("list",), ("stats",), ("show", "0000000000000000"), ("hold", "--all")):
        done = elemta("queue", *command, "-c", setting.file)
        assert done.returncode == 74, (command, done.stdout, done.stderr)
        one_line(done.stderr)
    assert not setting.state.exists()


def test_an_action_without_a_selection_is_wrong_usage(setting: Setting) -> None:
    done = elemta("queue", "remove", "-c", setting.file)
    assert done.returncode == 2
    assert "--all" in done.stderr


# Development mode


def test_development_mode_captures_prints_and_sends_nothing(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port, "--dev", "--port", str(port), cwd=tmp_path) as server:
        sent = elemta(
            "send", "--dev", "--server", f"127.0.0.1:{port}", "--to", "you@anywhere.example",
            "--subject", "Grüße", "--body", "first line\n\x1b[31mred\n", cwd=tmp_path,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.startswith("250 ")
        folder = tmp_path / "var" / "dev" / "captured"
        wait_for(lambda: "you@anywhere.example" in server.output.read_text(), "the message is shown")
        (path,) = folder.glob("*.eml")
        content = path.read_bytes()
        assert b"To: you@anywhere.example\r\n" in content
        assert b"Received: " in content
        assert path.stat().st_mode & 0o777 == 0o600
        shown = server.output.read_text()
        assert "Grüße" in shown
        assert "first line" in shown
        assert "\x1b[31m" not in shown  # a stranger's text does not steer the terminal
        assert f"127.0.0.1:{port}" in shown
        assert json.loads(elemta("status", "--dev", "--json", cwd=tmp_path).stdout)["ready"] is True
        assert json.loads(elemta("queue", "list", "--dev", "--json", cwd=tmp_path).stdout) == {"messages": []}
        assert server.stop() == 0
    assert elemta("status", "--dev", cwd=tmp_path).returncode == 1


def test_send_tells_a_refusal_with_status_1_and_no_server_with_75(
    setting: Setting, server: RunningServer
) -> None:
    done = elemta("send", "-c", setting.file, "--to", "victim@elsewhere.example")
    assert done.returncode == 1
    assert "victim@elsewhere.example refused: 550" in one_line(done.stderr)
    assert elemta("send", "-c", setting.file, "--to", "bob@example.org").returncode == 0
    server.stop()
    done = elemta("send", "-c", setting.file, "--to", "bob@example.org")
    assert done.returncode == 75
    assert str(setting.port) in one_line(done.stderr)
