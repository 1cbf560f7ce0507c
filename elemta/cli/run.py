"""`elemta run` and `elemta check`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import BAD_CONFIG, NOT_DONE, STORAGE, TRY_LATER, Trouble
from .options import config_option, find_config, json_option, read_config

if TYPE_CHECKING:
    from elemta.app import Capture
    from elemta.config import Config


@click.command()
@config_option
@click.option("--dev", is_flag=True, help="No TLS, no accounts; mail is captured and shown, never sent.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Listen on this port instead of the first listener's."
)
@click.option(
    "--no-auth-required", is_flag=True, help="Clients on this machine may send anywhere without an account."
)
def run(config_file: Path | None, dev: bool, port: int | None, no_auth_required: bool) -> None:
    """Run the server until SIGTERM or SIGINT; SIGHUP reloads the configuration."""
    from elemta import app  # noqa: PLC0415 - keeps `--help` quick
    from elemta.config import load_config  # noqa: PLC0415

    app.open_standard_descriptors()
    if dev and config_file is None:
        try:
            config = app.default_config(port if port is not None else app.free_port())
        except app.NoFreePort as error:
            raise Trouble(TRY_LATER, str(error)) from error
        _serve(config, None, _capture(config))
        return
    path = find_config(config_file)  # once: a reload reads the same file

    def adapt(config: Config) -> Config:
        if dev:
            config = app.for_development(config)
        elif no_auth_required:
            config = app.without_auth(config)
        return config if port is None else app.with_port(config, port)

    config = adapt(read_config(path))
    if not config.listeners:
        raise Trouble(BAD_CONFIG, "no [[listeners]]: there is nothing to run")
    # A reload is to meet mistakes as ConfigError, which it tells, not as the end of a command.
    _serve(config, lambda: adapt(load_config(path)), _capture(config) if dev else None, path)


def _capture(config: Config) -> Capture:
    from elemta.app import Capture  # noqa: PLC0415

    from .console import show_captured  # noqa: PLC0415

    return Capture(config.state_dir / "captured", show_captured)


def _serve(
    config: Config,
    read_again: Callable[[], Config] | None,
    capture: Capture | None,
    file: Path | None = None,
) -> None:
    import trio  # noqa: PLC0415

    from elemta import app  # noqa: PLC0415
    from elemta.admin import TokenError  # noqa: PLC0415
    from elemta.auth import AuthFilesError  # noqa: PLC0415
    from elemta.config import SettingsError, locate  # noqa: PLC0415
    from elemta.inbound import BindError, bind_all  # noqa: PLC0415
    from elemta.policy import SigningError  # noqa: PLC0415
    from elemta.routing import RecipientsFileError, SrsSecretsError  # noqa: PLC0415
    from elemta.runtime import leaves  # noqa: PLC0415
    from elemta.spool import SpoolForeign, SpoolFull, SpoolInUse, SpoolUnavailable  # noqa: PLC0415
    from elemta.tls import TlsFilesError  # noqa: PLC0415

    from .console import announce  # noqa: PLC0415

    try:
        inherited = app.inherited_sockets(os.environ)
        bound = bind_all(config.listeners, inherited=inherited)
    except BindError as error:
        raise Trouble(TRY_LATER if error.in_use else BAD_CONFIG, str(error)) from error
    try:
        if capture is not None:
            capture.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            announce(config, bound, capture)
        # What was imported lives as long as the process, and mail makes next to no cycles: looking for them
        # every 700 objects would cost a tenth of the time.
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        logs = app.open_logs(config, colour=sys.stderr.isatty())
        with logs.taking_all():
            trio.run(
                partial(
                    app.run,
                    config,
                    bound,
                    logs=logs,
                    read_again=read_again,
                    capture=capture,
                    inherited=inherited,
                )
            )
    except Exception as error:
        # One storage error may stand in several branches of the tree: the first that explains all wins.
        for leaf in leaves(error):
            match leaf:
                case SpoolInUse():
                    raise Trouble(TRY_LATER, str(leaf)) from error
                case SpoolForeign() | SpoolFull() | SpoolUnavailable():
                    raise Trouble(STORAGE, str(leaf)) from error
                case SettingsError():
                    said = str(leaf) if file is None else str(locate(leaf, file))
                    raise Trouble(BAD_CONFIG, said) from error
                case (
                    TokenError()
                    | app.WishesDamaged()
                    | TlsFilesError()
                    | AuthFilesError()
                    | RecipientsFileError()
                    | SrsSecretsError()
                    | SigningError()
                ):
                    raise Trouble(BAD_CONFIG, str(leaf)) from error
                case PermissionError() | FileNotFoundError() | NotADirectoryError():
                    raise Trouble(STORAGE, f"{leaf.filename}: {leaf.strerror}") from error
                case OSError() if leaf.filename:
                    raise Trouble(TRY_LATER, f"{leaf.filename}: {leaf.strerror}") from error
        raise
    finally:
        for listener in bound:
            listener.close()


@click.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Validate the configuration; show what would listen, where state lives, what bounds every wait."""
    from elemta.auth import AuthFilesError, TableUnusable  # noqa: PLC0415
    from elemta.config import SettingsError, describe, locate  # noqa: PLC0415
    from elemta.plugin import load_plugins  # noqa: PLC0415
    from elemta.policy import SigningError, credentials_folder, load_keys  # noqa: PLC0415
    from elemta.routing import RecipientsFileError, Router, SrsSecretsError  # noqa: PLC0415
    from elemta.tls import TlsContexts, TlsFilesError  # noqa: PLC0415

    path = find_config(config_file)
    config = read_config(path)
    try:
        load_plugins(config.plugins)
    except SettingsError as error:
        raise Trouble(BAD_CONFIG, str(locate(error, path))) from error
    try:
        TlsContexts(config.tls)
        Router(config)
        load_keys(config, credentials_folder())
        _examine_accounts(config)
    except (
        TlsFilesError,
        RecipientsFileError,
        SrsSecretsError,
        SigningError,
        AuthFilesError,
        TableUnusable,
    ) as error:
        raise Trouble(BAD_CONFIG, *str(error).splitlines()) from error
    description = describe(config)
    if as_json:
        import msgspec  # noqa: PLC0415

        sys.stdout.buffer.write(msgspec.json.encode(description, enc_hook=str) + b"\n")
    else:
        click.echo(str(description))
    if not config.listeners:
        raise Trouble(NOT_DONE, "no [[listeners]]: 'elemta run' would refuse to start")


def _examine_accounts(config: Config) -> None:
    """Read all accounts, or ask those who have them about one that nobody has."""
    from random import SystemRandom  # noqa: PLC0415

    import trio  # noqa: PLC0415

    from elemta.auth import StoreUnavailable, examine_store, has_logins  # noqa: PLC0415
    from elemta.runtime import SystemClock  # noqa: PLC0415

    if not has_logins(config):
        return
    store = examine_store(config, SystemRandom(), SystemClock())
    try:
        trio.run(store.find, "elemta-check")
    except StoreUnavailable as error:
        # the configuration may be right, and the machine this is checked on another one
        click.echo(f"warning: {error}: as long as it is so, nobody can log in", err=True)
