"""The `elemta` command: its groups, and errors as one line with an exit status."""

from __future__ import annotations

import click

import elemta

from . import (
    configure,
    destinations,
    dkim,
    dns,
    explain,
    flights,
    healthcheck,
    plugin,
    queue_actions,
    recipients,
    run,
    send,
    status,
    suppression,
    tail,
    tls,
    token,
    top,
    trace,
    tree,
    user,
)
from .errors import Trouble


class _Elemta(click.Group):
    """Prints what a user can act on as one line; only our own bugs show a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Trouble as trouble:
            for line in trouble.lines:
                click.echo(f"elemta: {line}", err=True)
            ctx.exit(trouble.status)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=_Elemta, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(elemta.__version__, prog_name="elemta")
def main() -> None:
    """A mail transfer agent: run it, look at it, steer it."""


main.add_command(run.run)
main.add_command(run.check)
main.add_command(configure.config)
main.add_command(queue_actions.queue)
main.add_command(status.status)
main.add_command(healthcheck.healthcheck)
main.add_command(send.send)
main.add_command(user.user)
main.add_command(recipients.recipients)
main.add_command(suppression.suppression)
main.add_command(tls.tls)
main.add_command(tail.tail)
main.add_command(token.token)
main.add_command(trace.trace)
main.add_command(top.top)
main.add_command(tree.tree)
main.add_command(tree.session)
main.add_command(tree.attempt)
main.add_command(explain.explain)
main.add_command(flights.flights)
main.add_command(destinations.destinations)
main.add_command(dkim.dkim)
main.add_command(dns.dns)
main.add_command(plugin.plugin)
