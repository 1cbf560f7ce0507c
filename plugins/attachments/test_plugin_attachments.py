"""What is attached, in a whole server: rules, disguises, archives, and what is to stall or fill the server."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import tarfile
import time
import zipfile
from email.message import EmailMessage

import pytest

from elemta.testing import Mta
from elemta.testing.kit import OWN

MZ = b"MZ" + b"\0" * 58 + (128).to_bytes(4, "little") + b"\0" * 64


def message(*files: tuple[str, bytes], subtype: str = "octet-stream") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["Subject"] = "a@client.example", "files"
    made.set_content("see there\n")
    for name, content in files:
        made.add_attachment(content, maintype="application", subtype=subtype, filename=name)
    return made


def raw(header: str, body: str = "x") -> bytes:
    return f"From: a@client.example\r\n{header}\r\n\r\n{body}\r\n".encode()


def zipped(*files: tuple[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return output.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return output.getvalue()


def encrypted() -> bytes:
    """Flagged as such in both headers, as a password makes it."""
    data = bytearray(zipped(("a.txt", b"x")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


async def test_mail_without_anything_dangerous_passes_unchanged(mta: Mta) -> None:
    for content in (
        None,
        message(("a.pdf", b"%PDF"), ("b.zip", zipped(("c/d.txt", b"x")))),
        raw("Subject: MZ", "MZ is no program"),
    ):
        (await mta.send(content=content)).assert_accepted()
    assert len(mta.delivered) == 3
    assert mta.decisions() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (message(("a.exe", b"x")), "a.exe: names that end in .exe"),
        (message(("a.pdf.EXE. .", b"x")), "names that end in .exe"),
        (message(("a\u202egpj.sc\u200br", b"x")), "a?gpj.sc?r: names that end in .scr"),
        (message(("a.txt", MZ)), "a.txt: a program for Windows"),
        (message(("a.bin", b"\x7fELF\2\1\1")), "a program for Linux"),
        (
            raw(
                'Content-Type: application/x; name="=?utf-8?b?YS5qcw==?="\r\nContent-Disposition: attachment; filename=a.txt'
            ),
            ".js",
        ),
        (
            raw(
                "Content-Type: text/plain\r\nContent-Disposition: inline; filename*0=a.; filename*1=vb; filename*2=s"
            ),
            ".vbs",
        ),
        (raw("Content-Type: message/partial; id=x; number=1; total=2"), "type message/partial"),
        (raw("Content-Type: text/plain", "hello\r\nbegin 644 a.bat\r\n#0V%T\r\n`\r\nend"), "a.bat"),
        (raw("Content-Type: message/rfc822", 'Content-Type: x/y; name="a.pif"\r\n\r\nx'), ".pif"),
        (
            raw(
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64",
                base64.b64encode(b"Content-Disposition: attachment; filename=a.lnk\r\n\r\nx").decode(),
            ),
            ".lnk",
        ),
        (
            raw(
                "Content-Type: x/y\r\nContent-Transfer-Encoding: base64",
                base64.b64encode(MZ).decode()[:30] + "\r\n!!\r\n" + base64.b64encode(MZ).decode()[30:],
            ),
            "program",
        ),
        (message(("a.zip", zipped(("b/c.exe", b"x")))), "b/c.exe: names"),
        (message(("a.dat", zipped(("b.zip", zipped(("c.txt", MZ)))))), "c.txt: a program"),
        (message(("a.tgz", gzip.compress(tarred("b.hta", b"x")))), "b.hta"),
        (message(("a.js.gz", gzip.compress(b"") + gzip.compress(b"x"))), "a.js: names"),
        (message(("a.txt.gz", gzip.compress(b"MZ") + gzip.compress(MZ[2:]))), "a.txt: a program"),
        (message(("a.bz2", bz2.compress(MZ))), "a: a program"),
        (message(("a.exe.xz", lzma.compress(b"x"))), "a.exe: names"),
    ],
)
async def test_what_is_dangerous_is_rejected_in_any_disguise(
    mta: Mta, content: bytes | EmailMessage, reason: str
) -> None:
    sent = await mta.send(content=content)
    sent.assert_rejected("Attachment refused: ", code=550)
    assert reason in mta.decisions()[0].reason
    assert mta.counts() == {"reject": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (message(("a.zip", encrypted())), "a.txt: encrypted"),
        (message(("a.zip", zipped(("b", b"x"))[:-10])), "a zip without an end"),
        (message(("a.gz", gzip.compress(b"x" * 99999)[:-20])), "broken archive"),
        (raw("Content-Type: multipart/mixed"), "a multipart without a boundary"),
        (raw("Content-Type: text/plain\r\nContent-Type: application/x"), "two fields content-type"),
        (raw("".join(f"X-{n}: {'x' * 900}\r\n" for n in range(80)) + "X: y"), "a header of more than"),
    ],
)
async def test_what_cannot_be_looked_through_is_quarantined(mta: Mta, content: bytes, reason: str) -> None:
    (await mta.send(content=content)).assert_accepted()
    (held,) = mta.queue
    assert held.state == "held"
    assert reason in held.reason


def nested(depth: int) -> bytes:
    lines = ["From: a@client.example", "Content-Type: multipart/mixed; boundary=b0"]
    for level in range(1, depth):
        lines += ["", f"--b{level - 1}", f"Content-Type: multipart/mixed; boundary=b{level}"]
    return "\r\n".join([*lines, "", f"--b{depth - 1}", "", "x", ""]).encode()


def matryoshka(depth: int) -> bytes:
    data = b"x"
    for level in range(depth):
        data = zipped((f"{level}.zip" if level else "a.txt", data))
    return data


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (nested(9), "deeper than 8"),
        (nested(3000), "deeper than 8"),
        (raw("Content-Type: message/rfc822", "Content-Type: message/rfc822\r\n\r\n" * 3000), "deeper than 8"),
        (message(("a.zip", matryoshka(9))), "archives in archives"),
        (raw("Content-Type: multipart/mixed; boundary=b", "--b\r\n\r\n" * 5000), "more than 500 parts"),
        (message(("a.gz", gzip.compress(b"\0" * (65 * 1024 * 1024), 1))), "more is packed in it"),
        (
            message(
                ("a.gz", gzip.compress(gzip.compress(gzip.compress(b"\0" * (65 * 1024 * 1024), 9), 9), 9))
            ),
            "more is packed in it",
        ),
        (message(("a.zip", zipped(*((f"{n}.txt", b"") for n in range(2001))))), "too many files"),
        (message(("a.zip", zipped(*((f"{n}/", b"") for n in range(2001))))), "too many files"),
    ],
)
async def test_bombs_are_quarantined_before_they_go_off(mta: Mta, content: bytes, reason: str) -> None:
    began = time.process_time()
    (await mta.send(content=content)).assert_accepted()
    assert reason in mta.queue[0].reason
    assert time.process_time() - began < 2


async def test_depth_at_the_limit_is_fine(mta: Mta) -> None:
    for content in (nested(8), message(("a.zip", matryoshka(8)))):
        (await mta.send(content=content)).assert_accepted()
    assert mta.queue == []


async def test_many_short_lines_take_bounded_time(mta: Mta) -> None:
    began = time.process_time()
    (await mta.send(content=b"From: a@b.example\r\n\r\n" + b"\r\n" * 1_000_000)).assert_accepted()
    assert time.process_time() - began < 8


@pytest.mark.plugin(config={"verdict": "tag", "extensions": ["pdf"], "size": "1KiB", "header": "X-Warning"})
async def test_messages_may_be_marked(mta: Mta) -> None:
    made = message(("a.pdf", b"x"))
    made["X-Warning"] = "none at all"
    await mta.send(content=made)
    await mta.send(content=message(("a.jpeg", b"x" * 2000)))
    await mta.send(content=message(("a.jpeg", b"x" * 900)))
    assert [each.headers("X-Warning") for each in mta.delivered] == [
        ["a.pdf: names that end in .pdf"],
        ["a.jpeg: larger than 1024 octets"],
        [],
    ]


@pytest.mark.plugin(config={"opaque": "hold", "types": ["IMAGE/*"], "archives": True, "programs": False})
async def test_other_verdicts_and_rules(mta: Mta) -> None:
    await mta.send(content=message(("a.7z", b"7z\xbc\xaf\x27\x1c....")))
    assert "cannot be looked into" in mta.queue[0].reason
    (await mta.send(content=raw("Content-Type: image/png"))).assert_rejected("type image/png")
    (await mta.send(content=message(("a.txt", MZ)))).assert_accepted()


async def test_our_own_mail_is_not_looked_at(mta: Mta) -> None:
    (await mta.send(content=message(("a.exe", MZ)), peer=OWN)).assert_accepted()
    (await mta.send(content=message(("a.exe", MZ)), account="bob@example.org")).assert_accepted()
    assert len(mta.delivered) == 2


@pytest.mark.plugin(config={"archives": False, "of": "own"})
async def test_or_only_ours_and_no_archives(mta: Mta) -> None:
    (await mta.send(content=message(("a.exe", MZ)))).assert_accepted()
    (await mta.send(content=message(("a.zip", zipped(("b.exe", MZ)))), peer=OWN)).assert_accepted()
    (await mta.send(content=message(("a.exe", MZ)), peer=OWN)).assert_rejected("a.exe")


async def test_a_hostile_name_is_shown_on_one_line(mta: Mta) -> None:
    content = raw("Content-Disposition: attachment; filename*=utf-8''a%0d%0a250%20ok%1b%5b2J.exe")
    sent = await mta.send(content=content)
    sent.assert_rejected("a??250 ok?[2J.exe: names that end in .exe")
