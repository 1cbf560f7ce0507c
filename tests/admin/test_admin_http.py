"""The admin port against strangers: who may ask, and what becomes of requests that are none."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from admin_bed import TOKEN, open_bed, parse, read_to_end

from elemta.admin import http
from elemta.admin.problems import Problem


async def test_without_or_with_a_wrong_token_the_answer_is_401(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        for path in (
            "/metrics",
            "/api/v1/status",
            "/api/v1/queue",
            "/api/v1/queue/0000000000000000",
            "/nowhere",
        ):
            for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x", "é"):
                answer = await bed.request("GET", path, token=token)
                assert answer.status == 401, (path, token)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN.encode() not in answer.body
        assert (await bed.request("GET", "/api/v1/status")).status == 200


async def test_another_scheme_is_no_bearer_token(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", "/api/v1/status", token=None, Authorization=f"Basic {TOKEN}")
        assert answer.status == 401
        answer = await bed.request("GET", "/api/v1/status", token=None, Authorization=f"bearer {TOKEN}")
        assert answer.status == 200  # RFC 9110 11.1: the scheme is case-insensitive


async def test_an_action_without_a_token_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        await bed.accept("carl@far.example")
        body = b'{"action": "remove", "selection": {"all": true}}'
        assert (await bed.request("POST", "/api/v1/queue", token=None, body=body)).status == 401
        assert (await bed.spool.totals()).queued == 1


async def test_a_foreign_host_is_421_even_with_the_token(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        for host in (
            "attacker.example",
            "attacker.example:8025",
            "localhost.attacker.example",
            "[::2]:8025",
            "",
        ):
            for path in ("/livez", "/api/v1/status"):
                assert (await bed.request("GET", path, host=host)).status == 421, host
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8025", "[::1]:8025", "mx.example.org"):
            assert (await bed.request("GET", "/livez", host=host)).status == 200, host


async def test_the_address_that_was_connected_to_is_no_foreign_host(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        headers = {b"host": b"198.51.100.7:8025", b"origin": b"http://198.51.100.7:8025"}
        assert bed.guard.admit(headers, peer="127.0.0.1", trusted=False, reached="198.51.100.7") is None
        with pytest.raises(Problem, match="another name"):
            bed.guard.admit(headers, peer="127.0.0.1", trusted=False, reached="198.51.100.8")


async def test_a_foreign_origin_is_403_even_with_the_token(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        for origin in (
            "https://attacker.example",
            "null",
            "https://localhost.attacker.example",
            "http://x@localhost",
        ):
            assert (await bed.request("GET", "/api/v1/status", Origin=origin)).status == 403, origin
        assert (await bed.request("GET", "/api/v1/status", Origin="http://localhost:8025")).status == 200


async def test_liveness_and_readiness_need_no_token(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        assert (await bed.request("GET", "/livez", token=None)).body == b"alive\n"
        assert (await bed.request("GET", "/readyz", token=None)).body == b"ready\n"


async def test_readiness_names_what_is_missing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        bed.facts.listeners = list
        answer = await bed.request("GET", "/readyz", token=None)
        assert (answer.status, answer.body) == (503, b"listeners: not open yet\n")
        bed.facts.drain.begin("SIGTERM", 1000, 5)
        answer = await bed.request("GET", "/readyz", token=None)
        assert (answer.status, answer.body) == (503, b"stopping: SIGTERM\n")
        assert (await bed.request("GET", "/livez", token=None)).status == 200


async def test_the_socket_of_the_state_folder_needs_neither_token_nor_host(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", "/api/v1/status", token=None, host="whatever", trusted=True)
        assert answer.status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"EHLO client.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",  # RFC 9112 3.2: no Host
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_400_and_the_end_of_the_connection(
    data: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = parse(await bed.send_raw(data))
        assert 400 <= answer.status < 500
        assert answer.headers["connection"] == "close"
        assert b"Traceback" not in answer.body


async def test_a_head_that_is_too_large_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (http.MAX_HEAD + 70000)
        assert parse(await bed.send_raw(head)).status == 431


async def test_a_body_that_is_too_large_is_413(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        body = b" " * (http.MAX_BODY + 1)
        answer = await bed.request("POST", "/api/v1/queue", body=body)
        assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
        assert "more than 1048576 octets" in answer.json()["detail"]
        # Also where its length is not told before, and before it has ended.
        chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        head = (
            b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
            + TOKEN.encode()
            + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert parse(await bed.send_raw(head + chunk + chunk)).status == 413


async def test_a_slow_head_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        stream = bed.connect()
        began = trio.current_time()

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"X")
                    await trio.sleep(7)

        await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        bed.nursery.start_soon(drip)
        assert await read_to_end(stream) == b""
        assert trio.current_time() - began == pytest.approx(http.HEAD_SECONDS, abs=0.1)


async def test_an_idle_connection_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        stream = bed.connect()
        began = trio.current_time()
        assert await read_to_end(stream) == b""
        assert trio.current_time() - began == pytest.approx(http.HEAD_SECONDS, abs=0.1)


async def test_a_slow_body_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        began = trio.current_time()
        head = b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
        await bed.send_raw(head)
        assert trio.current_time() - began == pytest.approx(http.REQUEST_SECONDS, abs=0.1)


async def test_a_client_that_leaves_at_any_moment_harms_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    request = (
        b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        + TOKEN.encode()
        + b"\r\nContent-Length: 49\r\n\r\n"
        + b'{"action": "retry", "selection": {"all": true}}  '
    )
    async with open_bed() as bed:
        for cut in range(0, len(request) + 1, 7):
            stream = bed.connect()
            await stream.send_all(request[:cut])
            await trio.sleep(0.001)
            if cut % 2:
                stream.reset()
            else:
                await stream.aclose()
        assert (await bed.request("GET", "/livez")).status == 200


async def test_several_requests_over_one_connection_in_one_piece(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await bed.send_raw(one * 3 + last)
        assert answer.count(b"HTTP/1.1 200") == 4
        assert answer.endswith(b"ready\n")


async def test_a_request_byte_by_byte_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        stream = bed.connect()
        for octet in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":
            await stream.send_all(bytes([octet]))
            await trio.sleep(0.001)
        assert parse(await read_to_end(stream)).body == b"alive\n"


async def test_a_client_that_waits_for_100_continue_gets_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        head = (
            b"POST /api/v1/queue HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
            b"Content-Length: 2\r\n"
        )
        stream = bed.connect()
        await stream.send_all(head + b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"{}")
        assert parse(await read_to_end(stream)).status == 400
        # Who may not ask at all learns so before he has sent anything.
        stream = bed.connect()
        await stream.send_all(head + b"\r\n")
        assert parse(await read_to_end(stream)).status == 401


async def test_a_head_request_gets_no_body(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await bed.request("HEAD", "/livez")
        assert (answer.status, answer.body) == (200, b"")


async def test_a_crash_of_the_application_is_500_and_tells_the_client_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:

        def crash() -> list[dict[str, object]]:
            raise ZeroDivisionError("a secret")

        bed.facts.listeners = crash
        answer = await bed.request("GET", "/api/v1/status")
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert (await bed.request("GET", "/livez")).status == 200
