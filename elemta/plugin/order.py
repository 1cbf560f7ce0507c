"""In which order plugins are asked: as they stand, and by who wants to be before or after whom. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

Wishes = tuple[tuple[str, ...], tuple[str, ...]]


class Circle(Exception):
    """Some want to be asked in a circle."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(" and ".join(names))


def arrange(items: Mapping[str, T], wishes: Callable[[T], Wishes]) -> list[T]:
    """Put them in order.

    Args:
      items: by name, in the order in which they stand.
      wishes: the names that one wants to be before, and those that it wants to be after.

    Raises:
      Circle: there is no such order.
    """
    waiting = dict(items)
    earlier: dict[str, set[str]] = {name: set() for name in items}
    for name, item in items.items():
        before, after = wishes(item)
        earlier[name] |= set(after) & items.keys()
        for other in before:
            if other in items:
                earlier[other].add(name)
    ordered = []
    while waiting:
        free = next((name for name in waiting if not earlier[name] & waiting.keys()), None)
        if free is None:
            raise Circle(waiting)
        ordered.append(waiting.pop(free))
    return ordered
