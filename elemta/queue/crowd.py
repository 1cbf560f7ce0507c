"""Domains for which so much is ready that more of them must not take the room of others."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from elemta.spool import ClaimedRecipient

from .site import Site

MOST_DOMAINS = 1000
"""Kept in mind at a time; one that is forgotten is found again with its next claim."""


@attrs.define(eq=False)
class Crowd:
    """What the scheduler leaves in the spool for now, until half of what was ready there is gone."""

    _sites: dict[str, Site] = attrs.field(factory=dict)

    def add(self, site: Site, recipients: Iterable[ClaimedRecipient]) -> None:
        """Too much is ready there for these."""
        if site.low_water is None:
            site.low_water = len(site.ready) // 2
        for claimed in recipients:
            if len(self._sites) < MOST_DOMAINS:
                self._sites[claimed.recipient.mailbox.domain.text] = site

    def domains(self) -> frozenset[str]:
        """Those that are still to be left alone."""
        if self._sites:
            self._sites = {domain: site for domain, site in self._sites.items() if site.low_water is not None}
        return frozenset(self._sites)
