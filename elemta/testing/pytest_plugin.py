"""The fixture `mta` for pytest: an MTA on virtual time, with the plugin that stands beside the test in it.

A test in the folder of a `plugin.py` is about that plugin. Marks say what is different:

    @pytest.mark.plugin(config={"names": ["root"]}, timeout="2s")    keys of [[plugins]], `path` among them
    @pytest.mark.mta('[policy]\\n…')                                   more configuration, as TOML

Several marks of the first kind are several plugins, asked in the order in which they stand. It needs
pytest-trio, whose `trio_mode` need not be on.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .kit import Mta


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line("markers", "plugin(**entry): a plugin for the fixture mta, as in [[plugins]]")
    config.addinivalue_line("markers", "mta(settings): configuration for the fixture mta, as TOML")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with an MTA on virtual time."""
    for item in items:
        if "mta" in getattr(item, "fixturenames", ()) and inspect.iscoroutinefunction(
            getattr(item, "obj", None)
        ):
            item.add_marker(pytest.mark.trio(run=_run_on_virtual_time), append=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the one error of a test with an MTA without the groups that nurseries put it into."""
    try:
        return (yield)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group or "mta" not in getattr(item, "fixturenames", ()):
            raise
        raise error from None  # noqa: ASYNC123 - it is read by people


def _run_on_virtual_time(function: Callable[..., Any], *, clock: Any = None, **options: Any) -> Any:
    """As `trio.run`, which pytest-trio would call; a clock of the test itself is used if it has one."""
    import trio.testing  # noqa: PLC0415 - only tests with an MTA need it

    return trio.run(function, clock=clock or trio.testing.MockClock(autojump_threshold=0), **options)


@pytest.fixture
async def mta(request: pytest.FixtureRequest) -> AsyncIterator[Mta]:
    """An MTA in memory with the plugin of this folder."""
    from .kit import open_mta  # noqa: PLC0415 - only tests with an MTA need it

    beside = request.path.parent / "plugin.py"
    # From the decorator nearest to the test to the one farthest; they are read from top to bottom.
    marks = [mark.kwargs for mark in request.node.iter_markers("plugin")][::-1]
    plugins = marks or ([{}] if beside.exists() else [])
    settings = "\n".join(str(mark.args[0]) for mark in request.node.iter_markers("mta"))
    entries = [_placed(each, beside) for each in plugins]
    async with open_mta(*entries, settings=settings) as running:
        yield running


def _placed(entry: dict[str, Any], beside: Path) -> dict[str, Any]:
    """Paths are seen from the folder of the test; without one it is about the plugin there."""
    if "module" in entry:
        return entry
    return {**entry, "path": str(beside.parent / entry.get("path", beside.name))}
