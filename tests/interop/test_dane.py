"""DANE over real DNSSEC: zones signed by knot, validated by unbound, and hosts with STARTTLS, all on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import random
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ports import free_port
from proofs.servers import end, require, wait_until

from elemta.config import (
    DeliveryConfig,
    DnsConfig,
    HostPort,
    RouteTls,
    TimeoutsConfig,
    TlsConfig,
    TransportKind,
)
from elemta.delivery import ConnectFailed, DeliveryContext, make_transport
from elemta.dns import DnsResolver, RecordKind, Status
from elemta.mail import Cause, Deferred, TlsFacts
from elemta.routing import Route
from elemta.runtime import SystemClock, SystemNetwork
from elemta.tls import TlsContexts

pytestmark = [pytest.mark.interop, pytest.mark.deadline(60)]

SIGNED, PLAIN = "signed.test", "plain.test"
SUBJECT_KEY = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Bed:
    resolver: HostPort
    port: int
    """Where the mail host listens: it shows the certificate that mx.signed.test should have."""
    context: ssl.SSLContext


def _zone(name: str, port: int, own: str, anchor: str) -> str:
    hosts = ("right", "anchor", "wrong", "none", "unusable", "bogus")
    lines = [
        f"$ORIGIN {name}.",
        "$TTL 60",
        "@ SOA ns hostmaster 1 3600 600 86400 60",
        "@ NS ns",
        "ns A 127.0.0.1",
    ]
    for host in hosts:
        lines += [f"{host} MX 10 mx.{host}", f"mx.{host} A 127.0.0.1"]
    lines += [
        f"_{port}._tcp.mx.right TLSA 3 1 1 {own}",
        f"_{port}._tcp.mx.anchor TLSA 2 0 1 {anchor}",
        f"_{port}._tcp.mx.wrong TLSA 3 1 1 {'00' * 32}",
        f"_{port}._tcp.mx.unusable TLSA 1 1 1 {own}",
        "_tcp.mx.bogus NS ns",
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    require("knotd", "unbound")
    folder = tmp_path_factory.mktemp("dane")
    authority = trustme.CA()
    issued = authority.issue_cert(f"mx.anchor.{SIGNED}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 7671 §5.2.1: the anchor of a record with usage 2 is part of the chain that is shown
    pair = folder / "host.pem"
    pair.write_bytes(issued.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    context.load_cert_chain(pair)
    key = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_key()
    own = hashlib.sha256(key.public_bytes(*SUBJECT_KEY)).hexdigest()
    whole = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).public_bytes(Encoding.DER)
    port, knot, unbound = free_port(), free_port(), free_port()
    child = f"_tcp.mx.bogus.{SIGNED}"
    for name in (SIGNED, PLAIN):
        (folder / f"{name}.zone").write_text(_zone(name, port, own, hashlib.sha256(whole).hexdigest()))
    (folder / f"{child}.zone").write_text(
        f"$ORIGIN {child}.\n$TTL 60\n@ SOA ns.{SIGNED}. hostmaster 1 3600 600 86400 60\n@ NS ns.{SIGNED}.\n"
        f"_{port} TLSA 3 1 1 {own}\n"
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_running("knotd", "-c", _knot(folder, knot, [SIGNED, child], [PLAIN])))
        wait_until(lambda: _key(knot, SIGNED) != "" and _key(knot, child) != "", "signed zones")
        # The child's anchor is another zone's key, so nothing in it can be valid
        anchors = [f"{SIGNED}. {_key(knot, SIGNED)}", f"{child}. {_key(knot, SIGNED)}"]
        configuration = _unbound(folder, unbound, knot, anchors)
        stack.enter_context(_running("unbound", "-d", "-c", configuration))
        wait_until(lambda: _answers(unbound), "unbound")
        yield Bed(HostPort("127.0.0.1", unbound), port, context)


@contextlib.contextmanager
def _running(*command: str | Path) -> Iterator[None]:
    environment = {"PATH": "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        end(process)


def _knot(folder: Path, port: int, signed: list[str], plain: list[str]) -> Path:
    zones = [(name, "on") for name in signed] + [(name, "off") for name in plain]
    text = f'server:\n  listen: 127.0.0.1@{port}\n  rundir: "{folder}"\ndatabase:\n  storage: "{folder}"\nzone:\n'
    for name, signing in zones:
        text += f'  - domain: {name}\n    storage: "{folder}"\n    file: "{name}.zone"\n'
        text += f"    dnssec-signing: {signing}\n    zonefile-sync: -1\n    journal-content: none\n"
    path = folder / "knot.conf"
    path.write_text(text)
    return path


def _unbound(folder: Path, port: int, knot: int, anchors: list[str]) -> Path:
    text = f"""
server:
  interface: 127.0.0.1
  port: {port}
  do-ip6: no
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  use-syslog: no
  do-not-query-localhost: no
  local-zone: "test." nodefault
  module-config: "validator iterator"
"""
    text += "".join(f'  trust-anchor: "{anchor}"\n' for anchor in anchors)
    text += "remote-control:\n  control-enable: no\n"
    for name in (SIGNED, PLAIN):
        text += f'stub-zone:\n  name: "{name}"\n  stub-addr: 127.0.0.1@{knot}\n'
    text += f'stub-zone:\n  name: "_tcp.mx.bogus.{SIGNED}"\n  stub-addr: 127.0.0.1@{knot}\n'
    path = folder / "unbound.conf"
    path.write_text(text)
    return path


def _key(port: int, zone: str) -> str:
    """The key signing key as `DNSKEY …`; empty while there is none."""
    with contextlib.suppress(OSError, dns.exception.DNSException):
        response = dns.query.tcp(dns.message.make_query(f"{zone}.", "DNSKEY"), "127.0.0.1", 2, port)
        for record in (record for found in response.answer for record in found):
            if record.flags == 257:
                return f"DNSKEY {record.to_text()}"
    return ""


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, dns.exception.DNSException):
        question = dns.message.make_query(f"{SIGNED}.", "SOA")
        return dns.query.tcp(question, "127.0.0.1", 2, port).rcode() == dns.rcode.NOERROR
    return False


async def _mail_host(context: ssl.SSLContext, stream: trio.SocketStream) -> None:
    """As far as the hello behind STARTTLS."""
    with contextlib.suppress(trio.BrokenResourceError):
        for line in (b"220 mx ESMTP\r\n", b"250-mx\r\n250 STARTTLS\r\n"):
            await stream.send_all(line)
            await stream.receive_some()
        await stream.send_all(b"220 go\r\n")
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        while await tls.receive_some():
            await tls.send_all(b"250 fine\r\n")


async def _connect(bed: Bed, domain: str, tls: RouteTls = RouteTls.OPPORTUNISTIC) -> TlsFacts | Cause | None:
    """The facts of a session with the domain's host, or why there was none."""
    context = DeliveryContext(
        hostname="client.test",
        resolver=DnsResolver(DnsConfig((bed.resolver,))),
        network=SystemNetwork(),
        tls=TlsContexts(TlsConfig()),
        timeouts=TimeoutsConfig(),
        config=DeliveryConfig(ipv6=False),
        clock=SystemClock(),
        random=random.Random(1),
    )
    route = Route(TransportKind.SMTP, domain, bed.port, use_mx=True, tls=tls)
    found: TlsFacts | Cause | None = None
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, partial(_mail_host, bed.context), bed.port, host="127.0.0.1")
            await nursery.start(serve)
            try:
                connection = await make_transport(route, context).connect()
                found = connection.tls
                await connection.aclose()
            except ConnectFailed as failed:
                found = failed.outcome.cause if isinstance(failed.outcome, Deferred) else None
            nursery.cancel_scope.cancel()
    return found


async def test_resolver_passes_on_what_unbound_validated(bed: Bed) -> None:
    resolver = DnsResolver(DnsConfig((bed.resolver,)))
    with trio.fail_after(30):
        answer = await resolver.query(f"right.{SIGNED}", RecordKind.MX)
        assert (answer.status, answer.authentic) == (Status.OK, True)
        missing = await resolver.query(f"nobody.{SIGNED}", RecordKind.MX)
        assert (missing.status, missing.authentic) == (Status.NXDOMAIN, True)
        insecure = await resolver.query(f"right.{PLAIN}", RecordKind.MX)
        assert (insecure.status, insecure.authentic) == (Status.OK, False)
        bogus = await resolver.query(f"_{bed.port}._tcp.mx.bogus.{SIGNED}", RecordKind.TLSA)
        assert bogus.status is Status.FAILED


@pytest.mark.parametrize("host", ["right", "anchor"])
async def test_host_that_meets_its_record_is_proven(bed: Bed, host: str) -> None:
    for tls in (RouteTls.OPPORTUNISTIC, RouteTls.DANE_ONLY):
        facts = await _connect(bed, f"{host}.{SIGNED}", tls)
        assert isinstance(facts, TlsFacts)
        assert facts.verified


@pytest.mark.parametrize(("host", "cause"), [("wrong", Cause.CERTIFICATE), ("bogus", Cause.DNS)])
async def test_host_that_fails_and_bogus_records_keep_the_mail_here(
    bed: Bed, host: str, cause: Cause
) -> None:
    assert await _connect(bed, f"{host}.{SIGNED}") is cause


@pytest.mark.parametrize("domain", [f"none.{SIGNED}", f"unusable.{SIGNED}", f"wrong.{PLAIN}"])
async def test_without_usable_records_nothing_is_proven(bed: Bed, domain: str) -> None:
    facts = await _connect(bed, domain)
    assert isinstance(facts, TlsFacts)
    assert not facts.verified
    assert await _connect(bed, domain, RouteTls.DANE_ONLY) is Cause.CERTIFICATE
