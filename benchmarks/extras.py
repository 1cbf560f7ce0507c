"""What it costs a relay to be watched, and to have plugins: rates side by side in one run, rotated, medians.

Each message is synced, relayed and counted at the sink, as in mta.py. Goals: all of events, metrics and a JSON log in
a file at most 20 % slower than none of it; ten idle plugins at most 15 % slower than none.
On a machine with other work, go by the processor time of the server for a message.
Usage: python benchmarks/extras.py [--rounds 3] [--messages 3000] [--sessions 20] [--size 4096] [--only watched]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mta

QUIET = '[logging]\nlevel = "error"\n'
IDLE = """
from elemta.plugin.api import Plugin, hook

class Idle(Plugin):
    @hook("{hook}")
    async def look(self) -> None:
        return None
"""


@contextlib.contextmanager
def quiet(folder: Path, sink: mta.Sink | None) -> Iterator[tuple[int, int]]:
    """No log, and nobody who watches."""
    with mta.elemta(folder, sink, more=QUIET) as running:
        yield running


@contextlib.contextmanager
def watched(folder: Path, sink: mta.Sink | None) -> Iterator[tuple[int, int]]:
    """A JSON log in a file, the admin port with its ring of events, and metrics that are read each second."""
    admin, end = mta.free_port(), threading.Event()
    more = (
        f'[admin]\naddress = "127.0.0.1:{admin}"\n[logging]\nformat = "off"\n[[logging.outputs]]\nto = "file"\n'
        f'format = "json"\npath = "{folder}/events.log"\n'
    )

    def scrape() -> None:
        while not end.wait(1):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read()

    with mta.elemta(folder, sink, more=more) as running:
        reader = threading.Thread(target=scrape)
        reader.start()
        try:
            yield running
        finally:
            end.set()
            reader.join()
    if (folder / "events.log").stat().st_size < 10_000:
        raise SystemExit("there is next to nothing in the log")


@contextlib.contextmanager
def plugins(hook: str, folder: Path, sink: mta.Sink | None) -> Iterator[tuple[int, int]]:
    """Ten plugins with a hook that has nothing to say."""
    file = folder / "idle.py"
    file.write_text(IDLE.format(hook=hook))
    file.chmod(0o600)
    folder.chmod(0o755)
    more = "".join(f'[[plugins]]\nname = "idle{number}"\npath = "{file}"\n' for number in range(10))
    with mta.elemta(folder, sink, more=QUIET + more) as running:
        yield running


VARIANTS = {
    "nothing": quiet,
    "events, metrics, JSON log": watched,
    "ten plugins that are not asked": functools.partial(plugins, "reload"),
    "ten plugins that are asked at RCPT": functools.partial(plugins, "rcpt"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 3), ("messages", 3000), ("sessions", 20), ("size", 4096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=["watched", "plugins"])
    given = parser.parse_args()
    names = list(VARIANTS)
    if given.only:
        names = names[:2] if given.only == "watched" else [names[0], *names[2:]]
    rates: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(given.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rate, cost = mta.measure_both("relay", VARIANTS[name], given.sessions, given.messages, given.size)
            rates[name].append(rate)
            costs[name].append(cost)
            print(f"{name:<36} {rate:>10.0f} {cost * 1e6:>10.0f}", flush=True)
    base, least = statistics.median(rates["nothing"]), statistics.median(costs["nothing"])
    print(
        f"{'relay with, medians':<36} {'messages/s':>10} {'of nothing':>11} {'µs each':>9} {'of nothing':>11}"
    )
    for name in names:
        rate, cost = statistics.median(rates[name]), statistics.median(costs[name])
        print(f"{name:<36} {rate:>10.0f} {rate / base:>11.0%} {cost * 1e6:>9.0f} {cost / least:>11.0%}")


if __name__ == "__main__":
    main()
