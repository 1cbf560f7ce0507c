"""Who stands behind the recipients of a message, and the word to its sender that there are several.

RFC 3461 §5.2.7.3 lets us choose for an alias with several mailboxes: what the sender asked for goes on to
each of them but for NOTIFY=SUCCESS, and where he asked for that he is told that his message was expanded. For
an alias with one mailbox everything goes on (§5.2.7.2).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

import attrs

from elemta.mail import (
    Action,
    DsnOptions,
    DsnRecipient,
    DsnReport,
    Envelope,
    Mailbox,
    MessageId,
    Notify,
    Recipient,
    replies,
)
from elemta.spool import NewMessage, new_notice


@attrs.frozen
class Expansion:
    """The recipients to deliver to, each once, and which of those named stood for several."""

    recipients: tuple[Recipient, ...]
    expanded: tuple[Recipient, ...] = ()
    """As the client named them."""

    @property
    def told(self) -> tuple[Recipient, ...]:
        """Those whose expansion the sender wants to know of."""
        return tuple(each for each in self.expanded if Notify.SUCCESS in each.notify)


def expand(
    recipients: Iterable[tuple[Mailbox, Recipient]],
    behind: Callable[[Mailbox], tuple[Mailbox, ...]],
    sender: Callable[[Mailbox], Mailbox | None] = lambda target: None,
    *,
    added: Container[Mailbox] = (),
) -> Expansion:
    """Replace each recipient by those behind it. `sender` says who sends it on there, where that is another
    than the envelope says; it is asked about those behind others, and those `added` here."""
    found: dict[Mailbox, Recipient] = {}
    expanded = []
    for mailbox, recipient in recipients:
        targets = behind(mailbox)
        if targets == (mailbox,):
            if mailbox in added:
                recipient = attrs.evolve(recipient, sender=sender(mailbox))
            known = found.get(mailbox)
            found[mailbox] = recipient if known is None else _named_twice(recipient, known.dsn)
            continue
        several = len(targets) > 1
        if several:
            expanded.append(recipient)
        options = _through_alias(recipient, several=several)
        for target in targets:
            if target in found:
                found[target] = _named_twice(found[target], options)
            else:
                found[target] = Recipient(target, options, None if target == mailbox else sender(target))
    return Expansion(tuple(found.values()), tuple(expanded))


def expanded_notice(
    expansion: Expansion,
    envelope: Envelope,
    *,
    hostname: str,
    notice: MessageId,
    original: MessageId,
    header: bytes,
    now: float,
    sign: Callable[[bytes], bytes],
) -> NewMessage | None:
    """What the sender is to be told of the expansion, if anything; `header`: of the message as stored."""
    told = expansion.told
    if not told or envelope.reverse_path.is_null:
        return None
    report = DsnReport(
        hostname=hostname,
        message=notice,
        time=now,
        original=original,
        envelope=envelope,
        arrival=now,
        recipients=tuple(DsnRecipient(each, Action.EXPANDED, replies.EXPANDED) for each in told),
        content=header,
    )
    return new_notice(report, sign)


def _named_twice(recipient: Recipient, dsn: DsnOptions) -> Recipient:
    """One that is reached in two ways, with the notices asked for on either. It keeps its own ORCPT."""
    notify = recipient.dsn.joined(dsn).notify
    return attrs.evolve(recipient, dsn=attrs.evolve(recipient.dsn, notify=notify))


def _through_alias(recipient: Recipient, *, several: bool) -> DsnOptions:
    """What goes on, with the address that the sender knows: ORCPT is kept, or made from that of RCPT."""
    dsn, mailbox = recipient.dsn, recipient.mailbox
    notify = dsn.notify
    if several and notify is not None:
        notify &= ~Notify.SUCCESS
    original = dsn.original_recipient
    if original is None:
        kind = "rfc822" if mailbox.is_ascii else "utf-8"  # RFC 6533 §3
        original = f"{kind};{mailbox}"
    return DsnOptions(notify, original)
