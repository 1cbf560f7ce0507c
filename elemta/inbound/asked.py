"""How a client is answered about whom plugins have something to say."""

from __future__ import annotations

import attrs

from elemta import smtp
from elemta.delivery import Verdict, Verifier
from elemta.mail import Reply, replies
from elemta.plugin import HookArguments

from .deadlines import Deadlines, Phase
from .dialogue import Dialogue
from .panel import Panel


async def answer_asked(
    command: smtp.Command | smtp.BadCommand,
    panel: Panel,
    dialogue: Dialogue,
    deadlines: Deadlines,
    reply: Reply,
    before: int,
) -> Reply:
    """The reply to a command that nothing else is against, or the plugins' refusal; then what was done for
    the command is undone. Of recipients there were so many `before` it."""
    transaction = dialogue.transaction
    if isinstance(command, smtp.Mail) and panel.has("mail"):
        deadlines.enter(Phase.PLUGIN)
        refusal = await panel.ask("mail", dialogue.arguments())
        if refusal is None:
            return reply
        dialogue.reset("refused")
    elif isinstance(command, smtp.Rcpt) and transaction is not None and panel.has("rcpt"):
        if transaction.recipients == before:  # one that is there already
            return reply
        deadlines.enter(Phase.PLUGIN)
        asked = attrs.evolve(dialogue.arguments(), recipient=transaction.last_recipient)
        refusal = await panel.ask("rcpt", asked)
        if refusal is None:
            return reply
        transaction.forget_last_recipient()
    else:
        return reply
    dialogue.reason = refusal.reason
    return refusal.reply


async def ask_table(
    command: smtp.Command | smtp.BadCommand, dialogue: Dialogue, deadlines: Deadlines
) -> Reply | None:
    """Look a recipient up where a table says who exists; the refusal where that cannot be done now."""
    transaction = dialogue.transaction
    if not isinstance(command, smtp.Rcpt) or transaction is None or dialogue.draining:
        return None
    if not transaction.has_to_ask(command.path):
        return None
    deadlines.enter(Phase.POLICY)
    reply = await transaction.look_up(command.path)
    if reply is not None:
        dialogue.commands += 1
        dialogue.reason = "recipients cannot be looked up"
    return reply


async def answer_verified(
    command: smtp.Rcpt,
    verifier: Verifier,
    dialogue: Dialogue,
    deadlines: Deadlines,
    reply: Reply,
    before: int,
) -> Reply:
    """The reply to a recipient that nothing here is against, or what follows from its next hop's word.
    Of recipients there were so many `before` it."""
    transaction = dialogue.transaction
    if transaction is None or transaction.recipients == before:
        return reply
    mailbox = transaction.last_to_verify
    if mailbox is None or not verifier.may_ask(mailbox):
        return reply
    deadlines.enter(Phase.POLICY)
    verdict = await verifier.ask(mailbox)
    refusal = refusal_of(verdict, verifier)
    if refusal is None:
        return reply
    transaction.forget_last_recipient()
    dialogue.reason = f"its next hop says: {verdict}"
    return refusal


def refusal_of(verdict: Verdict, verifier: Verifier) -> Reply | None:
    """What follows from the word of the next hop about a recipient; None: it is taken."""
    match verdict:
        case Verdict.REFUSED:
            return replies.MAILBOX_UNKNOWN
        case Verdict.UNKNOWN if verifier.defers_unknown:
            return replies.CANNOT_BE_VERIFIED
        case _:
            return None


async def ask_before(
    command: smtp.Command | smtp.BadCommand, panel: Panel, dialogue: Dialogue, deadlines: Deadlines
) -> Reply | None:
    """Ask about what cannot be undone: a hello, the begin of a body. None: nobody is against it."""
    if dialogue.draining:
        return None
    if isinstance(command, (smtp.Ehlo, smtp.Helo, smtp.Lhlo)) and panel.has("hello"):
        deadlines.enter(Phase.PLUGIN)
        session = dialogue.session_view(hello=command.hello)
        refusal = await panel.ask("hello", HookArguments(session=session))
    elif (
        isinstance(command, (smtp.Data, smtp.Bdat)) and dialogue.transaction is not None and panel.has("data")
    ):
        deadlines.enter(Phase.PLUGIN)
        refusal = await panel.ask("data", dialogue.arguments())
    else:
        return None
    if refusal is None:
        return None
    dialogue.commands += 1
    dialogue.reason = refusal.reason
    return refusal.reply
