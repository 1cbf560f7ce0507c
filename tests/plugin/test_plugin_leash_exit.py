"""A plugin that ignores even GeneratorExit does not keep the process from ending."""

import subprocess
import sys

PROGRAM = """
import sys

import trio
from elemta.plugin.leash import leash

async def stubborn():
    while True:
        try:
            await trio.sleep_forever()
        except BaseException:
            pass

async def main():
    with trio.move_on_after(0.05):
        await leash(stubborn())
    print("over")

trio.run(main)
# What the end of the interpreter does to each module, in an order that depends on all that was imported: then
# the loop of the coroutine waits for nothing any more
del trio
vars(sys.modules["elemta.plugin.leash"]).clear()
"""


def test_the_interpreter_ends_behind_a_coroutine_that_ignores_everything() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout) == (0, "over\n")
