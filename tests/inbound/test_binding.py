"""Listening sockets: bound before everything else, with errors that say what to do."""

import errno
import socket

import attrs
import pytest
from ports import free_port

from elemta.config import HostPort, ListenerAuth, ListenerConfig
from elemta.inbound import BindError, BoundListener, Rebinding, bind_all, rebind, unclaimed
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
    with inherited:
        [bound] = bind(listener("192.0.2.77", 25, "mx"), inherited={"mx": [inherited], "other": []})
        [sock] = bound.sockets
        assert sock is not inherited  # theirs stays open, for a later reload
        assert bound.addresses[0].port == inherited.getsockname()[1]
        assert not sock.getblocking()


@pytest.mark.parametrize(
    ("theirs", "ours"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "")]
)
def test_inherited_sockets_without_a_listener_s_name_go_by_their_address(bind, theirs: str, ours: str):
    with socket.create_server((theirs, 0)) as inherited, socket.create_server((theirs, 0)) as other:
        port = inherited.getsockname()[1]
        names = {"elemta.socket": [other, inherited], "": [socket.socket(socket.AF_UNIX)]}
        [bound] = bind(listener(ours, port, "mx"), inherited=names)
        assert [sock.getsockname()[1] for sock in bound.sockets] == [port]
        names[""][0].close()


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
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "lmtp"))
        sock.listen()
        [bound] = bind(listener("127.0.0.1", 24, "lmtp"), inherited={"lmtp": [sock]})
        assert bound.addresses == (HostPort(str(tmp_path / "lmtp"), 0),)


def test_inherited_sockets_that_no_listener_serves_are_named(bind):
    with socket.create_server(("127.0.0.1", 0)) as used, socket.create_server(("127.0.0.1", 0)) as unused:
        inherited = {"mx": [used], "other": [unused]}
        bound = bind(listener("127.0.0.1", 25, "mx"), inherited=inherited)
        port = unused.getsockname()[1]
        assert unclaimed(inherited, bound) == (f"other at 127.0.0.1:{port}",)


# Another configuration


def descriptors(*bound: BoundListener) -> list[int]:
    return [sock.fileno() for each in bound for sock in each.sockets]


@pytest.fixture
def change(bind):
    """Rebind, and close what is new at the end."""
    changes: list[Rebinding] = []

    def change(listeners, current, **options) -> Rebinding:
        changes.append(rebind(listeners, current, **options))
        return changes[-1]

    yield change
    for each in changes:
        for bound in each.added:
            bound.close()


def test_a_listener_at_the_same_address_keeps_its_sockets(bind, change):
    current = bind(listener("127.0.0.1", 0, "one"), listener("127.0.0.1", free_port(), "two"))
    renamed = [
        attrs.evolve(current[1].config, name="renamed"),
        attrs.evolve(current[0].config, auth=ListenerAuth.OPTIONAL),
    ]
    done = change(renamed, current)
    assert (done.added, done.leaving) == ((), ())
    assert descriptors(*done.bound) == descriptors(current[1], current[0])
    assert [each.config for each in done.bound] == renamed


def test_what_is_new_is_bound_and_what_is_gone_is_named(bind, change):
    current = bind(listener("127.0.0.1", 0, "one"), listener("127.0.0.1", free_port(), "two"))
    done = change([current[0].config, listener("127.0.0.1", 0, "three")], current)
    assert [each.config.name for each in done.added] == ["three"]
    assert done.leaving == (current[1],)
    with socket.create_connection(current[1].sockets[0].getsockname()):
        pass  # still listening, until somebody closes it


def test_port_zero_of_another_listener_is_another_port(bind, change):
    current = bind(listener("127.0.0.1", 0, "one"))
    done = change([listener("127.0.0.1", 0, "two")], current)
    assert done.leaving == current
    assert done.added[0].addresses != current[0].addresses


@pytest.mark.parametrize(
    ("before", "after"), [("127.0.0.1", ""), ("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")]
)
def test_a_wider_or_narrower_address_is_bound_beside_the_one_that_goes(bind, change, before: str, after: str):
    port = free_port()
    current = bind(listener(before, port, "mx"))
    done = change([listener(after, port, "mx")], current)
    assert done.leaving == current
    # and afterwards another program is still told that the port is in use
    for each in (*current, *done.added):
        for sock in each.sockets:
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    with pytest.raises(BindError, match="in use"):
        bind(listener(after, port))
    current[0].close()
    with pytest.raises(BindError, match="in use"):
        bind(listener(after, port))
    with socket.create_connection(("127.0.0.1", port)):
        pass


def test_an_address_that_cannot_be_used_leaves_everything_as_it_was(bind, change):
    port = free_port()
    current = bind(listener("127.0.0.1", port, "one"))
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken, free = foreign.getsockname()[1], free_port()
        with pytest.raises(BindError, match=str(taken)):
            rebind([listener("127.0.0.1", free, "new"), listener("127.0.0.1", taken, "two")], current)
    bind(listener("127.0.0.1", free, "free again"))
    with socket.create_connection(("127.0.0.1", port)):
        pass


def test_an_inherited_socket_serves_again_when_its_listener_comes_back(bind, change):
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        theirs = {"mx": [inherited]}
        config = listener("127.0.0.1", inherited.getsockname()[1], "mx")
        current = bind(config, inherited=theirs)
        gone = change([], current, inherited=theirs)
        for each in gone.leaving:
            each.close()
        back = change([config], (), inherited=theirs)
        assert back.bound[0].addresses == current[0].addresses


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
