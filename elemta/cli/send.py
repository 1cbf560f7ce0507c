"""`elemta send`: a test message over SMTP, with the server's answer."""

from __future__ import annotations

import smtplib
import socket
import sys
from collections.abc import Iterable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client import AdminClient, NotRunning
from .errors import NOT_DONE, TRY_LATER, Trouble
from .options import config_option, dev_option, read_for_client

if TYPE_CHECKING:
    from elemta.config import Config, HostPort

SECONDS = 30.0


@click.command()
@config_option
@dev_option
@click.option("--server", metavar="HOST:PORT", help="Send to this server. [default: the first listener]")
@click.option(
    "--from", "sender", default="test@localhost.localdomain", show_default=True, help="Envelope and From."
)
@click.option("--to", "recipients", multiple=True, required=True, help="Recipient; may be repeated.")
@click.option("--subject", default="Test message from elemta", show_default=True)
@click.option("--body", default="This is a test.\n", help="Text of the message.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this file as it is.",
)
@click.option("--count", type=click.IntRange(1, 100000), default=1, help="Send it so many times.")
def send(
    config_file: Path | None,
    dev: bool,
    server: str | None,
    sender: str,
    recipients: tuple[str, ...],
    subject: str,
    body: str,
    path: Path | None,
    count: int,
) -> None:
    """Send a test message to the server and print its answer."""
    address = _address(config_file, dev, server)
    try:
        data = _with_crlf(path.read_bytes()) if path else _compose(sender, recipients, subject, body)
    except OSError as error:
        raise Trouble(NOT_DONE, f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Trouble(NOT_DONE, f"cannot write such a message: {error}") from error
    try:
        with smtplib.SMTP(address.host, address.port, timeout=SECONDS) as client:
            client.ehlo()
            for _ in _progress(count):
                code, answer = _transaction(client, sender, recipients, data)
    except (OSError, smtplib.SMTPException) as error:
        raise Trouble(TRY_LATER, f"{address}: {error or type(error).__name__}") from error
    click.echo(f"{code} {answer}")


def _address(config_file: Path | None, dev: bool, server: str | None) -> HostPort:
    from elemta.config import BadValue, HostPort, parse_host_port  # noqa: PLC0415

    if server is not None:
        try:
            return parse_host_port(server)
        except BadValue as error:
            raise click.BadParameter(str(error), param_hint="--server") from error
    config = read_for_client(config_file, dev)
    if not config.listeners:
        raise Trouble(NOT_DONE, "the configuration has no listener; name a server with --server")
    # In development mode the port is the first that was free, which only the server knows.
    address = (_where_it_runs(config) if dev else None) or config.listeners[0].address
    wildcard = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return HostPort(wildcard.get(address.host, address.host), address.port)


def _where_it_runs(config: Config) -> HostPort | None:
    """The address of the running server's first listener."""
    from elemta.config import parse_host_port  # noqa: PLC0415

    try:
        listeners = AdminClient(config.state_dir).get("/api/v1/status")["listeners"]
    except (NotRunning, Trouble):
        return None
    return parse_host_port(listeners[0]["address"].split(", ")[0]) if listeners else None


def _compose(sender: str, recipients: tuple[str, ...], subject: str, body: str) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=socket.gethostname() or "localhost")
    message.set_content(body)
    return message.as_bytes(policy=SMTP)


def _with_crlf(content: bytes) -> bytes:
    """A file has this machine's line ends; SMTP has CR LF (RFC 5321 §2.3.8)."""
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _progress(count: int) -> Iterable[int]:
    if count == 1 or not sys.stderr.isatty():
        return range(count)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    return track(range(count), "sending", console=Console(stderr=True))


def _transaction(
    client: smtplib.SMTP, sender: str, recipients: tuple[str, ...], data: bytes
) -> tuple[int, str]:
    code, answer = client.mail(sender)
    _must(code, answer, f"sender {sender}")
    for recipient in recipients:
        code, answer = client.rcpt(recipient)
        _must(code, answer, f"recipient {recipient}")
    code, answer = client.data(data)
    _must(code, answer, "message")
    return code, _text(answer)


def _must(code: int, answer: bytes, what: str) -> None:
    if not 200 <= code < 300:
        raise Trouble(TRY_LATER if code < 500 else NOT_DONE, f"{what} refused: {code} {_text(answer)}")


def _text(answer: bytes) -> str:
    from elemta.runtime import escape_text  # noqa: PLC0415

    return escape_text(answer.decode("utf-8", "replace").replace("\n", " "))
