"""Journal reports of messages, in a whole server."""

from __future__ import annotations

import email
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trustme

from elemta.config import SettingsError
from elemta.mail import Identity
from elemta.plugin.api import EnvelopeView, HeaderView, MessageView, SessionView
from elemta.testing import Letter, Mta, open_mta

HERE = str(Path(__file__).with_name("plugin.py"))
TO = "journal@archive.example"
SERVER = "192.0.2.1:25"
REPORTS = pytest.mark.plugin(config={"to": TO, "server": SERVER}, timeout="30s")
ARCHIVE = pytest.mark.mta("[domains]\nrelay = ['archive.example']")


def copies(mta: Mta) -> list[Letter]:
    return [each for each in mta.delivered if each.recipients == (TO,)]


def read(report: Letter) -> tuple[str, bytes]:
    """Text of the report, and the message in it as it stands there."""
    boundary = b"\r\n--" + report.message.get_boundary().encode()  # type: ignore[union-attr]
    _, text, attached, _ = report.content.split(boundary)
    return text.partition(b"\r\n\r\n")[2].decode(), attached.partition(b"\r\n\r\n")[2]


@REPORTS
@ARCHIVE
async def test_a_report_has_the_message_unchanged_and_its_envelope(mta: Mta) -> None:
    mta.listen_itself(SERVER)
    content = (
        b"From: a@client.example\r\nTo: Bob <BOB@example.org>\r\nMessage-ID: <1@x>\r\nDate: x\r\n"
        b"Subject: x\r\n\r\n.\r\n..dots\r\n--journal-\r\nlast line"
    )
    sent = await mta.send(["bob@example.org", "hidden@example.org"], content=content)
    (report,) = copies(mta)
    assert report.sender == ""
    text, attached = read(report)
    assert attached == content + b"\r\n"
    assert text.splitlines()[:3] == [
        "Sender: alice@client.example",
        "Message-ID: <1@x>",
        "Direction: incoming",
    ]
    assert text.splitlines()[-2:] == ["Recipient: bob@example.org", "Bcc: hidden@example.org"]
    assert f"Queue-ID: {sent.message}" in text
    inner = report.message.get_payload()[1]  # type: ignore[index]
    assert inner.get_content_type() == "message/rfc822"  # type: ignore[union-attr]
    assert len(mta.delivered) == 2  # the message to both, and the report
    assert mta.counts() == {"reported": 1, "not reported": 1}


@REPORTS
@ARCHIVE
async def test_octets_beyond_ascii_and_lines_that_are_too_long_come_through(mta: Mta) -> None:
    mta.listen_itself(SERVER)
    for body in ("ümlaut\r\n".encode(), b"x" * 998 + b"\r\n"):
        await mta.send(content=b"Subject: x\r\n\r\n" + body)
        assert read(copies(mta)[-1])[1].endswith(body)


@REPORTS
@ARCHIVE
async def test_who_forges_the_mark_is_reported_all_the_same(mta: Mta) -> None:
    mta.listen_itself(SERVER)
    await mta.send(headers={"X-Elemta-Journal": "0" * 64})
    await mta.send(TO, sender="x@client.example")  # it gets there anyway
    assert len(copies(mta)) == 2
    assert mta.counts()["reported"] == 1


@pytest.mark.mta("[domains]\nrelay = ['archive.example']")
@pytest.mark.plugin(config={"to": TO, "server": SERVER}, timeout="30s", on_error="defer")
async def test_without_a_copy_nothing_is_accepted(mta: Mta) -> None:
    mta.failures_allowed = True
    mta.server.network.refuse("192.0.2.1", 25)
    sent = await mta.send()
    sent.assert_deferred()
    assert mta.delivered == []
    assert "192.0.2.1:25 cannot be reached" in mta.failures[0]


@pytest.mark.plugin(
    config={"to": TO, "server": "mx.far.example:25", "sender": "boss@example.org"}, timeout="30s"
)
async def test_a_refusal_of_the_archive_is_told_with_its_words(mta: Mta) -> None:
    mta.failures_allowed = True
    mta.remote("far.example").reply("RCPT", "550 5.7.1 Not for you")
    (await mta.send()).assert_deferred()
    assert "the archive answered RCPT with 550 5.7.1 Not for you" in mta.failures[0]


CONDITIONS = {"to": TO, "server": SERVER, "direction": ["outgoing"], "domains": ["example.org"]}


@pytest.mark.plugin(config=CONDITIONS, timeout="30s")
@ARCHIVE
async def test_conditions_say_what_is_reported(mta: Mta) -> None:
    mta.listen_itself(SERVER)
    await mta.send()
    await mta.send("x@far.example", account="bob@client.example")
    assert copies(mta) == []
    await mta.send("x@far.example", account="bob@example.org", sender="bob@example.org")
    (report,) = copies(mta)
    assert "Account: bob@example.org\r\n" in read(report)[0]
    assert "Direction: outgoing\r\n" in read(report)[0]


@pytest.mark.plugin(config={"to": TO, "server": SERVER, "sample": 0.5}, timeout="30s")
@ARCHIVE
async def test_a_share_of_the_messages_is_reported(mta: Mta) -> None:
    mta.listen_itself(SERVER)
    for _ in range(40):
        await mta.send()
    assert 8 <= len(copies(mta)) <= 32


async def test_the_server_of_the_archive_may_be_another(autojump_clock: object) -> None:
    async with open_mta({"path": HERE, "config": {"to": TO, "server": "mx.far.example:25"}}) as mta:
        mta.remote("far.example")
        await mta.send()
        (report,) = copies(mta)
        assert report.domain == "far.example"


# --- The report ---------------------------------------------------------------------------------------------


def record_module() -> Any:
    """That of the plugin, as a server has loaded it."""
    from elemta.config import parse_config
    from elemta.plugin import load_plugin

    text = f'hostname = "x.example"\n[[plugins]]\nname = "journal"\npath = "{Path(HERE).parent}"\n'
    (entry,) = parse_config(text + f'[plugins.config]\nto = "{TO}"', "test").plugins
    load_plugin(entry)
    return sys.modules["elemta_plugin_journal.record"]


NOW = 1_767_182_400.0


@pytest.mark.parametrize(
    ("content", "eight_bit", "as_it_is"),
    [
        (b"a\r\nb", False, True),
        (b"", False, True),
        ("ü\r\n".encode(), True, True),
        (b"x" * 998 + b"\r\n", False, True),
        (b"x" * 999 + b"\r\n", False, False),
        (b"a\nb\r\n", False, False),
        (b"a\rb\r\n", False, False),
        (b"a\r", False, False),
        (b"a\0b\r\n", False, False),
    ],
)
def test_the_form_of_a_message_is_seen_however_it_is_cut(
    content: bytes, eight_bit: bool, as_it_is: bool
) -> None:
    record = record_module()
    for size in (1, 2, 3, 500, 5000):
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        form = record.form_of(pieces)
        assert (form.eight_bit, form.as_it_is) == (eight_bit, as_it_is), size


def test_what_is_no_text_is_attached_as_a_file() -> None:
    record = record_module()
    content = bytes(range(256)) * 300
    view = MessageView(len(content), (HeaderView("Subject", b" x\r\n\ty"),), content, id="1")
    session = SessionView("s", "mx", "mx", "192.0.2.9", identity=Identity("ann", "PLAIN"))
    envelope = EnvelopeView("", ("bob@example.org",))
    facts = record.record_of(session, envelope, view, NOW)
    pieces = record.report(
        facts, record.form_of(view.chunks()), view.chunks(), hostname="mx.example.org", to=TO, key=b"k"
    )
    parsed = email.message_from_bytes(b"".join(pieces))
    text, attached = cast("list[Message]", parsed.get_payload())
    assert attached.get_payload(decode=True) == content
    assert "Sender: <>\r\n" in text.get_payload()
    assert facts.subject == "x\ty".replace("\t", " ")
    message = MessageView(0, tuple(HeaderView(name, value.encode()) for name, value in parsed.items()))
    assert record.is_report(b"k", message)
    assert not record.is_report(b"other", message)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "to"),
        ({"to": ""}, "to"),
        ({"to": "nobody"}, "to is 'nobody'"),
        ({"to": TO, "sample": 0}, "sample"),
        ({"to": TO, "direction": ["up"]}, "not one of incoming"),
    ],
)
async def test_mistaken_settings_are_refused(
    autojump_clock: object, config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        async with open_mta({"path": HERE, "config": config}):
            pass


@REPORTS
@ARCHIVE
@pytest.mark.parametrize("to", ["(" * 3000, "a:" * 3000, "<" * 3000, '"' * 3001])
async def test_a_field_that_no_parser_likes_is_reported_all_the_same(mta: Mta, to: str) -> None:
    mta.listen_itself(SERVER)
    folded = "\r\n ".join(to[start : start + 900] for start in range(0, len(to), 900))
    content = f"From: a@client.example\r\nTo: {folded} bob@example.org\r\n\r\nHello\r\n".encode()
    (await mta.send("bob@example.org", content=content)).assert_accepted()
    (report,) = copies(mta)
    assert "Recipient: bob@example.org" in read(report)[0]


@REPORTS
@ARCHIVE
@pytest.mark.parametrize(
    ("to", "named"),
    [
        ("Bob <BOB@example.org>", True),
        ("friends:carol@x.example,bob@example.org;", True),
        ("notbob@example.org", False),
        ("bob@example.org.example", False),
    ],
)
async def test_who_is_not_in_the_header_is_bcc(mta: Mta, to: str, named: bool) -> None:
    mta.listen_itself(SERVER)
    await mta.send("bob@example.org", content=f"From: a@client.example\r\nTo: {to}\r\n\r\nx\r\n".encode())
    (report,) = copies(mta)
    assert f"{'Recipient' if named else 'Bcc'}: bob@example.org" in read(report)[0].splitlines()


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for that name with its key, in one file, and the authority behind it in another."""
    authority = trustme.CA()
    ours, trusted = folder / "ours.pem", folder / "trusted.pem"
    pair = authority.issue_cert(name)
    ours.write_bytes(b"".join(each.bytes() for each in (pair.private_key_pem, *pair.cert_chain_pems)))
    authority.cert_pem.write_to_path(str(trusted))
    return ours, trusted


@asynccontextmanager
async def archiving(folder: Path, name: str = "archive.example", **config: Any) -> AsyncIterator[Mta]:
    """A server that is its own archive, `archive.example:25`, with a certificate for that name."""
    ours, trusted = write_certificate(folder, name)
    settings = f"""
[[listeners]]
name = "mx"
address = "192.0.2.1:25"
role = "mx"
tls = "starttls"
[tls]
certificate = "{ours}"
key = "{ours}"
[domains]
relay = ["archive.example"]
"""
    chosen = {"to": TO, "server": "archive.example:25", "ca_file": str(trusted), **config}
    async with open_mta({"path": HERE, "config": chosen, "timeout": "30s"}, settings=settings) as mta:
        mta.listen_itself("archive.example:25")
        yield mta


@pytest.mark.parametrize(
    ("level", "name", "why"),
    [
        ("opportunistic", "archive.example", None),
        ("opportunistic", "another.example", None),
        ("required", "another.example", None),
        ("verified", "archive.example", None),
        ("verified", "another.example", "no TLS with the archive"),
        ("off", "archive.example", None),
    ],
)
async def test_reports_go_under_tls_to_whom_they_have_to(
    tmp_path: Path, autojump_clock: object, level: str, name: str, why: str | None
) -> None:
    async with archiving(tmp_path, name, starttls=level) as mta:
        mta.failures_allowed = why is not None
        sent = await mta.send()
        if why is not None:
            sent.assert_deferred()
            assert why in mta.failures[0]
            assert copies(mta) == []
            return
        (report,) = copies(mta)
        received = report.headers("Received")[0]
        assert ("with ESMTPS" in received) == (level != "off")


async def test_a_certificate_that_is_not_trusted_is_none(tmp_path: Path, autojump_clock: object) -> None:
    (tmp_path / "other").mkdir()
    _, stranger = write_certificate(tmp_path / "other", "archive.example")
    async with archiving(tmp_path, starttls="verified", ca_file=str(stranger)) as mta:
        mta.failures_allowed = True
        (await mta.send()).assert_deferred()
        assert copies(mta) == []


@pytest.mark.parametrize("level", ["required", "verified"])
async def test_without_starttls_nothing_is_handed_in_where_that_is_needed(
    autojump_clock: object, level: str
) -> None:
    config = {"to": TO, "server": "mx.far.example:25", "starttls": level}
    async with open_mta({"path": HERE, "config": config, "timeout": "30s"}) as mta:
        mta.failures_allowed = True
        remote = mta.remote("far.example")
        (await mta.send()).assert_deferred()
        assert f"the archive offers no STARTTLS, which is {level}" in mta.failures[0]
        assert remote.messages == []


class Broken:
    """An archive whose TLS does not work, and what it was told on each connection."""

    def __init__(self, behind: bytes) -> None:
        self.behind = behind
        """What comes behind the answer to STARTTLS."""
        self.heard: list[list[bytes]] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        lines: list[bytes] = []
        self.heard.append(lines)
        await stream.send_all(b"220 archive.example\r\n")
        answers = {
            b"EHLO": b"250-archive.example\r\n250 STARTTLS\r\n",
            b"STARTTLS": b"220 go on\r\n" + self.behind,
            b"DATA": b"354 go on\r\n",
        }
        buffer, content = b"", False
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(65536):
                buffer += data
                while b"\r\n" in buffer:
                    line, _, buffer = buffer.partition(b"\r\n")
                    if content and line != b".":
                        continue
                    content = line == b"DATA"
                    verb = line.split(b" ")[0]
                    lines.append(verb)
                    await stream.send_all(answers.get(verb, b"250 ok\r\n"))
                    if verb == b"STARTTLS":
                        await stream.aclose()
                        return


@pytest.mark.parametrize("behind", [b"", b"250 PIPELINED\r\n", b"this is no TLS"])
@pytest.mark.parametrize("level", ["opportunistic", "required"])
async def test_tls_that_does_not_work_is_left_out_only_where_it_may_be(
    autojump_clock: object, level: str, behind: bytes
) -> None:
    broken = Broken(behind)
    config = {"to": TO, "server": "archive.example:25", "starttls": level}
    async with open_mta({"path": HERE, "config": config, "timeout": "30s"}) as mta:
        mta.listen("archive.example:25", broken.serve)
        mta.failures_allowed = level == "required"
        sent = await mta.send()
        if level == "required":
            sent.assert_deferred()
            assert broken.heard == [[b"EHLO", b"STARTTLS"]]
            return
        sent.assert_accepted()
        assert broken.heard == [
            [b"EHLO", b"STARTTLS"],
            [b"EHLO", b"MAIL", b"RCPT", b"DATA", b".", b"QUIT"],
        ]
        assert mta.counts() == {"reported": 1, "without TLS": 1}


async def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path, autojump_clock: object) -> None:
    config = {"to": TO, "server": SERVER, "ca_file": str(tmp_path / "none")}
    async with open_mta({"path": HERE, "config": config, "timeout": "30s"}) as mta:
        mta.failures_allowed = True
        mta.listen_itself(SERVER)
        (await mta.send()).assert_deferred()
        assert "No such file" in mta.failures[0]
