"""What the interop tests of shipped plugins share: a server's process, elemta with the plugin, its mail."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs.servers import Elemta, end, running_elemta, wait_until

ROOT = Path(__file__).resolve().parents[2]


def accepts(port: int) -> bool:
    """Whether something listens on that port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def running_daemon(
    command: Sequence[str], log: Path, is_ready: Callable[[], bool], *, seconds: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, ready; must not end by itself."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(), f"{command[0]} is ready", seconds)
        assert process.poll() is None, log.read_text()[-2000:]
        yield process
        assert process.poll() is None, log.read_text()[-2000:]
    finally:
        end(process, 20)


@dataclass
class PluginBed:
    server: Elemta
    mail: Path

    def send(
        self,
        message: bytes,
        to: str = "a@ours.example",
        sender: str = "s@far.example",
        *,
        peer: str | None = None,
        hello: str = "client.example",
    ) -> tuple[int, bytes]:
        """Code and text of the first reply that is a refusal, or of the last one.

        `peer`: the address of a client elsewhere, for whom this is said; else it is this machine.
        """
        with smtplib.SMTP("127.0.0.1", self.server.port, hello, timeout=30) as client:
            try:
                client.ehlo()
                if peer is not None:
                    assert client.docmd("XCLIENT", f"ADDR={peer}")[0] == 220
                    client.ehlo()
                for reply in (client.mail(sender), client.rcpt(to)):
                    if reply[0] >= 400:
                        return reply
                return client.data(message)
            except smtplib.SMTPDataError as error:
                return error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""

    def delivered(self, number: int = 1, name: str = "a") -> list[bytes]:
        """What is in the mailbox, once so many are, with CRLF."""
        folder = self.mail / name / "new"
        wait_until(lambda: len(list(folder.glob("*"))) >= number, f"{number} messages", 30)
        texts = [
            path.read_bytes() for path in sorted(folder.glob("*"), key=lambda each: each.stat().st_mtime_ns)
        ]
        return [text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for text in texts]


@contextlib.contextmanager
def running_plugin(
    folder: Path,
    name: str,
    config: str,
    more: str = "",
    *,
    isolation: str = "task",
    nameserver: str = "127.0.0.1:9",
) -> Iterator[PluginBed]:
    """elemta with that plugin, as its plugin.toml has it but for its tier and the table of settings."""
    entry = (ROOT / "plugins" / name / "plugin.toml").read_text().partition("[plugins.config]")[0]
    entry = entry.replace(f'"plugins/{name}"', f'"{ROOT}/plugins/{name}"')
    entry = entry.replace('isolation = "task"', f'isolation = "{isolation}"')
    mail = folder / "mail"
    text = f"""
[domains]
local = ["ours.example"]
[dns]
nameservers = ["{nameserver}"]
query_timeout = "{"100ms" if nameserver == "127.0.0.1:9" else "2s"}"
[proxies]
xclient = ["127.0.0.1"]
[[routes]]
match = "*"
transport = "maildir"
path = "{mail}/{{local_part}}"
{more}
{entry}
[plugins.config]
{config}
"""
    with running_elemta(folder, text) as server:
        yield PluginBed(server, mail)
