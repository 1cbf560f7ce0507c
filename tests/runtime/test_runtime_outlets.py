"""Files and sockets that a log goes to: whole records, opened and connected again, never longer than asked."""

from __future__ import annotations

import errno
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from tls_files import write_pair

from elemta.runtime import DatagramOutlet, FileOutlet, LogPump, StreamOutlet
from elemta.runtime.outlets import SMALL_DATAGRAM


def test_a_file_that_was_moved_away_is_opened_again_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "log"
    outlet = FileOutlet(path)
    assert outlet.write(b"one\n", 1.0) == (4, None)
    path.rename(tmp_path / "log.1")
    outlet.write(b"two\n", 1.0)
    assert not path.exists()
    outlet.reopen()
    outlet.write(b"three\n", 1.0)
    assert ((tmp_path / "log.1").read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")
    outlet.close()
    outlet.close()
    assert outlet.write(b"four\n", 1.0)[0] == 0


def test_where_the_new_file_cannot_be_opened_the_old_one_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    outlet = FileOutlet(folder / "log")
    folder.rename(tmp_path / "away")
    outlet.reopen()
    assert outlet.write(b"on\n", 1.0) == (3, None)
    assert (tmp_path / "away" / "log").read_bytes() == b"on\n"
    outlet.close()


def test_what_is_wrong_with_a_file_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        FileOutlet(tmp_path)


def receiver(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(5)
    return sock


def test_each_record_is_a_datagram(tmp_path: Path) -> None:
    with receiver(tmp_path / "s") as sock:
        outlet = DatagramOutlet(str(tmp_path / "s"))
        assert outlet.write(b"one\ntwo\n", 1.0) == (8, None)
        assert [sock.recv(100), sock.recv(100)] == [b"one", b"two"]
        outlet.close()
        groups = DatagramOutlet(str(tmp_path / "s"), end=b"\n\n")
        groups.write(b"A=1\nB=2\n\nA=3\n\n", 1.0)
        assert [sock.recv(100), sock.recv(100)] == [b"A=1\nB=2", b"A=3"]
        groups.close()


def test_a_receiver_that_does_not_read_costs_the_patience_and_no_more(tmp_path: Path) -> None:
    with receiver(tmp_path / "s") as sock:
        outlet = DatagramOutlet(str(tmp_path / "s"))
        begun = time.monotonic()
        data = b"x" * 100 + b"\n"
        written, error = outlet.write(data * 100_000, 0.1)
        assert error is None
        assert 0 < written < len(data) * 100_000
        assert written % len(data) == 0
        assert time.monotonic() - begun < 2
        sock.recv(200)
        assert outlet.write(data, 1.0) == (len(data), None)
        outlet.close()


def test_a_datagram_that_is_too_long_is_cut_at_a_character() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        outlet = DatagramOutlet(("127.0.0.1", sock.getsockname()[1]))
        outlet.write("é".encode() * 40_000 + b"\nnext\n", 1.0)
        cut = sock.recv(100_000)
        assert len(cut) <= SMALL_DATAGRAM
        assert set(cut.decode()) == {"é"}
        assert sock.recv(100) == b"next"
        outlet.close()


def test_who_is_not_there_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elemta.runtime.outlets._AGAIN_AFTER", 0.05)
    outlet = DatagramOutlet(str(tmp_path / "s"))
    assert outlet.write(b"one\n", 0.1)[1] is not None
    written, error = outlet.write(b"two\n", 0.1)
    assert (written, getattr(error, "errno", 0)) == (0, errno.ENOTCONN)
    time.sleep(0.06)
    with receiver(tmp_path / "s") as sock:
        assert outlet.write(b"three\n", 0.1) == (6, None)
        assert sock.recv(100) == b"three"
    outlet.close()


def frames(data: bytes) -> list[bytes]:
    found = []
    while data:
        length, _, data = data.partition(b" ")
        found.append(data[: int(length)])
        assert len(found[-1]) == int(length)
        data = data[int(length) :]
    return found


def test_over_tcp_each_record_has_its_length_before_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outlet = StreamOutlet(listener.getsockname())
        assert outlet.write("one\nzwö\n".encode(), 1.0) == (9, None)
        peer, _ = listener.accept()
        with peer:
            assert frames(peer.recv(1000)) == [b"one", "zwö".encode()]
        outlet.close()


def test_a_frame_that_was_sent_in_part_is_finished_before_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outlet = StreamOutlet(listener.getsockname())
        record = b"x" * 5_000_000 + b"\n"
        written, error = outlet.write(record * 4, 0.1)  # nobody reads yet
        assert error is None
        assert written == len(record)
        peer, _ = listener.accept()
        received = bytearray()
        with peer:
            peer.settimeout(5)
            rest = record * 3
            while rest or len(received) < 4 * (5_000_000 + len(b"5000000 ")):
                done, error = outlet.write(rest, 0.01)
                assert error is None
                rest = rest[done:]
                received += peer.recv(1 << 20)
        assert frames(bytes(received)) == [record[:-1]] * 4
        outlet.close()


def test_after_an_error_the_stream_begins_with_a_whole_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elemta.runtime.outlets._AGAIN_AFTER", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outlet = StreamOutlet(listener.getsockname())
        outlet.write(b"x" * 10_000_000 + b"\n", 0.05)
        first, _ = listener.accept()
        first.close()
        errors = [outlet.write(b"lost\n", 0.2)[1] for _ in range(3)]
        assert any(errors)
        outlet.write(b"whole\n", 1.0)
        second, _ = listener.accept()
        with second:
            second.settimeout(5)
            assert frames(second.recv(1000))[-1] == b"whole"
        outlet.close()


async def test_a_pump_writes_to_an_outlet_and_counts_what_nobody_took(tmp_path: Path) -> None:
    pump = LogPump(DatagramOutlet(str(tmp_path / "s")), interval=0.001)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        pump.put({"time": 0.0, "level": "info", "type": "x"})
        with trio.fail_after(4):
            while not pump.statistics().dropped:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    pump.close()


class Receiver:
    """A receiver of syslog over TLS (RFC 5425) that takes one connection after the other."""

    def __init__(self, folder: Path, *names: str) -> None:
        pair = write_pair(folder, "receiver", *names, now=time.time())
        self.certificate = pair.certificate
        self.connections: list[bytearray] = []
        self.clean_ends = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._listener: socket.socket | None = None
        self._current: socket.socket | None = None
        self._port = 0

    def authorities(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        thread = threading.Thread(target=self._serve, args=(self._listener,))
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self.hang_up()
            thread.join()
            self._listener.close()

    def hang_up(self) -> None:
        if self._current is not None:
            with suppress(OSError):
                self._current.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                self._current, _ = listener.accept()
            except OSError:
                return
            received = bytearray()
            self.connections.append(received)
            with suppress(OSError), self._context.wrap_socket(self._current, server_side=True) as peer:
                self._current = peer
                while data := peer.recv(65536):
                    received += data
                self.clean_ends += 1

    def records(self) -> list[bytes]:
        return [frame for data in self.connections for frame in frames(bytes(data))]


def write_all(outlet: StreamOutlet, data: bytes) -> list[OSError]:
    """Write as a pump does: what was not taken again."""
    errors = []
    end = time.monotonic() + 15
    while data:
        written, error = outlet.write(data, 0.05)
        data = data[written:]
        if error is not None:
            errors.append(error)
        elif not written:
            time.sleep(0.005)
        assert time.monotonic() < end, errors
    return errors


def wait_for_records(receiver: Receiver, *wanted: bytes) -> None:
    end = time.monotonic() + 15
    while receiver.records() != [*wanted]:
        assert time.monotonic() < end, receiver.records()
        time.sleep(0.005)


def test_over_tls_records_come_to_a_receiver_that_is_who_it_should_be(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, "logs.example.org")
    with receiver.listening():
        outlet = StreamOutlet(receiver.address, tls=receiver.authorities(), name="logs.example.org")
        assert write_all(outlet, "one\nzwö\n".encode()) == []
        wait_for_records(receiver, b"one", "zwö".encode())
        outlet.close()  # RFC 5425 4.4
        end = time.monotonic() + 10
        while not receiver.clean_ends:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.mark.parametrize("name", ["other.example.org", None])
def test_over_tls_a_receiver_of_another_name_gets_nothing(
    tmp_path: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.runtime.outlets._AGAIN_AFTER", 0.001)
    receiver = Receiver(tmp_path, "logs.example.org")
    with receiver.listening():
        outlet = StreamOutlet(receiver.address, tls=receiver.authorities(), name=name)
        errors: list[OSError] = []
        end = time.monotonic() + 15
        while len(errors) < 2:
            written, error = outlet.write(b"secret\n", 0.05)
            assert written == 0
            errors += [error] if error else []
            assert time.monotonic() < end
        outlet.close()
    assert all(isinstance(error, ssl.SSLCertVerificationError) for error in errors)
    assert receiver.records() == []


def test_over_tls_a_receiver_of_an_unknown_authority_gets_nothing(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, "logs.example.org")
    with receiver.listening():
        outlet = StreamOutlet(receiver.address, tls=ssl.create_default_context(), name="logs.example.org")
        written, error = 0, None
        while error is None:
            written, error = outlet.write(b"secret\n", 1.0)
        assert (written, type(error)) == (0, ssl.SSLCertVerificationError)
        outlet.close()


def test_over_tls_a_record_goes_again_where_the_receiver_had_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.runtime.outlets._AGAIN_AFTER", 0.01)
    receiver = Receiver(tmp_path, "logs.example.org")
    with receiver.listening():
        outlet = StreamOutlet(receiver.address, tls=receiver.authorities(), name="logs.example.org")
        assert write_all(outlet, b"one\n") == []
        wait_for_records(receiver, b"one")
        receiver.hang_up()
        time.sleep(0.05)
        assert len(write_all(outlet, b"two\nthree\n")) == 1
        wait_for_records(receiver, b"one", b"two", b"three")
        outlet.close()


def test_who_is_not_there_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("elemta.runtime.outlets.time.monotonic", lambda: clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outlet = StreamOutlet(listener.getsockname())
    failed = []
    while clock < 300:
        written, error = outlet.write(b"x\n", 0.0)
        assert written == 0
        if error is not None:
            failed.append(clock)
        clock += 0.5
    waits = [after - before for before, after in itertools.pairwise(failed)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60][: len(waits)]
    assert len(waits) >= 7


async def test_a_pump_keeps_what_it_has_until_the_receiver_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elemta.runtime.outlets._AGAIN_AFTER", 0.01)
    monkeypatch.setattr("elemta.runtime.pump._RETRY", 0.01)
    receiver = Receiver(tmp_path, "logs.example.org")
    with receiver.listening():
        pass  # its port is free now
    troubles: list[OSError | None] = []
    outlet = StreamOutlet(receiver.address, tls=receiver.authorities(), name="logs.example.org")
    pump = LogPump(outlet, render=lambda record: b"%d\n" % record["n"] if "n" in record else b"lost\n",
                   size=50, interval=0.001, on_trouble=troubles.append)  # fmt: skip
    pump.put({"n": 0})  # before the loop, too
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            while not troubles:
                await trio.sleep(0.01)
            for number in range(1, 200):
                pump.put({"n": number})
            dropped = pump.statistics().dropped
            assert dropped >= 100
            with receiver.listening():
                while pump.statistics().waiting or len(receiver.records()) < 200 - dropped + 1:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
    pump.close()
    assert isinstance(troubles[0], OSError)
    assert troubles[-1] is None
    got = receiver.records()
    assert got[0] == b"0"
    assert got.count(b"lost") == 1
    assert [int(each) for each in got if each != b"lost"] == list(range(len(got) - 1))
    assert pump.statistics().dropped == dropped


async def test_at_its_end_a_pump_waits_for_nobody_who_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    pump = LogPump(StreamOutlet(address), interval=0.001)
    begun = time.monotonic()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            pump.put({"time": 0.0, "level": "info", "type": "x"})
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    pump.close()
    assert pump.statistics().dropped == 1
    assert time.monotonic() - begun < 10
