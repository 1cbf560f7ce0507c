"""`elemta token add|list|revoke`: who may use the admin port, and for what, whether a server runs or not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import BAD_CONFIG, NOT_DONE, STORAGE, TRY_LATER, Trouble
from .options import config_option, dev_option, json_option, read_for_client

if TYPE_CHECKING:
    from elemta.admin import ApiToken
    from elemta.config import Config

_SCOPES = ("read", "operate", "admin", "submit")


@click.group()
def token() -> None:
    """Tokens for the REST API, the metrics and the live events on the admin port.

    They are in the file api-tokens of the state folder, as digests: a token is shown once, when it is made.
    A running server sees changes at once.
    """


@token.command()
@config_option
@dev_option
@json_option
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    required=True,
    help="What it is for: read looks, operate steers the queue too, admin is everything; submit hands in "
    "messages. May be repeated.",
)
@click.option("--days", type=click.IntRange(1, 36500), help="It ends by itself after so many days.")
@click.argument("name")
def add(
    config_file: Path | None, dev: bool, as_json: bool, scopes: tuple[str, ...], days: int | None, name: str
) -> None:
    """Make a token with the name NAME, and print it."""
    from elemta.admin import ApiToken, Scope, check_name, digest_of, make_token  # noqa: PLC0415

    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    secret, now = make_token(), float(int(time.time()))
    ends = None if days is None else now + days * 86400
    with _editing(read_for_client(config_file, dev)) as tokens:
        if name in tokens:
            raise Trouble(NOT_DONE, f"there is a token {name} already: 'elemta token revoke' ends it")
        tokens[name] = ApiToken(name, frozenset(map(Scope, scopes)), digest_of(secret), now, ends)
    if as_json:
        click.echo(json.dumps({**_as_json(tokens[name]), "token": secret}))
    else:
        click.echo(secret)


@token.command("list")
@config_option
@dev_option
@json_option
def list_(config_file: Path | None, dev: bool, as_json: bool) -> None:
    """List the tokens; what they are cannot be told again."""
    from elemta.admin import TOKENS_FILE, load_tokens  # noqa: PLC0415
    from elemta.auth import AuthFilesError  # noqa: PLC0415

    config = read_for_client(config_file, dev)
    try:
        tokens = load_tokens(config.state_dir / TOKENS_FILE)
    except AuthFilesError as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    if as_json:
        click.echo(json.dumps({"tokens": [_as_json(each) for each in tokens.values()]}, indent=2))
        return
    if not tokens:
        click.echo("there are no tokens")
        return
    from .console import table  # noqa: PLC0415

    rows = [(each, _as_json(each)) for each in tokens.values()]
    table(
        ("name", "scopes", "made", "ends"),
        [
            (each.name, ", ".join(sorted(each.scopes)), str(row["made"]), str(row["ends"] or "never"))
            for each, row in rows
        ],
    )


@token.command()
@config_option
@dev_option
@json_option
@click.argument("name")
def revoke(config_file: Path | None, dev: bool, as_json: bool, name: str) -> None:
    """End the token NAME, at once."""
    with _editing(read_for_client(config_file, dev)) as tokens:
        if tokens.pop(name, None) is None:
            raise Trouble(NOT_DONE, f"there is no token {name}")
    click.echo(json.dumps({"revoked": name}) if as_json else f"revoked {name}")


@contextmanager
def _editing(config: Config) -> Iterator[dict[str, ApiToken]]:
    """The tokens to be changed, and what may go wrong as lines."""
    from elemta.admin import TOKENS_FILE, TokensBusy, edit_tokens  # noqa: PLC0415
    from elemta.auth import AuthFilesError, Ownership  # noqa: PLC0415

    path = config.state_dir / TOKENS_FILE
    try:
        with edit_tokens(path, Ownership.beside(config.state_dir)) as tokens:
            yield tokens
    except AuthFilesError as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    except TokensBusy as error:
        raise Trouble(TRY_LATER, str(error)) from error
    except FileNotFoundError as error:
        raise Trouble(NOT_DONE, f"there is no folder {config.state_dir}: start the server first") from error
    except OSError as error:
        raise Trouble(STORAGE, f"{path}: {error.strerror or error}") from error


def _as_json(each: ApiToken) -> dict[str, object]:
    name, scopes, _, made, *ends = each.format().split()
    return {"name": name, "scopes": scopes.split(","), "made": made, "ends": ends[0] if ends else None}
