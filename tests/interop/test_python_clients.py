"""smtplib and aiosmtplib as clients: STARTTLS, implicit TLS, AUTH, SMTPUTF8, large messages."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import smtplib
import warnings
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTPUTF8

import pytest

from .beds import ACCOUNT, PASSWORD, TEN_MEGABYTES, Bed, running_bed

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with running_bed(tmp_path_factory.mktemp("clients")) as bed:
        yield bed


def large(subject: str) -> bytes:
    line = b"0123456789" * 7 + b"\r\n"
    return f"Subject: {subject}\r\n\r\n".encode() + line * (TEN_MEGABYTES // len(line))


# --- smtplib ---------------------------------------------------------------------------------------------


def test_smtplib_over_starttls(bed: Bed) -> None:
    with smtplib.SMTP("127.0.0.1", bed.mx, timeout=30) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=bed.client_tls())
        client.ehlo()
        assert not client.has_extn("starttls")
        assert (
            client.sendmail("a@else.example", ["starttls@ours.example"], b"Subject: x\r\n\r\n.dot\r\n") == {}
        )
    (content,) = bed.wait_for("starttls")
    assert content.endswith(b"Subject: x\r\n\r\n.dot\r\n")
    assert b"with ESMTPS id" in content


def test_smtplib_logs_in_and_sends_anywhere(bed: Bed) -> None:
    with smtplib.SMTP("127.0.0.1", bed.submission, timeout=30) as client:
        client.starttls(context=bed.client_tls())
        client.ehlo()
        client.login(ACCOUNT, PASSWORD)
        assert (
            client.sendmail(ACCOUNT, ["login@far.example"], b"From: <user@ours.example>\r\n\r\nhello\r\n")
            == {}
        )
    (content,) = bed.wait_for("login", domain="far.example")
    assert b"with ESMTPSA id" in content
    assert b"\r\nMessage-ID: <" in content
    assert b"\r\nDate: " in content


def test_smtplib_with_a_wrong_password(bed: Bed) -> None:
    with smtplib.SMTP("127.0.0.1", bed.submission, timeout=30) as client:
        client.starttls(context=bed.client_tls())
        client.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login(ACCOUNT, "wrong")
        assert caught.value.smtp_code == 535
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail(ACCOUNT, ["x@far.example"], b"x: y\r\n")


def test_smtplib_over_implicit_tls(bed: Bed) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", bed.implicit, timeout=30, context=bed.client_tls()) as client:
        client.login(ACCOUNT, PASSWORD)
        assert client.sendmail(ACCOUNT, ["implicit@ours.example"], b"Subject: x\r\n\r\nhello\r\n") == {}
    assert bed.wait_for("implicit")


def test_smtplib_with_smtputf8(bed: Bed) -> None:
    message = EmailMessage(policy=SMTPUTF8)
    message["From"], message["To"], message["Subject"] = "jürgen@else.example", "b@müller.example", "Grüße"
    message.set_content("Grüße\n")
    with smtplib.SMTP("127.0.0.1", bed.mx, timeout=30) as client:
        assert client.send_message(message) == {}
    (content,) = bed.wait_for("b", domain="xn--mller-kva.example")
    assert "Subject: Grüße".encode() in content
    assert "Return-Path: <jürgen@else.example>".encode() in content
    assert b"with UTF8SMTP id" in content


def test_smtplib_sends_ten_megabytes(bed: Bed) -> None:
    body = large("ten")
    with smtplib.SMTP("127.0.0.1", bed.mx, timeout=60) as client:
        client.starttls(context=bed.client_tls())
        assert client.sendmail("a@else.example", ["ten@ours.example"], body) == {}
    (content,) = bed.wait_for("ten")
    assert hashlib.sha256(content[-len(body) :]).digest() == hashlib.sha256(body).digest()


def test_smtplib_is_told_at_once_that_it_is_too_much(bed: Bed) -> None:
    with smtplib.SMTP("127.0.0.1", bed.mx, timeout=30) as client:
        client.ehlo()
        assert int(client.esmtp_features["size"]) == 30 * 1024 * 1024
        code, text = client.mail("a@else.example", ["SIZE=99999999"])
        assert (code, text[:5]) == (552, b"5.3.4")


def test_smtplib_speaks_lmtp(bed: Bed) -> None:
    # One recipient: smtplib reads a single reply to a message, whatever RFC 2033 §4.2 says
    with smtplib.LMTP("127.0.0.1", bed.lmtp) as client:
        assert client.sendmail("a@else.example", ["lmtp@ours.example"], b"x: y\r\n") == {}
    (content,) = bed.wait_for("lmtp")
    assert b"with LMTP id" in content


def test_smtplib_over_ipv6(bed: Bed) -> None:
    if not bed.six:
        pytest.skip("this machine has no IPv6 loopback")
    with smtplib.SMTP("::1", bed.six, timeout=30) as client:
        client.starttls(context=bed.client_tls())
        assert client.sendmail("a@else.example", ["six@ours.example"], b"x: y\r\n") == {}
    (content,) = bed.wait_for("six")
    assert b"[IPv6:::1]" in content


# --- aiosmtplib ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """asyncio leaves sockets to the garbage collector, which pytest would take for an error, and for one of
    the test that happens to run then: so they are collected here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_aiosmtplib_over_starttls_with_auth(bed: Bed) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")

    async def send() -> None:
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=bed.submission,
            start_tls=True,
            tls_context=bed.client_tls(),
            timeout=30,
        )
        async with client:
            await client.login(ACCOUNT, PASSWORD)
            errors, text = await client.sendmail(ACCOUNT, ["aio@far.example"], b"Subject: x\r\n\r\nhello\r\n")
            assert errors == {}
            assert "queued as" in text

    with quiet():
        asyncio.run(send())
    (content,) = bed.wait_for("aio", domain="far.example")
    assert b"with ESMTPSA id" in content


def test_aiosmtplib_over_implicit_tls(bed: Bed) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")
    body = large("aio").decode()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = ACCOUNT, "aiolarge@ours.example", "large"
    message.set_content(body)

    async def send() -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=bed.implicit, use_tls=True, tls_context=bed.client_tls(), timeout=60
        ) as client:
            await client.login(ACCOUNT, PASSWORD)
            assert (await client.send_message(message))[0] == {}

    with quiet():
        asyncio.run(send())
    (content,) = bed.wait_for("aiolarge")
    assert len(content) > TEN_MEGABYTES


def test_aiosmtplib_with_smtputf8(bed: Bed) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=bed.mx, start_tls=False, timeout=30) as client:
            await client.ehlo()
            await client.mail("jürgen@else.example", options=["SMTPUTF8", "BODY=8BITMIME"], encoding="utf-8")
            await client.rcpt("müller@ours.example", encoding="utf-8")
            await client.data("Subject: Grüße\r\n\r\nGrüße\r\n".encode())

    with quiet():
        asyncio.run(send())
    (content,) = bed.wait_for("müller")
    assert "Subject: Grüße".encode() in content


@pytest.mark.parametrize("number", [20])
def test_many_clients_at_once(bed: Bed, number: int) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")

    async def send(which: int) -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=bed.mx,
            start_tls=which % 2 == 0,
            tls_context=bed.client_tls(),
            timeout=30,
        ) as client:
            for _ in range(3):
                await client.sendmail("a@else.example", ["many@ours.example"], b"x: y\r\n\r\n")

    async def run() -> None:
        await asyncio.gather(*(send(which) for which in range(number)))

    with quiet():
        asyncio.run(run())
    assert len(bed.wait_for("many", 3 * number)) == 3 * number
