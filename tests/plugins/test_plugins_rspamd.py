"""Rspamd: what it is asked, what becomes of what it says, and what an odd server costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from shipped_bed import MESSAGE, PEER, Shipped, entry_of, serving

from elemta.plugin.api import HttpAnswer
from elemta.testing import HttpPeer, MemoryStream

SERVICE = "192.0.2.99"
ZONE = {
    "example.org": {"MX": [(10, "in.example.org")]},
    "in.example.org": {"A": ["192.0.2.25"]},
    "200.2.0.192.in-addr.arpa": {"PTR": ["client.example.net."]},
    "client.example.net": {"A": [PEER]},
}


def saying(**answer: Any) -> HttpPeer:
    return HttpPeer(lambda request: HttpAnswer(200, (), json.dumps(answer).encode()))


def rspamd(peer: HttpPeer | None = None, entry: dict[str, Any] | None = None, **config: Any):
    return serving(
        entry_of("rspamd", {"url": f"http://{SERVICE}:11333", **config}, **(entry or {})), zone=ZONE
    )


async def send(bed: Shipped, peer: HttpPeer, message: str = MESSAGE) -> str:
    bed.network.listen(SERVICE, 11333, peer.serve)
    return await bed.dial().send(message)


async def test_it_is_asked_with_all_that_is_known(autojump_clock):
    peer = saying(action="no action", score=0.5)
    async with rspamd() as bed:
        assert (await send(bed, peer)).startswith("250")
        (request,) = peer.requests
        assert (request.method, request.target) == ("POST", "/checkv2")
        assert request.body.endswith(MESSAGE.encode())
        said = dict(request.headers)
        assert said["ip"] == PEER
        assert said["helo"] == "client.example"
        assert said["hostname"] == "client.example.net"
        assert (said["from"], said["rcpt"]) == ("s@example.net", "a@example.org")
        assert said["mta-name"] == "mx.example.org"
        assert "password" not in said
        assert bed.metrics() == {"no action": 1}
        assert b"X-Spam" not in await bed.stored()


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("greylist", "250"),
        ("my own action", "250"),
        ("soft reject", "451 4.7.1 Try again later"),
        ("reject", "554 5.7.1 Spam message rejected"),
        ("discard", "250"),
        ("quarantine", "250"),
    ],
)
async def test_each_action_has_its_reply(action: str, reply: str, autojump_clock):
    async with rspamd() as bed:
        assert (await send(bed, saying(action=action, score=20, required_score=15))).startswith(reply)
        await trio.sleep(1)
        totals = await bed.running.spool.totals()
        assert totals.held == (action == "quarantine")
        assert bed.failures() == []


async def test_its_own_words_are_for_the_client(autojump_clock):
    async with rspamd() as bed:
        answer = {"action": "soft reject", "messages": {"smtp_message": "Greylisted,\r\ntry later"}}
        assert await send(bed, saying(**answer)) == "451 4.7.1 Greylisted,??try later", bed.failures()


async def test_an_action_can_mean_something_else(autojump_clock):
    async with rspamd(reject="tag", text="No") as bed:
        assert (await send(bed, saying(action="reject", score=20))).startswith("250")
        assert b"\r\nX-Spam: Yes\r\n" in await bed.stored()


async def test_the_header_is_changed_as_it_wants(autojump_clock):
    answer = {
        "action": "rewrite subject",
        "score": 7.5,
        "subject": "*** SPAM *** x",
        "dkim-signature": "v=1; a=rsa-sha256;\r\n\tb=abc",
        "milter": {
            "remove_headers": {"X-Gone": 0, "X-Some": [1, -1], "X-Never": 5},
            "add_headers": {
                "X-Top": {"value": "top", "order": 1},
                "X-Many": ["one", {"value": "two\n  more", "order": -1}],
                "X-Evil": "a\r\nInjected: yes\r\n\r\nbody",
            },
        },
    }
    message = "X-Gone: 1\r\nX-Spam: No\r\nX-Some: 1\r\nX-Some: 2\r\nX-Some: 3\r\nX-Gone: 2\r\n" + MESSAGE
    async with rspamd() as bed:
        assert (await send(bed, saying(**answer), message)).startswith("250")
        head, _, body = (await bed.stored()).partition(b"\r\n\r\n")
        assert body == b"body\r\n"
        assert b"\r\nDKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=abc\r\nX-Top: top\r\nX-Spam: Yes\r\n" in head
        assert b"\r\nX-Some: 2\r\nFrom: s@example.net\r\nSubject: *** SPAM *** x\r\n" in head
        assert head.endswith(
            b"\r\nX-Many: one\r\nX-Many: two\r\n  more\r\nX-Evil: a\r\n\tInjected: yes\r\n\tbody"
        )
        assert b"X-Gone" not in head


async def test_the_mark_of_a_stranger_is_taken_out(autojump_clock):
    async with rspamd() as bed:
        assert (await send(bed, saying(action="no action"), "X-Spam: No\r\n" + MESSAGE)).startswith("250")
        assert b"X-Spam" not in await bed.stored()


async def test_sender_and_recipients_are_changed(autojump_clock):
    wanted = {
        "change_from": "<new@example.net>",
        "add_rcpt": ["b@example.org"],
        "del_rcpt": "<a@example.org>",
    }
    async with rspamd() as bed:
        assert (await send(bed, saying(action="no action", milter=wanted))).startswith("250")
        (accepted,) = [each for each in bed.running.events if type(each).__name__ == "MessageAccepted"]
        assert (accepted.sender, accepted.recipients) == ("new@example.net", ("b@example.org",))


async def test_no_changes_where_they_are_not_wanted(autojump_clock):
    wanted = {"change_from": "new@example.net", "add_headers": {"X-A": "b"}}
    async with rspamd(make_changes=False) as bed:
        assert (await send(bed, saying(action="add header", milter=wanted))).startswith("250")
        stored = await bed.stored()
        assert b"X-A" not in stored
        assert b"X-Spam: Yes" in stored


async def test_a_large_message_is_not_checked(autojump_clock):
    async with rspamd(max_size="1KiB") as bed:
        peer = saying(action="reject")
        assert (await send(bed, peer, MESSAGE + "x" * 900 + "\r\n" + "y" * 900 + "\r\n")).startswith("250")
        assert peer.requests == []
        assert bed.metrics() == {"too large": 1}


async def test_a_password_and_a_socket(autojump_clock, tmp_path: Path):
    (tmp_path / "password").write_text("secret\n")
    peer = saying(action="no action")
    async with rspamd(password_file=str(tmp_path / "password"), socket="/run/rspamd.sock") as bed:
        bed.network.listen_local("/run/rspamd.sock", peer.serve)
        assert (await bed.dial().send()).startswith("250")
        assert peer.requests[0].header("password") == "secret"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"action": 5}', b"{}", b'{"action": "reject", "score": "x"}',
        b'{"action": "reject", "score": NaN}', b'{"action": "reject", "score": 1e999}', b'{"error": "out of order"}',
        b'{"action": "no action", "milter": []}', b'{"action": "no action", "milter": {"add_headers": {"a b": "c"}}}',
        b'{"action": "no action", "milter": {"add_headers": {"A": 5}}}',
        b'{"action": "no action", "milter": {"remove_headers": {"A": "x"}}}',
        b'{"action": "no action", "milter": {"add_rcpt": [7]}}', b'{"action": "no action", "symbols": 3}',
        b"[" * 100_000, b'{"action": "no action", "milter": {"add_headers": {"A": "%s"}}}' % (b"x" * 9000),
        b'{"action": "no action"' + b" " * (1 << 20) + b"}",
    ],
    ids=lambda body: repr(body[:60]),
)  # fmt: skip
async def test_what_is_no_answer_gives_the_declared_verdict(body: bytes, autojump_clock):
    async with rspamd() as bed:
        assert (await send(bed, HttpPeer(lambda request: HttpAnswer(200, (), body)))).startswith("451 4.3.0")
        assert len(bed.failures()) == 1


async def hang_up(stream: MemoryStream) -> None:
    stream.reset()
    await trio.lowlevel.checkpoint()


async def endless(stream: MemoryStream) -> None:
    try:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1000\r\n" + b" " * 4096 + b"\r\n")
    except trio.BrokenResourceError:
        pass


async def dripping(stream: MemoryStream) -> None:
    try:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(1)
    except trio.BrokenResourceError:
        pass


async def shell(stream: MemoryStream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH_9\r\n")
    await trio.sleep_forever()


@pytest.mark.parametrize("server", [hang_up, endless, dripping, shell, HttpPeer(lambda _: None).serve, None])
@pytest.mark.parametrize(("verdict", "reply"), [("defer", "451 4.3.0"), ("continue", "250")])
async def test_an_odd_server_gives_the_declared_verdict_in_time(
    server, verdict: str, reply: str, autojump_clock
):
    async with rspamd(entry={"on_error": verdict, "on_timeout": verdict}) as bed:
        if server is not None:
            bed.network.listen(SERVICE, 11333, server)
        began = trio.current_time()
        assert (await bed.dial().send()).startswith(reply)
        assert trio.current_time() - began <= 21
        assert len(bed.failures()) == 1


async def test_another_status_is_a_failure(autojump_clock):
    async with rspamd() as bed:
        assert (
            await send(bed, HttpPeer(lambda request: HttpAnswer(403, (), b'{"action": "reject"}')))
        ).startswith("451")
        assert bed.failures()[0].startswith("OutsideFailed: http://192.0.2.99:11333 answers with status 403")
