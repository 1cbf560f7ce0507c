"""Plugins in processes of their own, in a whole server: they answer, and their death costs one verdict."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from server_process import Setting, elemta, serving, wait_for

HELLO = Path(__file__).parents[2] / "plugins" / "hello" / "plugin.py"
DYING = """
import os
import attrs
from elemta.plugin.api import Plugin, Reject, hook

@attrs.frozen
class Settings:
    deadly: str = "nobody"

class Dying(Plugin[Settings]):
    Config = Settings

    @hook("startup")
    async def begin(self):
        self.context.state.put("begun", b"yes", 60)
        self.begun = await self.context.state.get("begun")
        self.context.log.info("I have begun", process=os.getpid())

    @hook("rcpt")
    async def check(self, recipient):
        self.context.metrics.count("asked")
        if recipient.startswith(self.config.deadly):
            os._exit(3)
        if recipient.startswith("remembered"):
            now = await self.context.state.get("begun") or b"no"
            return Reject(f"It was {(self.begun or b'no').decode()} and is {now.decode()}")
        if recipient.startswith("listed"):
            listed = self.context.suppression
            added = await listed.add("New@far.example", "5.1.1", 60.0), await listed.add("VIP@far.example", "", None)
            found = await listed.find("new@FAR.example")
            gone = await listed.remove("old@far.example"), await listed.find("old@far.example")
            return Reject(f"List says {added} {found.why} {found.source} {gone}")
        if recipient.startswith("resolved"):
            from elemta.dns import RecordKind
            answer = await self.context.resolver.query("not a name", RecordKind.A)
            return Reject("DNS says " + answer.status.name)
        if recipient.startswith("fetched"):
            port = recipient.partition("@")[0].removeprefix("fetched-")
            answer = await self.context.http.request("GET", f"http://127.0.0.1:{port}/")
            return Reject("HTTP says " + answer.body.decode())
"""


def write(setting: Setting, code: str, *, on_crash: str = "defer", config: str = "") -> None:
    file = setting.folder / "plugin.py"
    file.write_text(code)
    file.chmod(0o644)
    setting.write(
        extra=f"""
[[plugins]]
name = "apart"
path = "{file}"
isolation = "process"
on_crash = "{on_crash}"
[plugins.config]
{config}
"""
    )


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    tmp_path.chmod(0o755)
    return Setting(tmp_path)


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """An HTTP server that says the same to everybody, on that port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_plugin_in_a_process_answers(setting: Setting) -> None:
    write(setting, HELLO.read_text())
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        with server.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("a@c.example", "nobody@example.org", b"Subject: x\r\n\r\nhello\r\n")
        assert b"Hello, nobody reads this" in refused.value.recipients["nobody@example.org"][1]
        with server.client() as client:
            client.sendmail("a@c.example", "bob@example.org", b"Subject: x\r\n\r\nhello\r\n")
        assert server.stop() == 0


def test_the_death_of_a_worker_costs_the_declared_verdict_and_nothing_else(setting: Setting) -> None:
    write(setting, DYING, config='deadly = "killer"')
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        with server.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("a@c.example", "killer@example.org", b"Subject: x\r\n\r\nhello\r\n")
        assert 400 <= refused.value.recipients["killer@example.org"][0] < 500
        with server.client() as client:
            client.sendmail("a@c.example", "bob@example.org", b"Subject: x\r\n\r\nhello\r\n")
        [event] = wait_for(lambda: server.events("plugin.failed"), "the log tells of it")
        assert (event["kind"], event["hook"]) == ("crash", "rcpt")
        assert "status 3" in event["detail"]
        assert server.stop() == 0


def test_a_plugin_in_a_process_has_what_only_the_server_knows(setting: Setting) -> None:
    write(setting, DYING)
    with serving(setting.folder, setting.port, "-c", setting.file) as server:
        with server.client() as client:
            client.ehlo()
            client.mail("a@c.example")
            assert b"It was yes and is yes" in client.rcpt("remembered@example.org")[1]
            assert b"DNS says NXDOMAIN" in client.rcpt("resolved@example.org")[1]
            elemta("suppression", "add", "--never", "vip@far.example", "-c", setting.file)
            elemta("suppression", "add", "old@far.example", "-c", setting.file)
            said = client.rcpt("listed@example.org")[1]
            assert b"List says (True, False) 5.1.1 apart (True, None)" in said
            shown = elemta("suppression", "export", "-c", setting.file).stdout
            assert shown == "new@far.example  # 5.1.1\n!vip@far.example\n"
            with answering(b"hello") as port:
                assert b"HTTP says hello" in client.rcpt(f"fetched-{port}@example.org")[1]
        wait_for(lambda: "I have begun" in server.log.read_text(), "its record is in the log")
        changes = [event["operation"] for event in server.events("admin.changed")]
        assert changes == ["addSuppression", "addSuppression"]
        assert server.stop() == 0
    assert "!vip@far.example" in elemta("suppression", "export", "-c", setting.file).stdout


def test_a_plugin_that_exits_when_it_is_imported_is_a_mistake_of_the_configuration(setting: Setting) -> None:
    write(setting, "import os\nos._exit(7)\n")
    done = elemta("plugin", "check", "-c", setting.file)
    assert done.returncode != 0
    assert "status 7" in done.stderr


def test_a_mistake_in_its_settings_is_told_with_its_place(setting: Setting) -> None:
    write(setting, DYING, config='deadli = "x"')
    done = elemta("plugin", "check", "-c", setting.file)
    assert done.returncode != 0
    assert "plugins[0].config.deadli" in done.stderr


def test_a_large_message_is_found_from_another_working_directory(setting: Setting) -> None:
    write(
        setting,
        """
from elemta.plugin.api import MessageView, Plugin, Reject, hook

class Counting(Plugin):
    @hook("message")
    async def count(self, message: MessageView) -> Reject:
        return Reject(f"{sum(map(len, message.chunks()))} octets")
""",
    )
    setting.file.write_text(setting.file.read_text().replace(str(setting.state), "state"))
    with serving(setting.folder, setting.port, "-c", setting.file, cwd=setting.folder) as server:
        with server.client() as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@c.example", "b@example.org", b"Subject: x\r\n\r\n" + b"x" * 78 * 8000)
        assert refused.value.smtp_error == b"5.7.1 624016 octets"
        assert server.stop() == 0
