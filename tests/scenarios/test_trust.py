"""One server signs, another checks: two whole servers over TCP, a name server, and dkimpy as the judge."""

import mailbox
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import dkim
import pytest
import trio
from ports import free_port
from server_process import RunningServer, Setting, serving, wait_for

from elemta.config import HostPort, SigningAlgorithm
from elemta.policy import make_key, record_strings, write_key
from elemta.testing.dns import DnsServer

KEYS = {name: make_key(SigningAlgorithm.RSA_SHA256, 1024) for name in ("old", "new")}
MESSAGE = (
    b"From: Anna <anna@example.org>\r\nTo: bob@far.example\r\nSubject: greetings\r\n\r\n"
    b"hello  there \r\n.\r\nbye\r\n\r\n\r\n"
)


@contextmanager
def name_server() -> Iterator[HostPort]:
    """example.org with its keys, in a thread."""
    server = DnsServer()
    server.add("example.org", "TXT", '"v=spf1 ip4:127.0.0.1 -all"')
    server.add("_dmarc.example.org", "TXT", '"v=DMARC1; p=reject"')
    server.add("forged.example", "TXT", '"v=spf1 -all"')
    server.add("_dmarc.forged.example", "TXT", '"v=DMARC1; p=reject"')
    for name, key in KEYS.items():
        text = " ".join(f'"{part}"' for part in record_strings(key.record()))
        server.add(f"{name}._domainkey.example.org", "TXT", text)
    address: list[HostPort] = []
    ready = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            address.append(await nursery.start(server.serve))
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(5)
    try:
        yield address[0]
    finally:
        token, scope = stop[0]
        token.run_sync_soon(scope.cancel)
        thread.join(5)


class World:
    """The two servers' settings."""

    def __init__(self, folder: Path, dns: HostPort) -> None:
        self.there, self.here = folder / "there", folder / "here"
        self.there.mkdir()
        self.here.mkdir()
        self.dns = f'[dns]\nnameservers = ["{dns}"]\n'
        self.receiver = Setting(self.there)
        self.receiver.file.write_text(
            f"""
hostname = "mx.far.example"
state_dir = "{self.receiver.state}"
[[listeners]]
name = "mx"
address = "127.0.0.1:{self.receiver.port}"
[domains]
local = ["far.example"]
[[routes]]
match = "*"
transport = "maildir"
path = "{self.receiver.mail}/{{domain}}/{{local_part}}"
{self.dns}
[policy.dmarc]
action = "refuse"
reports = true
"""
        )
        self.sender = Setting(self.here, free_port(), self.receiver.port)  # far.example is behind it
        for name, key in KEYS.items():
            write_key(self.here / f"{name}.pem", key)
        self.sign_with("old")

    def sign_with(self, name: str) -> None:
        self.sender.write(
            networks=["127.0.0.0/8"],
            extra=f'{self.dns}[[signing]]\ndomain = "example.org"\nselector = "{name}"\n'
            f'key = "{self.here}/{name}.pem"\n',
        )

    def arrived(self, user: str) -> bytes:
        """The message as the receiver's maildir has it, in its form on the wire."""
        folder = self.receiver.mail / "far.example" / user
        wait_for(lambda: (folder / "new").is_dir() and any((folder / "new").iterdir()), "the mail is there")
        [message] = (folder / "new").iterdir()
        return message.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.fixture
def world(tmp_path: Path) -> Generator[World, None, None]:
    with name_server() as address:
        yield World(tmp_path, address)


@pytest.fixture
def receiver(world: World) -> Generator[RunningServer, None, None]:
    with serving(world.there, world.receiver.port, "-c", world.receiver.file) as server:
        yield server


@pytest.fixture
def sender(world: World, receiver: RunningServer) -> Generator[RunningServer, None, None]:
    with serving(world.here, world.sender.port, "-c", world.sender.file) as server:
        yield server


def in_dns(name: bytes, timeout: int = 5) -> bytes:
    selector = name.decode().partition(".")[0]
    return KEYS[selector].record().encode()


def test_what_one_server_signs_the_other_finds_good_and_so_does_dkimpy(
    world: World, sender: RunningServer, receiver: RunningServer
) -> None:
    with sender.client() as client:
        client.sendmail("anna@example.org", ["bob@far.example"], MESSAGE)
    message = world.arrived("bob")
    text = mailbox.MaildirMessage(message)
    results = " ".join(str(text["Authentication-Results"]).split())
    assert results.startswith("mx.far.example; spf=pass smtp.mailfrom=example.org; dkim=pass header.d=")
    assert results.endswith("dmarc=pass header.from=example.org")
    signed = message[message.index(b"DKIM-Signature") :]
    assert dkim.verify(signed, dnsfunc=in_dns, minkey=1024)
    assert not dkim.verify(signed.replace(b"bye", b"bie"), dnsfunc=in_dns, minkey=1024)
    [event] = wait_for(lambda: sender.events("message.signed"), "the log tells of it")
    assert event["keys"] == ["old._domainkey.example.org"]
    [judged] = wait_for(lambda: receiver.events("message.judged"), "the log tells of that, too")
    assert judged["results"][0] == "spf=pass smtp.mailfrom=example.org"


def test_a_reload_signs_with_another_key(
    world: World, sender: RunningServer, receiver: RunningServer
) -> None:
    world.sign_with("new")
    sender.hang_up()
    [reloaded] = wait_for(lambda: sender.events("server.reloaded"), "it has reloaded")
    assert reloaded["changed"] == ["signing"]
    assert not reloaded.get("restart")
    assert not reloaded.get("error")
    with sender.client() as client:
        client.sendmail("anna@example.org", ["carl@far.example"], MESSAGE)
    assert b"s=new" in world.arrived("carl")
    (world.here / "new.pem").unlink()
    sender.hang_up()
    _, failed = wait_for(
        lambda: found if len(found := sender.events("server.reloaded")) == 2 else None, "it was asked again"
    )
    assert "signing[0].key" in failed["error"]
    with sender.client() as client:
        client.sendmail("anna@example.org", ["dora@far.example"], MESSAGE)
    assert b"s=new" in world.arrived("dora")


def test_a_forged_message_is_refused_and_told(world: World, receiver: RunningServer) -> None:
    with receiver.client() as client:
        client.ehlo()
        client.mail("x@forged.example")
        client.rcpt("bob@far.example")
        code, text = client.data(MESSAGE.replace(b"anna@example.org", b"boss@forged.example"))
    assert (code, text[:4]) == (550, b"5.7.")
    [rejected] = wait_for(lambda: receiver.events("message.rejected"), "the log tells of it")
    assert rejected["reason"] == "dmarc: forged.example asks for reject"


def test_private_keys_are_in_no_log(world: World, sender: RunningServer, receiver: RunningServer) -> None:
    with sender.client() as client:
        client.sendmail("anna@example.org", ["emil@far.example"], MESSAGE)
    world.arrived("emil")
    secret = (world.here / "old.pem").read_text().splitlines()[1]
    assert sender.stop() == 0
    assert secret not in sender.log.read_text() + sender.output.read_text()
