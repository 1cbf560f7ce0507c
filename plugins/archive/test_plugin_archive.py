"""Copies of messages, in a whole server and in the folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from elemta.config import SettingsError
from elemta.testing import Mta, open_mta
from elemta.testing.kit import OWN

HERE = __file__.removesuffix("test_plugin_archive.py") + "plugin.py"
ACCEPTED = "accepted.jsonl"


def folder_at(root: Path, **settings: Any) -> Any:
    """A `Folder`, from the file beside the plugin."""
    names = runpy.run_path(str(Path(HERE).with_name("folder.py")))
    return names["Folder"](root, **settings)


def entry(**config: Any) -> dict[str, Any]:
    return {"name": "archive", "path": HERE, "config": config}


def files(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(f"*/{pattern}"))


def accepted(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files(root, ACCEPTED) for line in file.read_text().splitlines()]


async def test_a_copy_has_every_octet_and_the_envelope(tmp_path: Path, autojump_clock: object) -> None:
    content = b"From: a@client.example\r\nSubject: \xc3\xa9\r\n\r\n.dot\r\n" + b"x" * 70 + b"\r\n"
    async with open_mta(entry(folder=str(tmp_path))) as mta:
        sent = await mta.send(["bob@example.org", "carol@example.org"], content=content, peer="192.0.2.1")
        sent.assert_accepted()
    (line,) = accepted(tmp_path)
    (message,) = files(tmp_path, "*.eml.gz")
    (described,) = files(tmp_path, "*.json")
    assert gzip.decompress(message.read_bytes()) == content
    record = json.loads(described.read_text())
    assert record["file"] == message.name
    assert record["sender"] == "alice@client.example"
    assert record["recipients"] == ["bob@example.org", "carol@example.org"]
    assert (record["client"], record["account"]) == ("192.0.2.1", None)
    assert (record["size"], record["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert line["message"] == sent.message
    assert message.name.startswith(line["file"])
    assert [each.stat().st_mode & 0o777 for each in (message, described)] == [0o600, 0o600]


async def test_what_cannot_be_kept_is_not_accepted(tmp_path: Path, autojump_clock: object) -> None:
    (tmp_path / "file").write_text("")
    async with open_mta(entry(folder=str(tmp_path / "file/below"))) as mta:
        mta.failures_allowed = True
        assert (await mta.send()).reply.code == 451
        assert mta.delivered == []


@pytest.mark.parametrize(
    ("of", "peer", "kept"),
    [("own", OWN, 1), ("own", "192.0.2.1", 0), ("strangers", "192.0.2.1", 1), ("strangers", OWN, 0)],
)
async def test_whose_mail_is_kept(
    tmp_path: Path, autojump_clock: object, of: str, peer: str, kept: int
) -> None:
    async with open_mta(entry(folder=str(tmp_path), of=of, compress=False)) as mta:
        (await mta.send(peer=peer)).assert_accepted()
    assert len(files(tmp_path, "*.eml")) == kept


async def test_only_domains_that_are_named(tmp_path: Path, autojump_clock: object) -> None:
    async with open_mta(entry(folder=str(tmp_path), domains=["*.client.example", "example.net"])) as mta:
        (await mta.send()).assert_accepted()
        (await mta.send(sender="x@mail.client.example")).assert_accepted()
        (await mta.send("y@example.net", peer=OWN)).assert_accepted()
    assert len(files(tmp_path, "*.eml.gz")) == 2


@pytest.mark.plugin(config={"mailbox": "archive@example.org"})
async def test_a_mailbox_is_one_more_recipient(mta: Mta) -> None:
    (await mta.send()).assert_accepted()
    assert {each for letter in mta.delivered for each in letter.recipients} == {
        "bob@example.org",
        "archive@example.org",
    }
    (await mta.send("archive@example.org")).assert_accepted()


@pytest.mark.parametrize(
    ("config", "said"),
    [({}, "folder or mailbox has to say"), ({"mailbox": "nobody"}, "'nobody' is no mailbox")],
)
async def test_settings_are_checked(config: dict[str, Any], said: str, autojump_clock: object) -> None:
    with pytest.raises(SettingsError, match=said):
        async with open_mta(entry(**config)):
            pass


def test_days_are_removed_when_their_time_is_over(tmp_path: Path) -> None:
    folder, day = folder_at(tmp_path), 86400.0
    for number in range(5):
        folder.keep(number * day, [b"x"], {})
    (tmp_path / "other").mkdir()
    assert folder.clean(5 * day + 1, 2 * day) == (3, [])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["1970-01-04", "1970-01-05", "other"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the file has gone")

    with pytest.raises(OSError, match="gone"):
        folder_at(tmp_path).keep(0.0, pieces(), {})
    assert [each.name for each in tmp_path.iterdir()] == ["1970-01-01"]
    assert list((tmp_path / "1970-01-01").iterdir()) == []


def test_a_day_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "archive")
    folder.keep(86400.0, [b"x"], {})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "archive" / "1970-01-01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive" / "1970-02-31").mkdir()  # no day at all
    removed, (wrong,) = folder.clean(86400.0 * 400, 86400.0)
    assert removed == 2
    assert "symbolic link" in wrong


async def test_what_cannot_be_removed_is_no_reason_to_take_no_mail(
    tmp_path: Path, autojump_clock: object
) -> None:
    (tmp_path / "2000-01-01").symlink_to(tmp_path)
    async with open_mta(entry(folder=str(tmp_path), keep="1d")) as mta:
        (await mta.send()).assert_accepted()
        await trio.sleep(7200)
        (await mta.send()).assert_accepted()


def test_new_folders_are_settled_up_to_the_first_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_at(tmp_path / "a" / "b")
    settled = list[Path]()
    monkeypatch.setitem(type(folder).keep.__globals__, "_settle_folder", settled.append)
    folder.keep(0.0, [b"x"], {})
    assert set(settled) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a/b/1970-01-01"}
    settled.clear()
    folder.keep(1.0, [b"x"], {})
    assert settled == [tmp_path / "a/b/1970-01-01"]
