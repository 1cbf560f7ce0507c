"""The dashboard in a real browser, beside a real server with real mail."""

from __future__ import annotations

import os
import shutil
import smtplib
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from ports import free_port
from server_process import RunningServer, serving

from elemta.policy.breaker import FOLDER, _write_held

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WITHIN = 30_000
"""Milliseconds for whatever the page does."""
HELLO = Path(__file__).parents[2] / "plugins/hello"
HOSTILE = "<img src=x onerror=window.broken=1>"
SETTINGS = """hostname = "mx.ours.example"
state_dir = "state"
[[listeners]]
name = "mx"
address = "127.0.0.1:{smtp}"
role = "mx"
tls = "off"
[relay]
networks = ["127.0.0.0/8"]
[[routes]]
match = "ours.example"
transport = "discard"
[[routes]]
match = "*"
transport = "smtp"
host = "127.0.0.1"
port = {closed}
tls = "none"
[admin]
address = "127.0.0.1:{admin}"
[auth]
users = "users"
[[plugins]]
name = "hello"
path = "{hello}"
"""


@attrs.define(eq=False)
class Desk:
    """A server and a browser that has signed in to it."""

    server: RunningServer
    base: str
    token: str
    page: Any  # playwright's Page, which is there only with chromium
    troubles: list[str]

    def see(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=WITHIN)

    def go(self, view: str) -> None:
        self.page.goto(f"{self.base}/#/{view}")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click(timeout=WITHIN)


def send(server: RunningServer, recipient: str, count: int = 1) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.example", timeout=30) as client:
        for _ in range(count):
            client.sendmail("anna@client.example", [recipient], b"Subject: seen\r\n\r\nhello\r\n")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with _open_desk(tmp_path_factory.mktemp("dashboard")) as desk:
        yield desk


@contextmanager
def _open_desk(folder: Path) -> Generator[Desk, None, None]:
    from playwright.sync_api import sync_playwright

    smtp, admin, closed = free_port(), free_port(), free_port()
    (folder / "elemta.toml").write_text(SETTINGS.format(smtp=smtp, admin=admin, closed=closed, hello=HELLO))
    (folder / "state").mkdir(mode=0o700)
    held = folder / "state" / FOLDER
    assert _write_held(held, "anna@ours.example", HOSTILE)
    assert _write_held(held, "carl@ours.example", "240 recipients in this hour, usual are 9")
    users = folder / "users"
    users.write_text("anna@ours.example send-as=*@ours.example\nbert@ours.example disabled\n")
    users.chmod(0o600)
    with (
        serving(folder, smtp, "-c", folder / "elemta.toml", cwd=folder) as server,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            timeout=60_000,
        )
        try:
            page = browser.new_page()
            troubles: list[str] = []
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on(
                "console", lambda message: troubles.append(message.text) if message.type == "error" else None
            )
            base = f"http://127.0.0.1:{admin}"
            token = (folder / "state" / "admin.token").read_text().strip()
            page.goto(f"{base}/", timeout=WITHIN)
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            page.get_by_role("link", name="Overview").wait_for(timeout=WITHIN)
            yield Desk(server, base, token, page, troubles)
        finally:
            browser.close()


@pytest.fixture(autouse=True)
def _without_errors(desk: Desk) -> Iterator[None]:
    yield
    assert desk.troubles == []
    assert not desk.page.evaluate("window.broken")


def test_the_overview_shows_what_waits_and_what_needs_a_person(desk: Desk) -> None:
    send(desk.server, "bob@ours.example", 3)
    send(desk.server, "carl@far.example", 12)
    desk.go("overview")
    desk.see("What waits, by domain")
    desk.see("far.example")
    desk.see("is left alone for")
    assert desk.page.locator("figure svg").count() == 6


def test_the_token_is_in_no_address_and_in_no_storage_that_stays(desk: Desk) -> None:
    assert desk.token not in desk.page.url
    assert desk.page.evaluate("sessionStorage.length") == 1
    assert desk.page.evaluate("localStorage.length") == 0
    assert desk.page.evaluate("document.cookie") == ""


def test_a_message_says_why_it_waits_and_can_be_held_and_removed(desk: Desk) -> None:
    send(desk.server, "dora@far.example")
    desk.go("queue?recipient=dora@far.example")
    desk.page.locator("a.id").first.click(timeout=WITHIN)
    desk.see("Why does it wait?")
    desk.see("The next attempt is in")
    desk.see("message.accepted")
    desk.press("Hold")
    desk.see("1 recipients of 1 messages are held until somebody releases them.")
    desk.page.keyboard.press("Escape")  # thought better of it
    desk.press("Hold")
    desk.page.locator("dialog button.main").click(timeout=WITHIN)
    desk.see("It is held until somebody releases it")
    desk.press("Remove")
    desk.page.locator("dialog button.dangerous").click(timeout=WITHIN)
    desk.see("gone since")


def test_events_are_shown_as_they_happen_filtered_and_held_while_paused(desk: Desk) -> None:
    desk.go("events")
    desk.see("live")
    desk.page.get_by_label("Type", exact=True).fill("message.accepted")
    desk.page.get_by_label("Recipient", exact=True).fill("*@ours.example")
    desk.press("Filter")
    send(desk.server, "eve@ours.example")
    desk.see("eve@ours.example")
    types = desk.page.locator(".events .type").all_text_contents()
    assert set(types) == {"message.accepted"}
    desk.press("Pause")
    send(desk.server, "fred@ours.example")
    desk.see("1 waiting")
    assert desk.page.get_by_text("fred@ours.example").count() == 0
    desk.press("Go on")
    desk.see("fred@ours.example")


def test_a_session_can_be_ended_from_the_page(desk: Desk) -> None:
    with smtplib.SMTP("127.0.0.1", desk.server.port, local_hostname="client.example", timeout=30) as client:
        client.ehlo()
        desk.go("running")
        desk.see("Sessions: 1")
        desk.see("scheduler")
        desk.press("End")
        desk.page.locator("dialog button.dangerous").click(timeout=WITHIN)
        desk.see("No session is open.")
        code, _ = client.noop()
        assert code == 421
        client.close()


def test_a_held_account_is_let_go(desk: Desk) -> None:
    desk.go("accounts")
    desk.see(HOSTILE)
    desk.see("bert@ours.example")
    assert desk.page.locator("main img").count() == 0
    desk.press("Release anna@ours.example")
    desk.see("It may send again, and its held mail goes.")
    desk.page.keyboard.press("Escape")  # thought better of it
    desk.page.get_by_role("button", name="Release anna@ours.example").focus()
    desk.page.keyboard.press("Enter")
    desk.see("Release anna@ours.example?")
    desk.page.keyboard.press("Tab")
    desk.page.keyboard.press("Enter")
    desk.see("anna@ours.example may send again; 0 recipients released.")
    desk.page.get_by_role("button", name="Release anna@ours.example").wait_for(
        state="detached", timeout=WITHIN
    )
    assert desk.page.get_by_role("button", name="Purge carl@ours.example").count() == 1


def test_limits_of_a_destination_are_set_and_cleared_by_keyboard(desk: Desk) -> None:
    send(desk.server, "dora@limited.example")
    desk.go("destinations")
    desk.see("All destinations go by the configuration.")
    desk.page.get_by_role("button", name="Limits of smtp:[127.0.0.1]").first.focus()
    desk.page.keyboard.press("Enter")
    desk.page.get_by_label("Connections at once").wait_for(timeout=WITHIN)
    desk.page.keyboard.type("2")
    desk.page.keyboard.press("Tab")
    desk.page.keyboard.press("Tab")
    desk.page.keyboard.type("many")
    desk.page.keyboard.press("Enter")
    desk.see("From now on: concurrency 2, message rate many.")
    desk.page.locator("dialog button.main").click(timeout=WITHIN)
    desk.see("'many' is not a rate")
    desk.troubles[:] = [trouble for trouble in desk.troubles if "400" not in trouble]
    desk.page.get_by_role("button", name="Limits of smtp:[127.0.0.1]").first.focus()
    desk.page.keyboard.press("Enter")
    desk.page.get_by_label("Connections at once").fill("2")
    desk.page.get_by_label("Messages in a time").fill("60/1m")
    desk.page.keyboard.press("Enter")
    desk.see("Before: by the configuration.")
    desk.page.keyboard.press("Escape")  # thought better of it
    desk.see("All destinations go by the configuration.")
    desk.page.get_by_role("button", name="Limits of smtp:[127.0.0.1]").first.click(timeout=WITHIN)
    desk.page.get_by_label("Connections at once").fill("2")
    desk.page.get_by_label("Messages in a time").fill("60/1m")
    desk.page.keyboard.press("Enter")
    desk.page.locator("dialog button.main", has_text="Set").click(timeout=WITHIN)
    desk.see("set from the dashboard")
    desk.page.get_by_role("button", name="Clear the limits of").click(timeout=WITHIN)
    desk.page.locator("dialog button.main", has_text="Clear").click(timeout=WITHIN)
    desk.see("All destinations go by the configuration.")


def test_text_from_strangers_stays_text(desk: Desk) -> None:
    with smtplib.SMTP("127.0.0.1", desk.server.port, local_hostname="client.example", timeout=30) as client:
        client.ehlo()
        hostile = f'"{HOSTILE}"@far.example'
        client.mail("anna@client.example")
        client.rcpt(hostile)
        client.data(b"Subject: x\r\n\r\nx\r\n")
    for view in ("queue", "events"):
        desk.go(view)
        desk.page.get_by_text(HOSTILE).first.wait_for(timeout=WITHIN)
        assert desk.page.locator("main img").count() == 0


@pytest.mark.parametrize(
    "wanted", ["found@far.example", "<77@found.example>", "where is it", "nobody has this"]
)
def test_a_message_is_found_by_what_people_know_of_it(desk: Desk, wanted: str) -> None:
    with smtplib.SMTP("127.0.0.1", desk.server.port, local_hostname="client.example", timeout=30) as client:
        content = b"Message-ID: <77@found.example>\r\nSubject: Where  is it\r\n\r\nx\r\n"
        client.sendmail("anna@client.example", ["found@far.example"], content)
    desk.go("overview")
    desk.page.get_by_role("searchbox").fill(wanted)
    desk.press("Find")
    if wanted == "nobody has this":
        desk.see("No message is known with that")
    else:
        desk.see("found@far.example (queued)")


def test_pictures_of_each_view(desk: Desk, tmp_path: Path) -> None:
    """For the documents: with ELEMTA_PICTURES=docs/images they are kept, and there is more to see."""
    folder = Path(os.environ.get("ELEMTA_PICTURES", tmp_path)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _make_traffic(desk.server, 150 if folder != tmp_path else 0)
    page = desk.page
    views = {
        "overview": ("What waits, by domain", "light", (1180, 900)),
        "queue": ("erin@slow.example", "light", (1180, 560)),
        "destinations": ("Nothing is paused.", "light", (1180, 640)),
        "accounts": ("bert@ours.example", "light", (1180, 480)),
        "plugins": ("hello", "light", (1180, 420)),
        "running": ("scheduler", "dark", (1180, 700)),
        "events": ("live", "dark", (1180, 560)),
    }
    for view, (text, scheme, (width, height)) in views.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        desk.go(view)
        desk.see(text)
        if view == "events":
            send(desk.server, "bob@ours.example")
            desk.see("bob@ours.example")
        _take(page, folder / f"{view}.png")
    page.emulate_media(color_scheme="light")
    desk.go("queue?recipient=erin@slow.example")
    page.locator("a.id").first.click(timeout=WITHIN)
    desk.see("Why does it wait?")
    page.set_viewport_size({"width": 1180, "height": 820})
    _take(page, folder / "message.png")
    page.set_viewport_size({"width": 390, "height": 780})
    _take(page, folder / "message-phone.png")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.emulate_media(color_scheme="no-preference")


def _take(page: Any, file: Path) -> None:
    page.wait_for_timeout(500)  # what was just asked for is drawn
    page.screenshot(path=str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    assert 5_000 < file.stat().st_size < 200_000


def _make_traffic(server: RunningServer, seconds: int) -> None:
    send(server, "erin@slow.example", 2)
    send(server, "bob@ours.example", 5)
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        send(server, f"user{number % 7}@ours.example", 1 + number % 9)
        if number % 40 == 0:
            send(server, f"user{number}@far.example")
            send(server, "guest@other.example")
        time.sleep(0.15)


def test_a_domain_is_paused_and_resumed(desk: Desk) -> None:
    desk.go("destinations")
    desk.see("Nothing is paused.")
    desk.page.get_by_label("Which").fill("far.example")
    desk.page.locator("main form button").last.click(timeout=WITHIN)
    desk.page.locator("dialog button.main").click(timeout=WITHIN)
    desk.see("paused from the dashboard")
    desk.press("Resume")
    desk.see("Nothing is paused.")


def test_a_wrong_token_is_told_and_forgotten(desk: Desk) -> None:
    desk.press("Sign out")
    desk.page.get_by_label("Token").fill("not the token at all")
    desk.page.keyboard.press("Enter")
    desk.see("The server does not know this token.")
    assert desk.page.evaluate("sessionStorage.length") == 0
    desk.troubles[:] = [trouble for trouble in desk.troubles if "401" not in trouble]
    desk.page.get_by_label("Token").fill(desk.token)
    desk.page.keyboard.press("Enter")
    desk.page.get_by_role("link", name="Overview").wait_for(timeout=WITHIN)
