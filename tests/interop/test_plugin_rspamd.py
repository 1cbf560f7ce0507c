"""The plugin rspamd with the real one: its actions, its changes, and the time it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from proofs.servers import open_folder, require

from .plugin_daemons import PluginBed, accepts, running_daemon, running_plugin

pytestmark = [pytest.mark.interop, pytest.mark.deadline(120)]

RULES = """
rspamd_config:register_symbol({name = 'WORDED', type = 'normal', score = 1.0, callback = function(task)
  local seen = {tostring(task:get_from_ip()), tostring(task:get_helo()), task:get_from('smtp')[1].addr,
                task:get_recipients('smtp')[1].addr, tostring(task:get_hostname())}
  task:set_milter_reply({
    remove_headers = {['X-Gone'] = 0, ['X-Some'] = 1},
    add_headers = {['X-Seen'] = table.concat(seen, ' '), ['X-First'] = {value = 'first', order = 1}},
  })
  local subject = task:get_subject() or ''
  if subject:match('later') then task:set_pre_result('soft reject', 'Come back later') end
  local score = tonumber(subject:match('score=(%d+)') or '0')
  return score > 0, score
end})
"""


@pytest.fixture(scope="module")
def rspamd() -> Iterator[int]:
    require("rspamd")
    port = free_port()
    with open_folder() as folder:
        (folder / "rules.lua").write_text(RULES)
        (folder / "tld").write_text("com\nexample\n")
        (folder / "rspamd.conf").write_text(
            f'options {{ filters = ""; enable_test_patterns = true; url_tld = "{folder}/tld"; tempdir = "{folder}";\n'
            f'dbdir = "{folder}"; hs_cache_dir = "{folder}"; control_socket = "{folder}/control";\n'
            f'dns {{ nameserver = "127.0.0.1:9"; timeout = 0.1s; retransmits = 1; }} }}\n'
            f'logging {{ type = "console"; level = "info"; }}\n'
            f'worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}\n'
            f'actions {{ reject = 15; add_header = 6; rewrite_subject = 8; subject = "*** %s"; }}\n'
            f'lua = "{folder}/rules.lua";\n'
        )
        command = ["rspamd", "-f", "-i", "-c", str(folder / "rspamd.conf")]
        with running_daemon(command, folder / "log", lambda: accepts(port)):
            yield port


@pytest.fixture(scope="module")
def bed(rspamd: int) -> Iterator[PluginBed]:
    with (
        open_folder() as folder,
        running_plugin(folder, "rspamd", f'url = "http://127.0.0.1:{rspamd}"') as bed,
    ):
        yield bed


def message(subject: str, body: str = "Hello\r\n") -> bytes:
    head = "From: <s@far.example>\r\nX-Gone: 1\r\nX-Some: 1\r\nX-Some: 2\r\nX-Spam: No\r\n"
    return f"{head}Subject: {subject}\r\n\r\n{body}".encode()


def test_actions_changes_and_refusals(bed: PluginBed) -> None:
    assert bed.send(message("score=20"))[0] == 554
    assert bed.send(message("later")) == (451, b"4.7.1 Come back later")
    gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
    assert bed.send(message("gtube", gtube)) == (554, b"5.7.1 Gtube pattern")
    for number, (given, subject) in enumerate(
        (("fine", b"fine"), ("score=7", b"score=7"), ("score=9", b"*** score=9")), start=1
    ):
        assert bed.send(message(given))[0] == 250
        head = bed.delivered(number)[-1].partition(b"\r\n\r\n")[0]
        assert b"\r\nSubject: " + subject in head
        assert (b"\r\nX-Spam: Yes" in head) is (subject != b"fine")
        assert head.count(b"X-Spam:") == (subject != b"fine")
        assert b"\r\nX-Seen: 127.0.0.1 client.example s@far.example a@ours.example unknown" in head
        assert head.index(b"X-First: first") < head.index(b"From: ")
        assert b"X-Gone" not in head
        assert b"X-Some: 1" not in head
        assert b"X-Some: 2" in head


def test_a_large_message_streams_through(bed: PluginBed) -> None:
    body = ("x" * 76 + "\r\n") * 30_000
    assert bed.send(message("large", body), to="large@ours.example")[0] == 250
    (stored,) = bed.delivered(1, "large")
    assert stored.endswith(body.encode())
    assert b"X-Seen: " in stored


def test_mail_is_deferred_while_it_is_away(tmp_path: Path) -> None:
    with running_plugin(tmp_path, "rspamd", f'url = "http://127.0.0.1:{free_port()}"') as bed:
        assert bed.send(message("fine"))[0] == 451
