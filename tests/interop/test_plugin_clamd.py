"""The plugin clamd with the real one, over TCP and over a socket, with signatures of our own."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ports import free_port
from proofs.servers import open_folder, require

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

# In two parts, so that no scanner takes this file for one
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass
class Clamd:
    port: int
    socket: Path


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    require("clamd")
    found = Clamd(free_port(), Path())
    with open_folder() as folder:
        found.socket = folder / "clamd.sock"
        (folder / "base").mkdir(mode=0o755)
        signatures = f"Own.Eicar:0:*:{EICAR.encode().hex()}\nOwn.Word:0:*:{b'unwanted word'.hex()}\n"
        (folder / "base" / "own.ndb").write_text(signatures)
        (folder / "clamd.conf").write_text(
            f"Foreground yes\nDatabaseDirectory {folder}/base\nTCPSocket {found.port}\nTCPAddr 127.0.0.1\n"
            f"LocalSocket {found.socket}\nStreamMaxLength 4M\nTemporaryDirectory {folder}\nUser root\n"
        )
        command = ["clamd", "-c", str(folder / "clamd.conf")]
        with running_daemon(command, folder / "log", lambda: accepts(found.port)):
            yield found


@pytest.fixture(scope="module", params=["tcp", "socket"])
def bed(request: pytest.FixtureRequest, clamd: Clamd) -> Iterator[PluginBed]:
    address = f"127.0.0.1:{clamd.port}" if request.param == "tcp" else f"unix:{clamd.socket}"
    config = f'address = "{address}"\nmax_size = "3MiB"\nignore = ["Own.Word*"]'
    with open_folder() as folder, running_plugin(folder, "clamd", config) as bed:
        yield bed


def message(body: str, more: str = "") -> bytes:
    return f"From: <s@far.example>\r\n{more}Subject: x\r\n\r\n{body}\r\n".encode()


def test_viruses_are_found_and_other_mail_gets_through(bed: PluginBed) -> None:
    assert bed.send(message(EICAR)) == (554, b"5.7.1 The message has a virus (Own.Eicar.UNOFFICIAL)")
    attached = (
        'MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name="a.com"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
    )
    assert bed.send(message(base64.b64encode(EICAR.encode()).decode(), attached))[0] == 554
    large = ("x" * 76 + "\r\n") * 30_000
    assert bed.send(message(f"{large}{EICAR}"))[0] == 554
    assert bed.send(message("an unwanted word"))[0] == 250
    assert bed.send(message(large))[0] == 250
    assert len(bed.delivered(2)) == 2


def test_more_than_it_takes_is_an_error_where_the_settings_do_not_know(clamd: Clamd, tmp_path: Path) -> None:
    config = f'address = "127.0.0.1:{clamd.port}"\nmax_size = "20MiB"'
    with running_plugin(tmp_path, "clamd", config) as bed:
        assert bed.send(message(("x" * 76 + "\r\n") * 70_000))[0] == 451


def test_mail_is_deferred_while_it_is_away(tmp_path: Path) -> None:
    with running_plugin(tmp_path, "clamd", f'address = "unix:{tmp_path}/none"') as bed:
        assert bed.send(message("Hello"))[0] == 451
