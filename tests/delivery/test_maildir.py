"""Maildir folders, read back with the mail reader library of Python."""

import errno
import mailbox
import os
import random
import stat
from functools import partial

import pytest
import trio
from delivery_helpers import CONTENT, FakeContent, make_parcel, streamed

from elemta.config import TlsConfig, TransportKind
from elemta.delivery import DeliveryContext, MaildirTransport, make_transport
from elemta.delivery.maildir import LineEnds, MaildirFile, check_folder, unique_name
from elemta.mail import Cause, Deferred, Delivered, Failed
from elemta.routing import Route
from elemta.runtime import SystemNetwork, TrioWallClock
from elemta.testing.dns import FakeResolver
from elemta.tls import TlsContexts

# Threads and disks: real time, no mock clock (TRIO 3.12).


@pytest.fixture(scope="module")
def context():
    return DeliveryContext(
        hostname="mx.example",
        resolver=FakeResolver(),
        network=SystemNetwork(),
        tls=TlsContexts(TlsConfig()),
        clock=TrioWallClock(epoch=1_750_000_000.5),
        random=random.Random(7),
    )


async def deliver(context, folder, parcel):
    transport = make_transport(Route(TransportKind.MAILDIR, str(folder)), context)
    assert isinstance(transport, MaildirTransport)
    connection = await transport.connect()
    try:
        outcomes = await connection.deliver(parcel)
        assert connection.usable
        assert not connection.dot_sent
        assert connection.phase == "idle"
        return outcomes
    finally:
        await connection.aclose()


def stored(folder):
    return [path.read_bytes() for path in sorted((folder / "new").iterdir())]


async def test_message_can_be_read_back(context, tmp_path):
    folder = tmp_path / "example.org" / "ann"
    [outcome] = await deliver(context, folder, make_parcel())
    assert isinstance(outcome, Delivered)
    assert outcome.remote == str(folder)
    box = mailbox.Maildir(folder, create=False)
    [message] = box.values()
    assert message["Return-Path"] == "<bob@example.net>"
    assert message["Delivered-To"] == "ann@example.org"
    assert message["Subject"] == "hello"
    assert message.get_payload() == "Body\n"
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_file_is_byte_exact_with_local_line_ends(streaming, context, tmp_path):
    whole = b"Subject: x\r\n\r\n.dot\r\n\r\r\n\xff\0\r\nFrom the end\r"
    pieces = [whole[:11], whole[11:13], *[whole[13:][index : index + 1] for index in range(len(whole) - 13)]]
    content = streamed(*pieces, prefix=b"X: 1\r\n") if streaming else FakeContent(b"X: 1\r\n", whole)
    [outcome] = await deliver(context, tmp_path / "box", make_parcel(sender="<>", content=content))
    assert isinstance(outcome, Delivered)
    assert stored(tmp_path / "box") == [
        (
            b"Return-Path: <>\nDelivered-To: ann@example.org\nX: 1\nSubject: x\n\n"
            b".dot\n\r\n\xff\0\nFrom the end\r"
        )
    ]


@pytest.mark.parametrize("streaming", [False, True])
async def test_each_recipient_gets_a_file_of_its_own(streaming, context, tmp_path):
    content = streamed(b"Subject: hello\r\n\r\n", b"Body\r\n") if streaming else None
    parcel = make_parcel("a@example.org", "b@example.org", content=content)
    outcomes = await deliver(context, tmp_path, parcel)
    assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered]
    texts = stored(tmp_path)
    assert {text.splitlines()[1] for text in texts} == {
        b"Delivered-To: a@example.org",
        b"Delivered-To: b@example.org",
    }
    assert {text.split(b"\n", 2)[2] for text in texts} == {CONTENT.replace(b"\r\n", b"\n")}


@pytest.mark.parametrize("streaming", [False, True])
async def test_return_path_stands_there_once(streaming, context, tmp_path):
    body = (
        b"return-path: <evil@example.net>\r\n folded\r\nX-Return-Path: <stays>\r\nReturn-Path : y\r\n\r\n"
        b"Return-Path: <stays too>\r\n"
    )
    content = streamed(*[body[index : index + 1] for index in range(len(body))]) if streaming else None
    await deliver(context, tmp_path, make_parcel(content=content or FakeContent(whole=body)))
    assert stored(tmp_path) == [
        (
            b"Return-Path: <bob@example.net>\nDelivered-To: ann@example.org\n"
            b"Received: from client by mx.example\nX-Return-Path: <stays>\n\nReturn-Path: <stays too>\n"
        )
    ]


@pytest.mark.parametrize("streaming", [False, True])
async def test_message_that_was_here_before_is_a_loop(streaming, context, tmp_path):
    body = b"Delivered-To:\r\n ANN@example.org\r\n\r\nx\r\n"
    content = streamed(body) if streaming else FakeContent(whole=body)
    parcel = make_parcel("ann@example.org", "other@example.org", content=content)
    outcomes = await deliver(context, tmp_path, parcel)
    assert [type(outcome) for outcome in outcomes] == [Failed, Delivered]
    assert outcomes[0].cause is Cause.LOOP
    assert outcomes[0].reply.enhanced_text == "5.4.6"
    assert len(stored(tmp_path)) == 1


async def test_message_without_header_or_without_body(context, tmp_path):
    for content in (
        FakeContent(b"", b"\r\nDelivered-To: ann@example.org\r\n"),
        streamed(b"\r\nDelivered-To: ann@example.org\r\n", prefix=b""),
        streamed(b"only: header\r\n", prefix=b""),
        FakeContent(b"", b"only: header\r\n"),
    ):
        [outcome] = await deliver(context, tmp_path, make_parcel(content=content))
        assert isinstance(outcome, Delivered)
    assert sum(text.endswith(b"\n\nDelivered-To: ann@example.org\n") for text in stored(tmp_path)) == 2
    assert sum(text.endswith(b"\nonly: header\n") for text in stored(tmp_path)) == 2


async def test_header_without_end_is_stored_all_the_same(context, tmp_path):
    line = b"x" * 998 + b"\r\n"
    content = streamed(*[line * 100] * 12, prefix=b"")
    [outcome] = await deliver(context, tmp_path, make_parcel(content=content))
    assert isinstance(outcome, Delivered)
    [text] = stored(tmp_path)
    assert text.endswith((line * 1200).replace(b"\r\n", b"\n"))


async def test_folders_are_private(context, tmp_path):
    folder = tmp_path / "a" / "b"
    await deliver(context, folder, make_parcel())
    for path in (folder.parent, folder, folder / "new", folder / "tmp", folder / "cur"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    [file] = (folder / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("folder", ["", "a/../b", "..", "a\0b"])
async def test_unsafe_folder_is_refused(folder, context):
    outcomes = await deliver(context, folder, make_parcel("a@example.org", "b@example.org"))
    assert [(type(outcome), outcome.cause) for outcome in outcomes] == [(Deferred, Cause.LOCAL)] * 2


@pytest.mark.parametrize("streaming", [False, True])
async def test_symbolic_links_within_the_mailbox_are_not_followed(streaming, context, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "new").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(elsewhere)
    for name in ("box", "link"):
        content = streamed(b"S: x\r\n\r\n") if streaming else None
        [outcome] = await deliver(context, tmp_path / name, make_parcel(content=content))
        assert isinstance(outcome, Deferred)
        assert outcome.cause is Cause.LOCAL
        assert outcome.reply.enhanced_text == "4.3.0"
        assert name in outcome.detail or "new" in outcome.detail
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "open", "mkdir"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.ENOSPC, "4.3.1"),
        (errno.EDQUOT, "4.2.2"),
        (errno.EACCES, "4.3.0"),
        (errno.EIO, "4.3.0"),
        (errno.EROFS, "4.3.0"),
    ],
)
async def test_errors_of_the_disk_defer_and_leave_nothing(
    error, code, call, streaming, context, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, fail)
    content = streamed(b"S: x\r\n\r\n", b"y\r\n") if streaming else None
    [outcome] = await deliver(context, tmp_path / "box", make_parcel(content=content))
    monkeypatch.undo()
    assert isinstance(outcome, Deferred)
    assert outcome.cause is Cause.LOCAL
    assert outcome.reply.enhanced_text == code
    assert os.strerror(error) in outcome.detail
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_one_recipient_without_room_does_not_hinder_the_others(context, tmp_path, monkeypatch):
    publish = MaildirFile.publish
    calls = []

    def sometimes(self):
        calls.append(self)
        if len(calls) % 2:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        publish(self)

    monkeypatch.setattr(MaildirFile, "publish", sometimes)
    for content in (None, streamed(b"S: x\r\n\r\n")):
        parcel = make_parcel("a@example.org", "b@example.org", content=content)
        outcomes = await deliver(context, tmp_path, parcel)
        assert [type(outcome) for outcome in outcomes] == [Deferred, Delivered]


def test_file_whose_folder_cannot_be_made_durable_is_taken_back(tmp_path, monkeypatch):
    file = MaildirFile(tmp_path, "name")
    file.open()
    file.write(b"x")
    fsync = os.fsync

    def fail_for_folder(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "I/O error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folder)
    with pytest.raises(OSError, match="I/O error"):
        file.publish()
    file.close()
    file.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_cannot_be_cleared_away_is_left_for_the_reader(tmp_path):
    file = MaildirFile(tmp_path, "name")
    file.open()
    (tmp_path / "tmp" / "name").unlink()
    file.close()
    assert list((tmp_path / "new").iterdir()) == []


async def test_folder_that_another_process_makes_meanwhile_is_used(context, tmp_path, monkeypatch):
    from pathlib import Path

    mkdir = Path.mkdir

    def race(self, *args):
        mkdir(self, *args)
        mkdir(self, *args)

    monkeypatch.setattr(Path, "mkdir", race)
    [outcome] = await deliver(context, tmp_path / "box", make_parcel())
    assert isinstance(outcome, Delivered)


@pytest.mark.parametrize("step", range(1, 12))
async def test_cancel_while_streaming_leaves_no_unknown_file(step, context, tmp_path, monkeypatch):
    """Cancelled at the n-th thread call or read: what is in `new` is told by `dot_sent`."""
    connection = await make_transport(Route(TransportKind.MAILDIR, str(tmp_path)), context).connect()
    count = 0
    scope = trio.CancelScope()

    def tick():
        nonlocal count
        count += 1
        if count == step:
            trio.from_thread.run_sync(scope.cancel)

    for name in ("open", "write", "publish"):
        method = getattr(MaildirFile, name)

        def wrapped(self, *args, method=method):
            method(self, *args)
            tick()

        monkeypatch.setattr(MaildirFile, name, wrapped)
    parcel = make_parcel("a@example.org", "b@example.org", content=streamed(b"S: x\r\n\r\n", b"y\r\n"))
    outcomes = None
    with scope:
        outcomes = await connection.deliver(parcel)
    files = stored(tmp_path)
    if outcomes is None:
        assert connection.dot_sent == bool(files)
    else:
        assert len(files) == 2
    assert list((tmp_path / "tmp").iterdir()) == []
    monkeypatch.undo()
    assert [type(outcome) for outcome in await connection.deliver(make_parcel())] == [Delivered]


async def test_message_in_memory_is_reported_even_when_cancelled_meanwhile(context, tmp_path, monkeypatch):
    connection = await make_transport(Route(TransportKind.MAILDIR, str(tmp_path)), context).connect()
    scope = trio.CancelScope()
    publish = MaildirFile.publish

    def cancel_then_publish(self):
        trio.from_thread.run_sync(scope.cancel)
        publish(self)

    monkeypatch.setattr(MaildirFile, "publish", cancel_then_publish)
    with scope:
        outcomes = await connection.deliver(make_parcel("a@example.org", "b@example.org"))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered]
    assert len(stored(tmp_path)) == 2


async def test_progress_grows_with_each_block(context, tmp_path):
    connection = await make_transport(Route(TransportKind.MAILDIR, str(tmp_path)), context).connect()
    before = connection.progress
    await connection.deliver(make_parcel(content=streamed(b"S: x\r\n\r\n", b"y\r\n", b"z\r\n")))
    assert connection.progress >= before + 3


def test_names_are_unique_and_safe():
    make = partial(unique_name, random=random.Random(1), hostname="a/b:c")
    names = {make(time=1_750_000_000.25) for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert name.startswith(f"1750000000.M250000P{os.getpid()}R")
        assert name.endswith(".a\\057b\\072c")
        assert "/" not in name
        assert ":" not in name


def test_line_ends_are_converted_however_the_pieces_lie():
    text = b"\r\na\r\n\r\r\nb\rc\nd\r"
    for size in range(1, len(text) + 1):
        ends = LineEnds()
        pieces = [ends.convert(text[start : start + size]) for start in range(0, len(text), size)]
        assert b"".join(pieces) + ends.finish() == text.replace(b"\r\n", b"\n")
        assert ends.finish() == b""


def test_relative_folders_are_fine():
    assert str(check_folder("var/mail/ann")) == "var/mail/ann"
