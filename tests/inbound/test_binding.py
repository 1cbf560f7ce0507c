"""Listening sockets: bound before everything else, with errors that say what to do."""

import errno
import socket

import pytest

from elemta.config import HostPort, ListenerConfig
from elemta.inbound import BindError, BoundListener, bind_all
from elemta.inbound.binding import BACKLOG


def listener(host: str, port: int = 0, name: str = "test") -> ListenerConfig:
    return ListenerConfig(name, HostPort(host, port))


@pytest.fixture
def bind():
    opened: list[BoundListener] = []

    def bind(*listeners: ListenerConfig, **options) -> tuple[BoundListener, ...]:
        bound = bind_all(listeners, **options)
        opened.extend(bound)
        return bound

    yield bind
    for each in opened:
        each.close()


def test_port_zero_becomes_a_real_port(bind):
    [bound] = bind(listener("127.0.0.1"))
    [address] = bound.addresses
    assert address.host == "127.0.0.1"
    assert address.port > 0
    with socket.create_connection((address.host, address.port)):
        pass


def test_the_options_of_the_sockets(bind):
    [bound] = bind(listener("127.0.0.1"))
    [sock] = bound.sockets
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not sock.getblocking()
    with socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_an_empty_host_means_both_families_on_one_port(bind):
    [bound] = bind(listener(""))
    families = {sock.family for sock in bound.sockets}
    assert socket.AF_INET in families
    assert len({address.port for address in bound.addresses}) == 1
    for sock in bound.sockets:
        if sock.family == socket.AF_INET6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_an_empty_host_makes_do_with_the_families_there_are(bind, monkeypatch):
    real = socket.socket

    def without_ipv6(family: int = -1, *args: int, **options: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **options)

    monkeypatch.setattr("elemta.inbound.binding.socket.socket", without_ipv6)
    [bound] = bind(listener(""))
    assert [sock.family for sock in bound.sockets] == [socket.AF_INET]
    with pytest.raises(BindError) as caught:
        bind(listener("::1"))
    assert "does not speak" in caught.value.hint


def test_an_address_in_use_says_so(bind):
    [bound] = bind(listener("127.0.0.1"))
    port = bound.addresses[0].port
    with pytest.raises(BindError) as caught:
        bind(listener("127.0.0.1", port))
    error = caught.value
    assert error.address == f"127.0.0.1:{port}"
    assert error.reason == "Address already in use"
    assert "ss -ltnp" in error.hint
    assert error.in_use
    assert str(error).startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use (")


def test_what_was_bound_is_closed_again_when_a_later_one_fails(bind):
    [bound] = bind(listener("127.0.0.1"))
    taken = bound.addresses[0].port
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    with pytest.raises(BindError):
        bind(listener("127.0.0.1", free, "one"), listener("127.0.0.1", taken, "two"))
    bind(listener("127.0.0.1", free, "one"))


def test_a_foreign_address_says_so(bind):
    with pytest.raises(BindError) as caught:
        bind(listener("192.0.2.77", 2525))
    assert caught.value.hint == "this machine has no such address"


def test_a_refused_port_says_what_would_help(bind, monkeypatch):
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(BindError) as caught:
        bind(listener("127.0.0.1", 25))
    assert caught.value.reason == "Permission denied"
    assert "CAP_NET_BIND_SERVICE" in caught.value.hint
    assert not caught.value.in_use


def test_a_host_that_is_none_says_so(bind):
    with pytest.raises(BindError):
        bind(listener("no.such.host.invalid", 2525))
    with pytest.raises(BindError):
        bind(listener("x" * 300, 2525))


def test_a_port_that_is_taken_in_the_other_family_only_is_sought_anew(bind, monkeypatch):
    real = socket.socket.bind
    failures = [1, 1]

    def busy(self: socket.socket, address: tuple) -> None:
        if address[1] != 0 and failures:
            failures.pop()
            raise OSError(errno.EADDRINUSE, "Address already in use")
        real(self, address)

    if len(bind(listener(""))[0].sockets) < 2:
        pytest.skip("only one family here")
    monkeypatch.setattr(socket.socket, "bind", busy)
    [bound] = bind(listener(""))
    assert not failures
    assert len(bound.sockets) == 2


def test_the_port_override_is_for_the_first_listener(bind):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    one, two = bind(listener("127.0.0.1", 1, "one"), listener("127.0.0.1", 0, "two"), port=free)
    assert one.addresses[0].port == free
    assert two.addresses[0].port != free


def test_inherited_sockets_take_the_place_of_binding(bind):
    inherited = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    [bound] = bind(listener("192.0.2.77", 25, "mx"), inherited={"mx": [inherited], "other": []})
    assert bound.sockets == (inherited,)
    assert bound.addresses[0].port == inherited.getsockname()[1]
    assert not inherited.getblocking()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_an_inherited_socket_that_does_not_listen_says_so(bind, kind: socket.SocketKind):
    with socket.socket(socket.AF_INET, kind) as sock, pytest.raises(BindError) as caught:
        bind(listener("127.0.0.1", 25, "mx"), inherited={"mx": [sock]})
    assert "'mx'" in caught.value.address
    assert "ListenStream" in caught.value.hint


def test_an_inherited_socket_that_is_closed_says_so(bind):
    sock = socket.socket()
    sock.close()
    with pytest.raises(BindError) as caught:
        bind(listener("127.0.0.1", 25, "mx"), inherited={"mx": [sock]})
    assert caught.value.reason == "Bad file descriptor"


def test_a_unix_socket_can_be_inherited(bind, tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "lmtp"))
    sock.listen()
    [bound] = bind(listener("127.0.0.1", 24, "lmtp"), inherited={"lmtp": [sock]})
    assert bound.addresses == (HostPort(str(tmp_path / "lmtp"), 0),)


def test_an_empty_host_passes_over_a_family_that_is_switched_off(bind, monkeypatch):
    real = socket.socket.bind

    def without_ipv6(self: socket.socket, address: tuple) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", without_ipv6)
    [bound] = bind(listener(""))
    assert [sock.family for sock in bound.sockets] == [socket.AF_INET]


def test_no_descriptors_left_says_so(bind, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("elemta.inbound.binding.socket.socket", refuse)
    with pytest.raises(BindError) as caught:
        bind(listener("127.0.0.1"))
    assert (caught.value.reason, caught.value.hint) == ("Too many open files", "")


def test_a_balancer_in_front_is_refused_rather_than_taken_for_a_client(bind):
    with pytest.raises(BindError) as caught:
        bind(ListenerConfig("mx", HostPort("127.0.0.1", 0), proxy_protocol=True))
    assert "proxy_protocol" in str(caught.value)
