"""`elemta dkim generate|check`: make keys to sign with, and see whether DNS has them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import BAD_CONFIG, NOT_DONE, TRY_LATER, Trouble
from .options import config_option, json_option, read_config

if TYPE_CHECKING:
    from elemta.config import Config
    from elemta.dns import Resolver
    from elemta.policy import PublishedKey, SigningKey

_ALGORITHMS = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}


@click.group()
def dkim() -> None:
    """Keys that outgoing mail is signed with (DKIM), and their records in DNS."""


@dkim.command()
@click.argument("domain")
@click.option("-s", "--selector", help="Name of the key in DNS.  [default: the month, such as m202611]")
@click.option(
    "-a", "--algorithm", type=click.Choice(tuple(_ALGORITHMS)), default="rsa", show_default=True,
    help="Not all receivers know ed25519: use it besides a key of the other kind.",
)  # fmt: skip
@click.option(
    "--bits", type=click.IntRange(2048, 4096), default=2048, show_default=True,
    help="Length of an RSA key. Records of longer ones do not fit into one answer over UDP.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Key file.  [default: DOMAIN.SELECTOR.pem]"
)
@json_option
def generate(
    domain: str, selector: str | None, algorithm: str, bits: int, output: Path | None, as_json: bool
) -> None:
    """Make a key for DOMAIN, store it in a file for its owner only, and print its record for DNS.

    A file that is there is never overwritten.
    """
    from elemta.config import BadValue, SigningAlgorithm, parse_domain_name, parse_selector  # noqa: PLC0415 - keeps `--help` quick  # noqa: PLC0415
    from elemta.policy import key_name, make_key, record_strings, write_key, zone_line  # noqa: PLC0415

    try:
        name = parse_domain_name(domain).text
        chosen = parse_selector(selector or time.strftime("m%Y%m", time.gmtime()))
    except BadValue as error:
        raise click.UsageError(str(error)) from error
    key = make_key(SigningAlgorithm(_ALGORITHMS[algorithm]), bits)
    path = output or Path(f"{name}.{chosen}.pem")
    try:
        write_key(path, key)
    except FileExistsError as error:
        raise Trouble(NOT_DONE, f"{path} is there already: remove it, or choose another selector") from error
    except OSError as error:
        raise Trouble(NOT_DONE, f"{path} cannot be made: {error.strerror}") from error
    record = key.record()
    if as_json:
        _print_json(
            {
                "domain": name,
                "selector": chosen,
                "algorithm": str(key.algorithm),
                "bits": key.bits,
                "file": str(path),
                "name": key_name(chosen, name),
                "record": record,
                "strings": record_strings(record),
            }
        )
        return
    click.echo(f"The key is in {path}. Publish this record:\n")
    click.echo(zone_line(key_name(chosen, name), record))
    click.echo("\nand when 'elemta dkim check' has found it, sign with the key:\n")
    click.echo(f'[[signing]]\ndomain = "{name}"\nselector = "{chosen}"\nkey = {_toml_text(str(path))}')


@dkim.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Compare the keys of [[signing]] and of [policy.arc] with their records in DNS.

    The exit status is 1 if a record is missing or wrong, 75 if DNS did not answer, 78 if a key file cannot
    be used.
    """
    import trio  # noqa: PLC0415

    config = read_config(config_file)
    keys = _load_keys(config)
    found = trio.run(_look_up, config, keys)
    if as_json:
        rows = zip(keys, found, strict=True)
        _print_json({"keys": [_as_json(where, key, each) for (where, _, _, key), each in rows]})
    else:
        _show(keys, found)
    states = {each.state.value for each in found}
    if states - {"ok", "unknown"}:
        raise Trouble(NOT_DONE, "a key is not in DNS as it should be")
    if "unknown" in states:
        raise Trouble(TRY_LATER, "DNS did not answer for a key")


_Named = tuple[str, str, str, "SigningKey"]
"""Where in the configuration, domain, selector, key."""


def _load_keys(config: Config) -> list[_Named]:
    """All keys, with all troubles told at once."""
    from elemta.policy import SigningError, credentials_folder, load_entries, load_sealing_key  # noqa: PLC0415

    found: list[_Named] = []
    troubles: list[str] = []
    credentials = credentials_folder()
    try:
        for entry in load_entries(config.signing, credentials, config.domains.local):
            found.append((f"signing[{entry.index}]", entry.domain, entry.selector, entry.key))
    except SigningError as error:
        troubles += str(error).splitlines()
    try:
        sealing = load_sealing_key(config.policy.arc, credentials)
        if sealing is not None:
            found.append(("policy.arc", sealing.domain, sealing.selector, sealing.key))
    except SigningError as error:
        troubles += str(error).splitlines()
    if troubles:
        raise Trouble(BAD_CONFIG, *troubles)
    if not found:
        raise Trouble(NOT_DONE, "no key: make one with 'elemta dkim generate', and add [[signing]]")
    return found


async def _look_up(config: Config, keys: list[_Named]) -> list[PublishedKey]:
    """Ask DNS for all of them at once."""
    from elemta.dns import open_resolver  # noqa: PLC0415

    async with open_resolver(config.dns) as resolver:
        return await look_up_keys(resolver, keys)


async def look_up_keys(resolver: Resolver, keys: list[_Named]) -> list[PublishedKey]:
    """What there is for each of them."""
    import trio  # noqa: PLC0415

    from elemta.policy import look_up_key  # noqa: PLC0415

    found: dict[int, PublishedKey] = {}

    async def look(index: int) -> None:
        _, domain, selector, key = keys[index]
        found[index] = await look_up_key(resolver, domain, selector, key)

    async with trio.open_nursery() as nursery:
        for index in range(len(keys)):
            nursery.start_soon(look, index)
    return [found[index] for index in range(len(keys))]


def _as_json(where: str, key: SigningKey, found: PublishedKey) -> dict[str, Any]:
    return {
        "setting": where,
        "name": found.name,
        "algorithm": str(key.algorithm),
        "bits": key.bits,
        "state": found.state.value,
        "notes": list(found.notes),
        "record": key.record(),
    }


def _show(keys: list[_Named], found: list[PublishedKey]) -> None:
    from elemta.policy import zone_line  # noqa: PLC0415

    from .console import table  # noqa: PLC0415

    rows = [
        [where, each.name, str(key.algorithm), str(key.bits), each.state.value, "; ".join(each.notes)]
        for (where, _, _, key), each in zip(keys, found, strict=True)
    ]
    table(("setting", "record", "algorithm", "bits", "state", "notes"), rows, right=("bits",))
    for (_, _, _, key), each in zip(keys, found, strict=True):
        if each.state.value not in ("ok", "unknown"):
            click.echo(f"\nPublish this record:\n{zone_line(each.name, key.record())}")


def _print_json(report: dict[str, Any]) -> None:
    import msgspec  # noqa: PLC0415

    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def _toml_text(text: str) -> str:
    """A string as TOML writes it; JSON writes such strings the same way."""
    import json  # noqa: PLC0415

    return json.dumps(text)
