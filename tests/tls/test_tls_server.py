"""What clients are shown and asked, and how many handshakes there may be at once."""

import ssl
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
import trustme
from tls_files import write_pair

from elemta.config import HostPort, ListenerConfig, ListenerTls, TlsConfig, TlsVersion
from elemta.mail import TlsFacts
from elemta.runtime import quick
from elemta.testing.network import memory_connection
from elemta.tls import TlsContexts, TlsFailed, TlsFilesError, start_tls

SUBMISSION = ListenerConfig(
    "submission", HostPort("127.0.0.1", 587), tls=ListenerTls.STARTTLS, client_certificates=True
)


@pytest.fixture
def config(tmp_path: Path) -> TlsConfig:
    first = write_pair(tmp_path, "first", "mx.one.test", "*.one.test")
    return TlsConfig(
        first.certificate,
        first.key,
        certificates=(
            write_pair(tmp_path, "second", "mx.two.test", "*.two.test", "special.one.test"),
            write_pair(tmp_path, "third", "mx.three.test", "mx.two.test", "mx.one.test"),
        ),
    )


def client(**settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return context


async def shake(
    server_context: ssl.SSLContext | None,
    client_context: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[TlsFacts | TlsFailed, trio.SSLStream]:
    """The server's facts or failure, and the client's stream, on which it has waited for an answer."""
    assert server_context is not None
    ours, theirs = memory_connection()
    tls = trio.SSLStream(ours, client_context, server_hostname=name, https_compatible=True)
    if session is not None:
        tls.session = session
    result: list[TlsFacts | TlsFailed] = []

    async def serve() -> None:
        try:
            stream, facts = await start_tls(theirs, server_context, server_side=True)
            result.append(facts)
            await stream.send_all(b"hello")
        except TlsFailed as failure:
            result.append(failure)
            theirs.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await tls.do_handshake()
            await tls.receive_some(5)
        except trio.BrokenResourceError:
            pass
    return result[0], tls


async def shown(contexts: TlsContexts, name: str | None) -> bytes:
    """The certificate that a client gets who asks for that name."""
    _, tls = await shake(contexts.server, client(), name)
    certificate = tls.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("mx.one.test", 0),
        ("any.one.test", 0),
        ("special.one.test", 1),  # the exact name before the default's wildcard
        ("mx.two.test", 1),  # of two, the one that is listed first
        ("ANY.Two.test", 1),
        ("mx.three.test", 2),
        ("a.b.two.test", 0),
        ("unknown.test", 0),
        (None, 0),
    ],
)
async def test_the_name_asked_for_chooses_the_certificate(config: TlsConfig, name: str | None, number: int):
    # RFC 6066 §3
    paths = [config.certificate, *(pair.certificate for pair in config.certificates)]
    contexts = TlsContexts(config)
    assert await shown(contexts, name) == der(paths[number])
    facts, _ = await shake(contexts.server, client(), name)
    assert isinstance(facts, TlsFacts)
    assert facts.end_point == contexts.certificates()[number].end_point
    assert facts.end_point is not None


def test_certificates_are_listed_the_default_one_first(config: TlsConfig):
    names = [certificate.names[0] for certificate in TlsContexts(config).certificates()]
    assert names == ["mx.one.test", "mx.two.test", "mx.three.test"]
    assert TlsContexts(TlsConfig()).certificates() == ()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of `ssl`, which reports it
async def test_a_name_that_is_no_ascii_is_a_failed_handshake_and_nothing_more(config: TlsConfig):
    class Distorting(trio.abc.Stream):
        """Puts an octet that is no ASCII into the name."""

        def __init__(self, stream: trio.abc.Stream) -> None:
            self.stream = stream

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return (await self.stream.receive_some(max_bytes)).replace(b"distort.test", b"dist\xffrt.test")

        async def send_all(self, data) -> None:
            await self.stream.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await self.stream.wait_send_all_might_not_block()

        async def aclose(self) -> None:
            await self.stream.aclose()

    contexts = TlsContexts(config)
    ours, theirs = memory_connection()
    tls = trio.SSLStream(ours, client(), server_hostname="distort.test")
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(TlsFailed, match="callback failed"):
                await start_tls(Distorting(theirs), contexts.server, server_side=True)
            theirs.close()

        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError):
            await tls.do_handshake()
    assert await shown(contexts, None)


@pytest.mark.parametrize("version", list(TlsVersion))
async def test_the_oldest_version_can_be_set(config: TlsConfig, version: TlsVersion):
    contexts = TlsContexts(attrs.evolve(config, minimum_version=version))
    result, _ = await shake(contexts.server, client(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert isinstance(result, TlsFailed) is (version is TlsVersion.TLS_1_3)
    result, _ = await shake(contexts.server, client())
    assert isinstance(result, TlsFacts)
    assert result.version == "TLSv1.3"


async def test_tickets_of_the_same_keys_resume_and_those_of_old_keys_do_not(config: TlsConfig):
    # RFC 5077 §5.5: keys are replaced, here with the contexts
    contexts = TlsContexts(config)
    ours = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    _, tls = await shake(contexts.server, ours)
    session = tls.session

    async def resumes() -> bool:
        bio_client = ours.wrap_bio(incoming := ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), session=session)
        assert contexts.server is not None
        server_in, server_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        bio_server = contexts.server.wrap_bio(server_in, server_out, server_side=True)
        for _ in range(4):
            for side in (bio_client, bio_server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                server_in.write(outgoing.read())
                incoming.write(server_out.read())
        return bool(bio_client.session_reused)

    assert await resumes()
    contexts.reload()
    assert not await resumes()


async def test_a_whole_handshake_of_tls_1_2_has_a_binding_that_both_sides_know(config: TlsConfig):
    # RFC 5929 §3; what was resumed can be equal for two connections (RFC 7627 §1)
    contexts = TlsContexts(config)
    ours = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    facts, first = await shake(contexts.server, ours)
    assert isinstance(facts, TlsFacts)
    assert facts.unique == first.get_channel_binding("tls-unique") is not None
    other, second = await shake(contexts.server, ours)
    assert isinstance(other, TlsFacts)
    assert (second.session_reused, other.unique == facts.unique) == (False, False)
    resumed, third = await shake(contexts.server, ours, session=first.session)
    assert isinstance(resumed, TlsFacts)
    assert (third.session_reused, resumed.unique) == (True, None)
    assert resumed.end_point == facts.end_point


async def test_tls_1_3_has_no_such_binding(config: TlsConfig):
    # RFC 8446 appendix C.5
    facts, _ = await shake(TlsContexts(config).server, client())
    assert isinstance(facts, TlsFacts)
    assert (facts.version, facts.unique) == ("TLSv1.3", None)


def test_a_reload_is_of_all_certificates_or_none(config: TlsConfig, tmp_path: Path):
    contexts = TlsContexts(config)
    before = contexts.certificates()
    write_pair(tmp_path, "first", "mx.one.test")
    config.certificates[1].key.write_bytes(config.key.read_bytes())
    with pytest.raises(TlsFilesError, match="not the private key"):
        contexts.reload()
    assert contexts.certificates() == before


def test_a_further_certificate_needs_a_first(config: TlsConfig):
    with pytest.raises(TlsFilesError, match="without a first"):
        TlsContexts(attrs.evolve(config, certificate=None, key=None))


def test_files_that_change_while_they_are_read_are_not_used(config: TlsConfig, monkeypatch):
    contexts = TlsContexts(config)
    counter = iter(range(100))
    monkeypatch.setattr("elemta.tls.contexts._signature", lambda config: (next(counter),))
    with pytest.raises(TlsFilesError, match="changed while it was read"):
        contexts.reload()


# Certificates of clients


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    return authority


@pytest.fixture
def asking(config: TlsConfig, authority: trustme.CA, tmp_path: Path) -> TlsContexts:
    return TlsContexts(attrs.evolve(config, client_authorities=tmp_path / "clients.pem"))


def with_certificate(authority: trustme.CA, *names: str, **more) -> ssl.SSLContext:
    context = client()
    authority.issue_cert(*names, **more).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("names", "common", "found"),
    [
        (["app.one.test"], None, "app.one.test"),
        (["app.one.test", "anna@one.test"], "Anna", "anna@one.test"),
        ([], "build server", "build server"),
    ],
)
async def test_a_certificate_of_a_client_says_who_it_is(asking, authority, names, common, found):
    context = with_certificate(authority, *names, common_name=common)
    result, _ = await shake(asking.for_listener(SUBMISSION).server, context)
    assert isinstance(result, TlsFacts)
    assert result.verified
    assert result.peer_name == found


@pytest.mark.parametrize("name", ["mx.one.test", "mx.two.test"])
async def test_with_every_name_asked_for(asking, authority, name):
    context = with_certificate(authority, "app.one.test")
    result, tls = await shake(asking.for_listener(SUBMISSION).server, context, name)
    assert isinstance(result, TlsFacts)
    assert result.peer_name == "app.one.test"
    assert tls.getpeercert(binary_form=True) is not None


async def test_a_client_without_one_is_served_all_the_same(asking):
    # RFC 3207 §4: a server must not require it of all
    result, _ = await shake(asking.for_listener(SUBMISSION).server, client())
    assert isinstance(result, TlsFacts)
    assert (result.verified, result.peer_name) == (False, "")


async def test_a_certificate_of_a_foreign_authority_is_turned_away(asking):
    context = with_certificate(trustme.CA(), "app.one.test")
    result, _ = await shake(asking.for_listener(SUBMISSION).server, context)
    assert isinstance(result, TlsFailed)
    assert result.certificate


async def test_other_listeners_do_not_ask(asking, authority):
    plain = attrs.evolve(SUBMISSION, client_certificates=False)
    for contexts in (asking, asking.for_listener(plain)):
        result, _ = await shake(contexts.server, with_certificate(trustme.CA(), "app.one.test"))
        assert isinstance(result, TlsFacts)
        assert not result.verified


async def test_a_reload_reaches_the_views_of_listeners(asking, tmp_path):
    view = asking.for_listener(SUBMISSION)
    before = view.server
    asking.reload()
    assert view.server is not before
    assert view.server is not asking.server
    asking.reload(attrs.evolve(asking.config, client_authorities=None))
    assert view.server is None


async def test_unusable_authorities_of_clients_are_named(config, tmp_path):
    (tmp_path / "clients.pem").write_text("nonsense")
    with pytest.raises(TlsFilesError, match=r"clients\.pem: no certificate or crl"):
        TlsContexts(attrs.evolve(config, client_authorities=tmp_path / "clients.pem"))


# Handshakes at once


async def begin(contexts: TlsContexts, nursery: trio.Nursery, peer: str) -> trio.abc.Stream:
    """A client that says nothing; its other end."""
    ours, theirs = memory_connection((peer, 40000))
    assert contexts.server is not None

    async def serve() -> None:
        with pytest.raises(TlsFailed):
            await start_tls(theirs, contexts.server, server_side=True)
        theirs.close()

    nursery.start_soon(serve)
    return ours


async def test_handshakes_beyond_the_limit_wait_for_their_turn(config):
    contexts = TlsContexts(attrs.evolve(config, handshakes=2))
    async with trio.open_nursery() as nursery:
        slow = [await begin(contexts, nursery, f"192.0.2.{number}") for number in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        assert attrs.astuple(contexts.handshakes()) == (2, 2, 0)
        late = [await begin(contexts, nursery, "192.0.2.9") for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert attrs.astuple(contexts.handshakes()) == (2, 2, 3)
        for stream in (*slow, *late):
            await stream.aclose()
    assert attrs.astuple(contexts.handshakes()) == (2, 0, 0)


async def test_one_client_cannot_take_all_places(config):
    contexts = TlsContexts(attrs.evolve(config, handshakes=20))
    async with trio.open_nursery() as nursery:
        # IPv6: addresses of one /64 are one client
        greedy = [await begin(contexts, nursery, f"2001:db8::{number}") for number in range(50)]
        await trio.testing.wait_all_tasks_blocked()
        assert contexts.handshakes().running == 2
        result, _ = await shake(contexts.server, client())
        assert isinstance(result, TlsFacts)
        for stream in greedy:
            await stream.aclose()


async def test_a_handshake_that_is_cancelled_gives_its_place_back(config, autojump_clock):
    contexts = TlsContexts(attrs.evolve(config, handshakes=1))
    _, theirs = memory_connection()
    with trio.move_on_after(30) as scope:
        await start_tls(theirs, contexts.server, server_side=True)
    assert scope.cancelled_caught
    result, _ = await shake(contexts.server, client())
    assert isinstance(result, TlsFacts)


async def test_who_says_nothing_takes_no_place(config):
    contexts = TlsContexts(attrs.evolve(config, handshakes=1))
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()

    async def serve() -> None:
        async with quick(await listener.accept()) as stream:
            await start_tls(stream, contexts.server, server_side=True)

    async with listener, await trio.open_tcp_stream(*address), trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream(*address) as talking:
            nursery.start_soon(serve)
            with trio.fail_after(5):
                await trio.SSLStream(talking, client()).do_handshake()
        assert contexts.handshakes().running == 0
        nursery.cancel_scope.cancel()


def test_the_limit_changes_with_the_configuration(config):
    contexts = TlsContexts(config)
    contexts.reload(attrs.evolve(config, handshakes=7))
    assert contexts.handshakes().limit == 7
