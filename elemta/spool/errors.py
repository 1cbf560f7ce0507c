"""What can go wrong with stored mail, split by what the operator or the caller should do."""


class SpoolError(Exception):
    """Base of all errors of the spool."""


class SpoolFull(SpoolError):
    """No room: nothing was stored; answer 452 4.3.1 and go on delivering."""


class BatchSpoiled(SpoolError):
    """An operation failed in its middle and cannot be undone alone: roll back and redo the batch carefully.

    Stays between a store and its writer.
    """


class SpoolUnavailable(SpoolError):
    """Storage failed and what became of the last commit is unknown (RELIABILITY D4).

    Send no reply, close the connection; the process ends and the spool is read afresh.
    """


class SpoolInUse(SpoolError):
    """Another process holds this spool (exit status 75)."""


class SpoolForeign(SpoolError):
    """The folder or database is not ours, is damaged, of a newer schema, or has the wrong owner or mode."""


class LeaseLost(SpoolError):
    """The claim was given to someone else meanwhile; the record changed nothing."""


class BodyCorrupt(SpoolError):
    """A stored body does not match its digest or length; it must not be sent."""
