"""Files and sockets that a log goes to: whole records, opened and connected again, never longer than asked."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

import pytest
import trio

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
