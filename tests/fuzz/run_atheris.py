"""Run one target under atheris (libFuzzer): python -m fuzz.run_atheris TARGET [libFuzzer options] [corpus folder].

In a checkout, with PYTHONPATH=tests. Seeds and words are written to ./fuzz-TARGET. An input that breaks the invariant
is saved as `crash-…`, and runs again with `python -m fuzz.targets TARGET crash-…`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["elemta.smtp", "elemta.mail"]):
    from fuzz.targets import SEEDS, TARGETS, WORDS


def quoted(word: bytes) -> str:
    """A line of a libFuzzer dictionary."""
    octets = "".join(f"\\x{octet:02x}" for octet in word)
    return f'"{octets}"\n'


def main() -> None:
    name, *options = sys.argv[1:]
    # No temporary folder: libFuzzer ends the process without coming back
    folder = Path(f"fuzz-{name}")
    seeds, words = folder / "seeds", folder / "words"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (seeds / str(number)).write_bytes(seed)
    words.write_text("".join(quoted(word) for word in WORDS if word))
    # New inputs go to the first folder, which is the corpus where one is given
    arguments = [f"-dict={words}", "-max_len=4096", "-len_control=10", *options, str(seeds)]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
