"""The README's first steps in development mode, as a newcomer types them."""

from __future__ import annotations

from pathlib import Path

from ports import free_port
from server_process import elemta, serving, wait_for


def test_send_finds_the_development_server_whatever_port_was_free(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port, "--dev", "--port", str(port), cwd=tmp_path) as server:
        done = elemta("send", "--dev", "--to", "you@example.org", "--subject", "Hello", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("250 2.0.0 queued as ")
        shown = wait_for(lambda: "Hello" in server.output.read_text(), "the message is shown")
        assert shown
        message = done.stdout.split()[-1]
        assert (tmp_path / "var" / "dev" / "captured" / f"{message}.eml").exists()


def test_send_without_a_server_names_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "elemta.toml").write_text(
        f'hostname = "mx.example.org"\n[[listeners]]\nname = "mx"\naddress = "127.0.0.1:{free_port()}"\n'
    )
    done = elemta("send", "-c", "elemta.toml", "--dev", "--to", "you@example.org", cwd=tmp_path)
    assert done.returncode == 75
    assert done.stdout == ""
    assert done.stderr.startswith("elemta: 127.0.0.1:")
    assert "Connection refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1
