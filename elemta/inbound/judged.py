"""How a client is answered about whom the policy has something to say."""

from __future__ import annotations

import attrs

from elemta import smtp
from elemta.mail import Reply
from elemta.policy import Refusal

from .deadlines import Deadlines, Phase
from .dialogue import Dialogue
from .judge import Judge
from .wire import Wire


async def meet(
    judge: Judge, wire: Wire, connection: smtp.ServerConnection, deadlines: Deadlines
) -> Refusal | None:
    """Ask about a client that has just connected, and see whether it waits for the greeting."""
    deadlines.enter(Phase.POLICY)
    refusal = await judge.connected()
    if refusal is not None:
        return refusal
    delay = judge.greeting_delay()
    if delay > 0:
        await wire.wait_before_greeting(delay)
    # RFC 5321 §4.3.1: the client waits for the greeting
    return judge.early_talker() if connection.has_buffered else None


async def meet_another(judge: Judge, deadlines: Deadlines) -> Refusal | None:
    """Ask about the client that XCLIENT has named. Its refusal closes: nothing else does in mid-session."""
    deadlines.enter(Phase.POLICY)
    refusal = await judge.connected()
    return None if refusal is None else attrs.evolve(refusal, reply=attrs.evolve(refusal.reply, code=421))


async def answer_judged(
    command: smtp.Command | smtp.BadCommand, judge: Judge, dialogue: Dialogue, deadlines: Deadlines
) -> Reply:
    """What to reply to a command. The policy is asked only about what nothing else is against; what was
    done for a command that it refuses is undone."""
    refusal: Refusal | None = None
    if isinstance(command, (smtp.Ehlo, smtp.Helo, smtp.Lhlo)):
        # First: a hello that is refused changes nothing (RFC 5321 §4.1.4)
        if not dialogue.draining:
            deadlines.enter(Phase.POLICY)
            refusal = await judge.hello(command.hello)
        if refusal is None:
            return dialogue.answer(command)
        dialogue.commands += 1
    elif isinstance(command, smtp.Mail):
        reply = dialogue.answer(command)
        if reply.code >= 400:
            return reply
        deadlines.enter(Phase.POLICY)
        refusal = await judge.sender(command.path)
        if refusal is None:
            return reply
        dialogue.reset("refused")
    elif isinstance(command, smtp.Rcpt) and dialogue.transaction is not None:
        transaction = dialogue.transaction
        count = transaction.recipients
        reply = dialogue.answer(command)
        if reply.code >= 400 or transaction.recipients == count:
            return reply
        deadlines.enter(Phase.POLICY)
        refusal = await judge.recipient(transaction.sender, command.path.mailbox)
        if refusal is None:
            return reply
        transaction.forget_last_recipient()
    else:
        return dialogue.answer(command)
    dialogue.reason = refusal.reason
    return refusal.reply
