"""`elemta healthcheck`: an exit status, and the reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from elemta.cli import main
from elemta.cli.client import AdminClient


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elemta.toml").write_text('hostname = "mx.example.org"\nstate_dir = "state"\n')


def test_without_a_server_the_status_is_1() -> None:
    done = CliRunner().invoke(main, ["healthcheck", "-c", "elemta.toml"])
    assert (done.exit_code, done.stderr) == (1, "elemta: no server runs on state\n")


@pytest.mark.parametrize(
    ("option", "path"), [((), "/readyz"), (("--live",), "/livez"), (("--start",), "/startupz")]
)
def test_each_probe_asks_its_path(
    option: tuple[str, ...], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look(client: AdminClient, where: str) -> tuple[int, str]:
        asked.append(where)
        return (200, "fine\n") if len(asked) == 1 else (503, "disk: no room\nstopping: SIGTERM\n")

    monkeypatch.setattr(AdminClient, "look", look)
    well = CliRunner().invoke(main, ["healthcheck", "-c", "elemta.toml", *option])
    assert (well.exit_code, well.output) == (0, "fine\n")
    ill = CliRunner().invoke(main, ["healthcheck", "-c", "elemta.toml", *option])
    assert (ill.exit_code, ill.stderr) == (1, "elemta: disk: no room\nelemta: stopping: SIGTERM\n")
    assert asked == [path, path]
