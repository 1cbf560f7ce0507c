"""`elemta top` and `elemta tree`: what they draw of an answer."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from elemta.cli import main
from elemta.cli.client import AdminClient
from elemta.cli.top import bars, draw

STEPS = ["sessions", "accepted", "rejected", "delivered", "deferred", "failed"]
OVERVIEW: dict[str, Any] = {
    "version": "1.2",
    "hostname": "mx.example.org",
    "started": 1000.0,
    "now": 1000.0 + 7200,
    "draining": False,
    "attention": [{"level": "error", "text": "disk: no room [red]for\x1b[31m new mail"}],
    "rates": dict.fromkeys(STEPS, 2.5),
    "delay": {"half": 0.2, "most": None},
    "sessions": 3,
    "attempts": 2,
    "queue": {"queued": 7, "leased": 2, "held": 1, "messages": 5, "octets": 2048},
    "oldest_seconds": 3700.0,
    "step": 10.0,
    "series": {name: [0, 1, 2, 4] for name in STEPS} | {"queued": [None, 7, 7, 7]},
    "destinations": [
        {
            "route": "smtp:far.example[bold]",
            "ready": 4,
            "dispatchers": 1,
            "window": 5,
            "delivered": 10,
            "deferred": 3,
            "failed": 0,
            "suspended_for": 90.0,
            "suspended_because": "unreachable",
            "last_error": "451 4.4.1 no answer",
        }
    ],
    "more_destinations": 4,
    "plugins": [
        {
            "name": "slow",
            "standing": "running",
            "calls": 9,
            "active": 1,
            "mean_seconds": 0.0123,
            "failures": {"timeout": 2},
        }
    ],
}
TASK: dict[str, Any] = {
    "name": "<init>",
    "kind": "task",
    "id": "",
    "text": "",
    "phase": "",
    "seconds": None,
    "seconds_left": None,
    "waits_for": "its children",
    "place": "",
    "hidden": 2,
    "children": [],
}
SESSION = TASK | {
    "name": "session 192.0.2.1",
    "kind": "session",
    "id": "01abc",
    "text": "192.0.2.1 at mx\x1b[31m",
    "phase": "command",
    "seconds": 65.0,
    "seconds_left": 235.0,
    "waits_for": "its peer",
    "place": "elemta.inbound.wire:92",
    "hidden": 0,
}


def drawn() -> str:
    console = Console(width=160, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(draw(OVERVIEW))
    return capture.get()


def test_top_shows_rates_destinations_plugins_and_what_needs_a_person() -> None:
    text = drawn()
    for words in (
        "elemta 1.2 on mx.example.org  up 2h00m  3 sessions, 2 attempts",
        "queued 7  under way 2  held 1  5 messages, 2.0 KiB  oldest 1h01m",
        "delivered within 200.0 ms (half), - (95 %)",
        "smtp:far.example[bold]",
        "1m30s, unreachable",
        "and 4 more",
        "12.3 ms",
    ):
        assert words in text


def test_top_takes_nothing_of_a_stranger_for_markup_or_colour() -> None:
    text = drawn()
    assert "\x1b" not in text
    assert "no room [red]for" in text


def test_bars_are_as_high_as_their_values() -> None:
    assert bars([0, 1, 2, 4]) == "▁▂▄█"
    assert bars([None, 0, 0]) == " ▁▁"
    assert bars([]) == ""


def run(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], *arguments: str) -> Any:
    asked: list[tuple[str, object]] = []

    def get(_: AdminClient, path: str) -> Any:
        asked.append((path, None))
        return answers[path]

    def post(_: AdminClient, path: str, body: object) -> Any:
        asked.append((path, body))
        return answers[path]

    monkeypatch.setattr(AdminClient, "get", get)
    monkeypatch.setattr(AdminClient, "post", post)
    result = CliRunner().invoke(main, [*arguments, "--dev"])
    assert result.exit_code == 0, result.output
    return result.output, asked


def test_the_tree_is_drawn_with_its_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"time": 0.0, "tree": TASK | {"children": [SESSION]}}
    text, _ = run(monkeypatch, {"/api/v1/tree": answer}, "tree")
    assert "├ session 192.0.2.1 at mx" in text
    assert "\x1b" not in text
    assert "1m05s  3m55s  its peer (elemta.inbound.wire:92)" in text
    assert "└ 2 more" in text


def test_what_the_tree_shows_can_be_ended_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"/api/v1/sessions/01abc": {}, "/api/v1/attempts/12.3": {}}
    _, asked = run(monkeypatch, answers, "tree", "--cancel", "01abc")
    assert asked == [("/api/v1/sessions/01abc", {"action": "close"})]
    _, asked = run(monkeypatch, answers, "tree", "--cancel", "12.3", "--even-after-dot")
    assert asked == [("/api/v1/attempts/12.3", {"action": "cancel", "even_after_dot": True})]


def test_an_id_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/api/v1/sessions/..%2Fqueue"
    _, asked = run(monkeypatch, {path: {}}, "session", "close", "../queue")
    assert asked == [(path, {"action": "close"})]
