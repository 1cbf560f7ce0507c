"""`elemta user add|passwd|set|list|remove`: accounts of a file or a table, whether a server runs or not."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import BAD_CONFIG, NOT_DONE, STORAGE, TRY_LATER, Trouble
from .options import F, config_option, json_option, read_config

if TYPE_CHECKING:
    from elemta.auth import AccountsChange, SenderPattern, UserRecord
    from elemta.config import Config

LONGEST_INPUT = 8192
"""Octets of a password on standard input."""


@click.group()
def user() -> None:
    """Accounts: who may log in, and which sender addresses they may use.

    They are in the file that `users` in [auth] names, or the table of `database`. A running server sees
    changes at once. Passwords are asked for, or read from standard input when that is no terminal; never
    given on the command line.
    """


def _app_option(what: str) -> Callable[[F], F]:
    return click.option("--app", metavar="NAME", help=f"{what} the app password of this name.")


def _generate_option(function: F) -> F:
    return click.option("--generate", is_flag=True, help="Make a strong password and print it.")(function)


def _send_as_option(what: str) -> Callable[[F], F]:
    text = f"{what}: user@example.org, *@example.org, *@*.example.org, or * for any. May be repeated."
    return click.option("--send-as", "send_as", metavar="ADDRESS", multiple=True, help=text)


@user.command()
@config_option
@json_option
@_app_option("Only, and also for an account that is there,")
@_send_as_option("Sender address besides the account's own name")
@_generate_option
@click.argument("name")
def add(
    config_file: Path | None,
    as_json: bool,
    app: str | None,
    send_as: tuple[str, ...],
    generate: bool,
    name: str,
) -> None:
    """Add the account NAME, such as alice@example.org, or an app password to it."""
    from elemta.auth import Account, UserRecord  # noqa: PLC0415 - keeps `--help` quick

    config = read_config(config_file)
    name, credential = _account_name(name), _credential(app)
    patterns = _patterns(send_as)
    with _editing(config) as users:
        record = users.find(name)
        if record is not None and app is None:
            raise Trouble(NOT_DONE, f"{name} is there already: 'elemta user passwd' sets its password")
        if record is not None and any(secret.credential == credential for secret in record.secrets):
            raise Trouble(NOT_DONE, f"{name} has an app password {app} already: 'elemta user passwd' sets it")
        if record is not None and patterns:
            raise Trouble(
                NOT_DONE, f"{name} is there already: 'elemta user set' changes its sender addresses"
            )
        password = _password(generate)
        record = record or UserRecord(Account(name, patterns))
        users.put(_with_secret(config, record, credential, password))
    what = f"added {name}" if app is None else f"added app password {app} of {name}"
    _tell(as_json, "added", name, credential, password if generate else None, what)


@user.command()
@config_option
@json_option
@_app_option("Set, or add,")
@_generate_option
@click.argument("name")
def passwd(config_file: Path | None, as_json: bool, app: str | None, generate: bool, name: str) -> None:
    """Set the password of the account NAME."""
    config = read_config(config_file)
    name, credential = _account_name(name), _credential(app)
    with _editing(config) as users:
        record = _found(users, name)
        password = _password(generate)
        users.put(_with_secret(config, record, credential, password))
    what = f"set the password of {name}" if app is None else f"set app password {app} of {name}"
    _tell(as_json, "set", name, credential, password if generate else None, what)


@user.command("set")
@config_option
@json_option
@_send_as_option("Sender address, in place of all that were set before")
@click.option("--no-send-as", is_flag=True, help="No sender address but the account's own name.")
@click.option("--enable/--disable", "enable", default=None, help="Whether it may log in and send.")
@click.argument("name")
def set_(
    config_file: Path | None,
    as_json: bool,
    send_as: tuple[str, ...],
    no_send_as: bool,
    enable: bool | None,
    name: str,
) -> None:
    """Change what the account NAME may do."""
    import attrs  # noqa: PLC0415

    if send_as and no_send_as:
        raise click.UsageError("--send-as and --no-send-as do not go together")
    if not send_as and not no_send_as and enable is None:
        raise click.UsageError("say what to change: --send-as, --no-send-as, --enable or --disable")
    config = read_config(config_file)
    name = _account_name(name)
    with _editing(config) as users:
        record = _found(users, name)
        if send_as or no_send_as:
            record = attrs.evolve(record, account=attrs.evolve(record.account, send_as=_patterns(send_as)))
        if enable is not None:
            record = attrs.evolve(record, disabled=not enable)
        users.put(record)
    if as_json:
        click.echo(json.dumps(record.shown()))
    else:
        click.echo(f"changed {name}")


@user.command()
@config_option
@json_option
@_app_option("Only")
@click.argument("name")
def remove(config_file: Path | None, as_json: bool, app: str | None, name: str) -> None:
    """Remove the account NAME, or one of its app passwords."""
    import attrs  # noqa: PLC0415

    config = read_config(config_file)
    name, credential = _account_name(name), _credential(app)
    with _editing(config) as users:
        record = _found(users, name)
        if app is None:
            users.remove(name)
        else:
            kept = tuple(secret for secret in record.secrets if secret.credential != credential)
            if len(kept) == len(record.secrets):
                raise Trouble(NOT_DONE, f"{name} has no app password {app}")
            users.put(attrs.evolve(record, secrets=kept))
    what = f"removed {name}" if app is None else f"removed app password {app} of {name}"
    _tell(as_json, "removed", name, None if app is None else credential, None, what)


@user.command("list")
@config_option
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """List the accounts, without any secret, and those whose mail is held (policy.breaker)."""
    from elemta.auth import AccountsElsewhere, AuthFilesError, TableUnusable, list_accounts  # noqa: PLC0415
    from elemta.policy import read_held  # noqa: PLC0415
    from elemta.runtime import escape_text  # noqa: PLC0415

    config = read_config(config_file)
    try:
        users = list_accounts(config.auth)
    except (AuthFilesError, AccountsElsewhere) as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    except TableUnusable as error:
        raise Trouble(STORAGE, str(error)) from error
    records = sorted(users.records.values(), key=lambda record: record.account.name)
    try:
        held = read_held(config.state_dir)
    except OSError as error:
        raise Trouble(STORAGE, f"{error.filename}: {error.strerror}") from error
    if as_json:
        accounts = [record.shown() | {"held": held.get(record.account.name)} for record in records]
        click.echo(json.dumps({"accounts": accounts}, indent=2))
        return
    if not records:
        click.echo("there are no accounts")
        return
    from .console import table  # noqa: PLC0415

    table(
        ("account", "state", "may also send as", "passwords", "SCRAM"),
        [
            (
                record.account.name,
                "disabled" if record.disabled else "held" if record.account.name in held else "enabled",
                ", ".join(map(str, record.account.send_as)) or "-",
                ", ".join(secret.credential for secret in record.secrets) or "-",
                "yes" if record.scram() else "no",
            )
            for record in records
        ],
    )
    for account, finding in held.items():  # also addresses of trusted clients
        click.echo(escape_text(f"mail of {account} is held: {finding}"))


def _held_command(name: str, action: str, past: str, summary: str) -> None:
    @user.command(name, help=summary)
    @config_option
    @json_option
    @click.argument("name")
    def command(config_file: Path | None, as_json: bool, name: str) -> None:
        from elemta.policy import hold_reason, let_go  # noqa: PLC0415

        from .queue_actions import act_on_held  # noqa: PLC0415

        config = read_config(config_file)
        account = _account_name(name)
        try:
            held = let_go(config.state_dir, account)
        except OSError as error:
            raise Trouble(STORAGE, f"{config.state_dir}: {error.strerror or error}") from error
        count = act_on_held(config, action, past, hold_reason(account))
        if as_json:
            click.echo(json.dumps({"account": account, "held": held, "recipients": count}))
        else:
            click.echo(f"{account}: {count} recipient{'' if count == 1 else 's'} {past}")
        if not held and not count:
            raise Trouble(NOT_DONE, f"{account} is not held, and nothing of it is")


_held_command(
    "release",
    "release",
    "released",
    "Let the account NAME send again, and its held mail go (policy.breaker).",
)
_held_command(
    "purge",
    "remove",
    "removed",
    "Let the account NAME send again, and remove its held mail (policy.breaker).",
)


@contextmanager
def _editing(config: Config) -> Iterator[AccountsChange]:
    """The accounts to be changed, and what may go wrong as lines."""
    from elemta.auth import (  # noqa: PLC0415
        AccountsElsewhere,
        AuthFilesError,
        Ownership,
        TableUnusable,
        UsersBusy,
        edit_accounts,
    )

    try:
        with edit_accounts(config.auth, Ownership.beside(config.state_dir)) as users:
            yield users
    except (AuthFilesError, AccountsElsewhere) as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    except UsersBusy as error:
        raise Trouble(TRY_LATER, str(error)) from error
    except TableUnusable as error:
        raise Trouble(STORAGE, str(error)) from error
    except OSError as error:
        raise Trouble(STORAGE, f"{config.auth.users}: {error.strerror or error}") from error


def _with_secret(config: Config, record: UserRecord, credential: str, password: str) -> UserRecord:
    from elemta.auth import Ownership, with_secret  # noqa: PLC0415

    ownership = Ownership.beside(config.state_dir)
    return with_secret(record, credential, password, config.auth, random.SystemRandom(), ownership)


def _found(users: AccountsChange, name: str) -> UserRecord:
    record = users.find(name)
    if record is None:
        raise Trouble(NOT_DONE, f"there is no account {name}")
    return record


def _account_name(text: str) -> str:
    from elemta.auth import NotPrepared, prepare_name  # noqa: PLC0415

    try:
        name = prepare_name(text)
    except NotPrepared as error:
        raise click.BadParameter(f"not the name of an account: {error}", param_hint="NAME") from error
    if name.startswith("#"):
        raise click.BadParameter("not the name of an account: it begins like a comment", param_hint="NAME")
    return name


def _credential(app: str | None) -> str:
    from elemta.auth import app_credential  # noqa: PLC0415

    if app is None:
        return "password"
    try:
        return app_credential(app)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--app") from error


def _patterns(texts: tuple[str, ...]) -> tuple[SenderPattern, ...]:
    from elemta.auth import parse_sender_pattern  # noqa: PLC0415
    from elemta.config import BadValue  # noqa: PLC0415

    try:
        return tuple(dict.fromkeys(parse_sender_pattern(text) for text in texts))
    except BadValue as error:
        raise click.BadParameter(str(error), param_hint="--send-as") from error


def _password(generate: bool) -> str:
    """Asked for twice at a terminal, else the first line of standard input."""
    from elemta.auth import NotPrepared, make_password, prepare_password  # noqa: PLC0415

    if generate:
        return make_password(random.SystemRandom())
    if sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    else:
        line = sys.stdin.buffer.readline(LONGEST_INPUT)
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Trouble(NOT_DONE, "the password is not UTF-8") from None
        if not text:
            raise Trouble(NOT_DONE, "no password: it is read from the first line of standard input")
    try:
        return prepare_password(text)
    except NotPrepared as error:
        raise Trouble(NOT_DONE, f"the password cannot be used: {error}") from error


def _tell(
    as_json: bool, action: str, name: str, credential: str | None, generated: str | None, text: str
) -> None:
    if as_json:
        said = {"action": action, "account": name, "credential": credential, "password": generated}
        click.echo(json.dumps({key: value for key, value in said.items() if value is not None}))
        return
    from elemta.runtime import escape_text  # noqa: PLC0415

    click.echo(escape_text(text))
    if generated is not None:
        click.echo(generated)
