"""Sites with the same hosts and the same shape share one provider, and so its limits, rates and rest.

A domain that a table names is counted apart from others with the same hosts: its shape names that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from elemta.delivery import Shape, Shaping

from .provider import Provider
from .site import Site


@attrs.define(eq=False)
class Rollup:
    """Knows the providers by their hosts. Synchronous."""

    shaping: Shaping
    on_turn: Callable[[Provider], None]
    _providers: dict[tuple[frozenset[str], Shape], Provider] = attrs.field(factory=dict, init=False)
    """Only those whose hosts are known."""

    def new(self, shape: Shape) -> Provider:
        """One for a site of which no hosts are known yet."""
        return Provider(shape, self.on_turn)

    def join(self, site: Site, hosts: frozenset[str]) -> None:
        """These are the site's hosts: let it share what others with the same hosts have learnt and used."""
        shape = self.shaping.of(site.route, hosts)
        provider = site.provider
        if not hosts or (provider.hosts, provider.shape) == (hosts, shape):
            return
        known = self._providers.get((hosts, shape))
        if known is not None:
            self._move(site, known)
        elif len(provider.sites) == 1:
            self._unregister(provider)
            provider.hosts = hosts
            self._change(provider, shape)
        else:
            self._move(site, self._registered(Provider(shape, self.on_turn, hosts)))

    def leave(self, site: Site) -> None:
        """The site is forgotten."""
        provider = site.provider
        provider.remove(site)
        self._drop_empty(provider)

    def reshape(self, shaping: Shaping, sites: Iterable[Site]) -> None:
        """Go by other tables. What a provider has learnt and used stays, also where it is split."""
        self.shaping = shaping
        for provider in {site.provider: None for site in sites}:
            by_shape: dict[Shape, list[Site]] = {}
            for site in provider.sites:
                by_shape.setdefault(shaping.of(site.route, provider.hosts), []).append(site)
            (first, _), *others = by_shape.items()
            for shape, moved in others:
                twin = self._registered(provider.twin(shape))
                for site in moved:
                    self._move(site, twin)
            if provider.shape != first:
                self._unregister(provider)
                self._change(provider, first)

    def _change(self, provider: Provider, shape: Shape) -> None:
        provider.reshape(shape)
        self._registered(provider)

    def _registered(self, provider: Provider) -> Provider:
        if provider.hosts:
            self._providers.setdefault((provider.hosts, provider.shape), provider)
        return provider

    def _unregister(self, provider: Provider) -> None:
        key = provider.hosts, provider.shape
        if self._providers.get(key) is provider:
            del self._providers[key]

    def _move(self, site: Site, provider: Provider) -> None:
        old = site.provider
        old.remove(site)
        provider.add(site)
        self._drop_empty(old)

    def _drop_empty(self, provider: Provider) -> None:
        if not provider.sites:
            self._unregister(provider)
            provider.close()
