"""Clients of others against our side: smtplib's mechanisms, scramp, and where it is there GNU SASL."""

from __future__ import annotations

import base64
import os
import select
import shutil
import smtplib
import subprocess
from collections.abc import Callable

import pytest
import scramp
import trio
from auth_bed import DictStore, authenticator

from elemta.auth import Accepted, AuthClient, Challenge, Refused, SaslExchange

END_POINT = b"the hash of a certificate"
BOUND = AuthClient("203.0.113.5", tls=True, channel_binding=END_POINT)
NAME, PASSWORD = "user@example.org", "pencil, päper=x"
STORE = {NAME: PASSWORD}


class Client(smtplib.SMTP):
    """The client of the standard library, whose commands reach one exchange instead of a socket."""

    def __init__(self, exchange: SaslExchange) -> None:
        super().__init__()
        self.exchange = exchange

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        encoded = args.partition(" ")[2] if cmd == "AUTH" else cmd
        response = None if cmd == "AUTH" and not encoded else base64.b64decode(encoded, validate=True)
        step = trio.from_thread.run(self.exchange.step, response)
        if isinstance(step, Challenge):
            return 334, base64.b64encode(step.data)
        return (235, b"") if isinstance(step, Accepted) else (step.reply.code, step.reply.text.encode())


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_mechanisms_of_smtplib(mechanism: str, initial: bool) -> None:
    for password, code in (("pencil", 235), ("Pencil", 535)):
        client = Client(authenticator(DictStore(tim="pencil")).begin(mechanism, BOUND))
        client.user, client.password = "tim", password
        method = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login, "CRAM-MD5": client.auth_cram_md5}[
            mechanism
        ]

        def log_in(client: Client = client, method: Callable[..., str] = method) -> int:
            try:
                return client.auth(mechanism, method, initial_response_ok=initial)[0]
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code

        assert await trio.to_thread.run_sync(log_in) == code


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize(("password", "expected"), [(PASSWORD, Accepted), ("pencil", Refused)])
async def test_scramp_as_client(mechanism: str, password: str, expected: type) -> None:
    binding = ("tls-server-end-point", END_POINT) if mechanism.endswith("PLUS") else None
    client = scramp.ScramClient([mechanism], NAME, password, channel_binding=binding)
    exchange = authenticator(DictStore(**STORE)).begin(mechanism, BOUND)
    challenge = await exchange.step(client.get_client_first().encode())
    assert isinstance(challenge, Challenge)
    client.set_server_first(challenge.data.decode())
    step = await exchange.step(client.get_client_final().encode())
    if isinstance(step, Challenge):
        client.set_server_final(step.data.decode())  # the server has proved that it knows the password too
        step = await exchange.step(b"")
    assert isinstance(step, expected)


@pytest.mark.parametrize(
    ("ours", "expected"), [(b"finished", Accepted), (b"another", Refused), (None, Refused)]
)
async def test_scramp_with_the_binding_of_the_connection(ours: bytes | None, expected: type) -> None:
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], NAME, PASSWORD, channel_binding=("tls-unique", b"finished")
    )
    bound = AuthClient("203.0.113.5", tls=True, channel_binding=END_POINT, tls_unique=ours)
    exchange = authenticator(DictStore(**STORE)).begin("SCRAM-SHA-256-PLUS", bound)
    step = await exchange.step(client.get_client_first().encode())
    if ours is not None:
        assert isinstance(step, Challenge)
        client.set_server_first(step.data.decode())
        step = await exchange.step(client.get_client_final().encode())
    if isinstance(step, Challenge):
        client.set_server_final(step.data.decode())
        step = await exchange.step(b"")
    assert isinstance(step, expected)


async def test_scramp_with_the_binding_of_another_certificate() -> None:
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], NAME, PASSWORD, channel_binding=("tls-server-end-point", b"another")
    )
    exchange = authenticator(DictStore(**STORE)).begin("SCRAM-SHA-256-PLUS", BOUND)
    challenge = await exchange.step(client.get_client_first().encode())
    assert isinstance(challenge, Challenge)
    client.set_server_first(challenge.data.decode())
    step = await exchange.step(client.get_client_final().encode())
    assert isinstance(step, Refused)
    assert step.reason == "another channel"


GSASL = shutil.which("gsasl")
EXPORTED = b"what TLS exports of this connection"


class Gsasl:
    """GNU SASL as a client that speaks lines of base64; never waits for ever, and is ended with its block."""

    def __init__(self, *arguments: str, binding: bytes = b"") -> None:
        self._binding = binding
        self._process = subprocess.Popen(
            [str(GSASL), "--client", "--quiet", "--no-client-first", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def __enter__(self) -> Gsasl:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 2)
        return os.read(self._process.stdout.fileno(), 65536) if ready else b""

    def write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    def answer(self, challenge: bytes) -> bytes:
        self.write(base64.b64encode(challenge))
        said = self.read()
        while b"channel binding" in said:  # without a TLS connection of its own it asks the user for it
            self.write(base64.b64encode(self._binding))
            said = self.read()
        assert said.endswith(b"\n")
        return base64.b64decode(said)


@pytest.mark.interop
@pytest.mark.skipif(GSASL is None, reason="gsasl is not installed")
@pytest.mark.parametrize(
    "mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"]
)
@pytest.mark.parametrize(("password", "expected"), [("pencil", Accepted), ("eraser", Refused)])
async def test_gnu_sasl_as_client(mechanism: str, password: str, expected: type) -> None:
    client = AuthClient("203.0.113.5", tls=True, tls_exporter=EXPORTED, certificate=password)
    exchange = authenticator(DictStore(tim="pencil", pencil="x")).begin(mechanism, client)
    who = ["--authentication-id=tim", f"--password={password}"]
    if mechanism == "EXTERNAL":
        who = ["--authorization-id="]
    binding = EXPORTED if mechanism.endswith("PLUS") else b""
    with Gsasl("--mechanism", mechanism, *who, binding=binding) as gsasl:
        assert gsasl.read().startswith(mechanism.encode() + b"\n")
        step = await exchange.step(None)
        while isinstance(step, Challenge):
            step = await exchange.step(gsasl.answer(step.data))
    assert isinstance(step, expected)
