"""The plugin milter with OpenDKIM: it signs what we send, and judges the signatures of what comes in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from policy.dkim_bed import MESSAGE, entry, rsa_key, sign, verify, zone
from ports import free_port
from proofs.servers import open_folder, require

from elemta.policy.keyring import write_key

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

KEY = rsa_key(2048)
RECORDS = zone(rsa=KEY.record())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    require("opendkim")
    with open_folder() as found:
        write_key(found / "key.pem", KEY)
        records = "".join(f"{name} {kinds['TXT'][0]}\n" for name, kinds in RECORDS.items())
        (found / "records").write_text(records)
        yield found


@contextmanager
def opendkim(folder: Path, config: str, *, socket: bool = False) -> Iterator[PluginBed]:
    """elemta with OpenDKIM of that configuration."""
    port, path = free_port(), folder / f"{time.monotonic_ns()}.sock"
    file = path.with_suffix(".conf")
    where = f"local:{path}" if socket else f"inet:{port}@127.0.0.1"
    file.write_text(f"{config}\nSocket {where}\nRequireSafeKeys no\n")
    command = ["opendkim", "-f", "-x", str(file), "-u", "root"]
    address = f"unix:{path}" if socket else f"127.0.0.1:{port}"
    ready = path.exists if socket else lambda: accepts(port)
    with (
        running_daemon(command, folder / "log", ready),
        open_folder() as own,
        running_plugin(own, "milter", f'address = "{address}"') as bed,
    ):
        yield bed


@pytest.mark.parametrize("form", ["relaxed/relaxed", "simple/simple"])
@pytest.mark.parametrize("socket", [False, True])
async def test_it_signs_what_we_send(folder: Path, form: str, socket: bool) -> None:
    config = (
        f"Mode s\nDomain example.org\nKeyFile {folder}/key.pem\nSelector rsa\nCanonicalization {form}\n"
        "SignatureAlgorithm rsa-sha256\nInternalHosts 127.0.0.1\nOversignHeaders From\n"
    )
    with opendkim(folder, config, socket=socket) as bed:
        large = MESSAGE + b"one more line\r\n" * 20_000
        for number, message in enumerate((MESSAGE, large), start=1):
            assert bed.send(message, sender="alice@example.org")[0] == 250
            stored = bed.delivered(number)[-1]
            assert [str(each.result) for each in await verify(stored, RECORDS, now=time.time())] == ["pass"]


async def test_it_judges_what_comes_in(folder: Path) -> None:
    config = (
        f"Mode v\nTestPublicKeys {folder}/records\nAlwaysAddARHeader yes\nInternalHosts 192.0.2.1\n"
        "AuthservID mx.example.org\nOn-BadSignature reject\n"
    )
    ours = entry("rsa")
    signed = await sign(MESSAGE, type(ours)(ours.pattern, ours.domain, "rsa", KEY), now=time.time())
    forged = b"Authentication-Results: mx.example.org; dkim=pass header.d=bank.example\r\n" + signed
    with opendkim(folder, config) as bed:
        assert bed.send(forged)[0] == 250
        head = bed.delivered(1)[0].partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ")
        assert b"dkim=pass" in head
        assert b"header.d=example.org" in head
        assert b"bank.example" not in head
        assert bed.send(signed.replace(b"Hello", b"Hallo"))[0] == 550


def test_mail_is_deferred_while_it_is_away(tmp_path: Path) -> None:
    with running_plugin(tmp_path, "milter", f'address = "unix:{tmp_path}/none"') as bed:
        assert bed.send(MESSAGE)[0] == 451
