"""Which recipients leave their route for the fallback of it, and when. Synchronous, no state of its own."""

from __future__ import annotations

import attrs

from elemta.mail import Deferred, Delivered, Failed, Outcome, Reply
from elemta.routing import Route, Router
from elemta.spool import ClaimedRecipient, StoredMessage


@attrs.frozen
class Detours:
    """Goes by what is written down of a recipient, so that a restart changes nothing."""

    router: Router

    def route(self, message: StoredMessage, claimed: ClaimedRecipient) -> Route:
        """Where the attempt goes that it was claimed for."""
        return self.router.next_route(
            claimed.recipient.mailbox,
            claimed.attempts - 1,
            claimed.reason,
            quarantined=message.envelope.quarantined,
        )

    def begins(
        self, route: Route, message: StoredMessage, claimed: ClaimedRecipient, outcome: Outcome
    ) -> bool:
        """Whether it goes to the fallback now that an attempt by `route` ended so. Where a plugin chose the
        route it would choose again, and there is no end to that."""
        if isinstance(outcome, Delivered):
            return False
        mailbox, quarantined = claimed.recipient.mailbox, message.envelope.quarantined
        fallback = self.router.fallback(mailbox, quarantined=quarantined)
        if fallback is None or route == fallback.route:
            return False
        if route != self.router.route(mailbox, quarantined=quarantined):
            return False
        if isinstance(outcome, Failed):  # what a next hop refused is not offered to another
            return not outcome.from_remote and outcome.cause in fallback.causes
        return fallback.begins(claimed.attempts, outcome.cause)

    def begins_untried(
        self, route: Route, message: StoredMessage, claimed: ClaimedRecipient, failure: Outcome | None
    ) -> bool:
        """The same where it was not tried, because its destination rests after that failure."""
        if not isinstance(failure, Deferred):
            return False
        return self.begins(route, message, attrs.evolve(claimed, attempts=0), failure)


def softened(outcome: Outcome) -> Outcome:
    """A failure that is not final, as there is a way left."""
    if not isinstance(outcome, Failed):
        return outcome
    reply = Reply(451, outcome.reply.enhanced, outcome.reply.lines)
    return Deferred(outcome.cause, reply, outcome.remote, detail=outcome.detail)
