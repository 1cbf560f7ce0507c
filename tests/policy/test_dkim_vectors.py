"""Published signatures: RFC 6376 appendix A, RFC 8463 appendix A, and what comes with dkimpy's source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dkim_bed import verify
from pypi_source import source_of

from elemta.testing.dns import Zone

BODY = b"\r\nHi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n"
HEADER = b"""\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>
"""
RFC6376_SIGNATURE = b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
"""
RFC6376_RECEIVED = b"""\
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
"""
RFC8463_SIGNATURES = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
"""
RSA_8463 = (
    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi"
    "0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3Q"
    "IDAQAB"
)
ED25519_8463 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
RSA_6376 = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcT"
    "Nh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
ZONE: Zone = {
    "brisbane._domainkey.example.com": {"TXT": [RSA_6376]},
    "brisbane._domainkey.football.example.com": {"TXT": [ED25519_8463]},
    "test._domainkey.football.example.com": {"TXT": [RSA_8463]},
}


async def results(message: bytes, zone: Zone = ZONE) -> list[str]:
    return [str(each.result) for each in await verify(message, zone)]


def crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


async def test_rfc_6376_appendix_a() -> None:
    message = crlf(RFC6376_SIGNATURE + RFC6376_RECEIVED + HEADER) + BODY
    assert await results(message) == ["pass"]
    assert await results(message.replace(b"game. Are", b"game.  Are")) == ["fail"]  # simple/simple


async def test_rfc_8463_appendix_a() -> None:
    message = crlf(RFC8463_SIGNATURES + HEADER) + BODY
    assert await results(message) == ["pass", "pass"]
    assert await results(message.replace(b"game. Are", b"game.  Are")) == ["pass", "pass"]  # relaxed/relaxed
    assert await results(message.replace(b"dinner", b"lunch")) == ["fail", "fail"]


# --- dkimpy ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages and keys. DKIMPY_SOURCE names an unpacked archive."""
    given = os.environ.get("DKIMPY_SOURCE")
    part = "dkim/tests/data"
    return Path(given) / part if given else source_of(request, "dkimpy==1.1.8", part, tmp_path_factory)


def message_of(data: Path, name: str) -> bytes:
    return (data / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


GMAIL = (
    "k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1Kd87/UeJjenpabgbFwh+eBCsSTrqmwIYYvywlbhbqoo2DymndFkbjOVIPIldN"
    "s/m40KF+yzMn1skyoxcTUGCQs8g3FgD2Ap3ZB5DekAo5wMmk4wimDO+U8QzI3SD07y2+07wlNWwIt8svnxgdxGkVbbhzY8i+RQ9DpSVpPbF7ykQxtK"
    "Xkv/ahW3KjViiAH+ghvvIhkx4xYSIc9oSwVmAl5OctMEeWUwg8Istjqz8BZeTWbf41fbNhte7Y+YqZOwq1Sd0DbvYAD9NOZK9vlfuac0598HY+vtSB"
    "czUiKERHv1yRbcaQtZFh5wtiRrN04BLUTD21MycBX5jYchHjPY/wIDAQAB"
)


def zone_of(data: Path) -> Zone:
    text = (data / "test.txt").read_text().strip()
    return {
        **ZONE,
        "test._domainkey.example.com": {"TXT": [text]},
        "20120113._domainkey.gmail.com": {"TXT": [GMAIL]},
        "sed._domainkey.test.ex": {"TXT": [(data / "eximtest.dns").read_text().strip()]},
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rfc6376.signed.msg", ["pass", "pass"]),
        ("rfc6376.signed.rsa.msg", ["pass"]),
        ("rfc6376.signed.no_t.msg", ["fail"]),  # t= was taken out after it was signed
        ("test2.message", ["pass"]),  # degenerate folding
        ("test.message", ["none"]),
        ("test.message.baddomain", ["neutral"]),
        ("ed25519test2.msg", ["pass"]),  # by Exim
        ("rfc6376.w1258.msg", ["none"]),
    ],
)
async def test_messages_of_dkimpy(data: Path, name: str, found: list[str]) -> None:
    assert await results(message_of(data, name), zone_of(data)) == found


@pytest.mark.parametrize("name", ["1024_testkey_wo_markers.pub.txt", "1024_testkey_wo_markers.pub.rsa.txt",
                                  "2048_testkey_wo_markers.pub.txt", "2048_testkey_wo_markers.pub.rsa.txt",
                                  "2048_testkey_PKCS8.key.pub.txt"])  # fmt: skip
async def test_keys_of_dkimpy(data: Path, name: str) -> None:
    dkim = pytest.importorskip("dkim")
    private = name.split("_wo", maxsplit=1)[0].removesuffix(".key.pub.txt") + ".key"
    message = message_of(data, "test.message")
    signature = dkim.sign(message, b"test", b"example.com", (data / private).read_bytes())
    record = (data / name).read_text().strip()
    now = float(signature.partition(b" t=")[2].partition(b";")[0])
    (result,) = await verify(signature + message, {"test._domainkey.example.com": {"TXT": [record]}}, now=now)
    assert str(result.result) == "pass"
