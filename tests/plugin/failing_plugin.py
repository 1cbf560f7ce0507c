"""A plugin that fails in each way that a plugin can: what `test_process_chaos` loads into real workers."""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import trio

from elemta.plugin import Continue, HookAnswer
from elemta.plugin.worker import Kind, Link, Served, encode_frame, pack_answer, unpack_arguments


def _wire() -> socket.socket:
    """The connection to the server, as a plugin could find it: worker programs are no secret."""
    return socket.socket(fileno=os.dup(int(sys.argv[2])))


START_WITH = {
    "garbage": b"\xff" * 64,
    "an answer": encode_frame(Kind.ANSWER, 7, b"rcpt\0{}"),
    "used up": encode_frame(Kind.RETIRE, 0),
}
"""What a plugin may put on the wire before it has started."""


class Failing(Served):
    def __init__(self, link: Link, start: str = "") -> None:
        self.link = link
        self.leak: list[bytearray] = []
        self.kept: list[Any] = []
        self.start = start
        self.heard = ""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        if self.start == "ask":
            self.heard = (await self.link.ask("echo", b"at the start")).decode()
        elif self.start:
            _wire().send(START_WITH[self.start])
            await trio.sleep(60)
        task_status.started()
        await trio.sleep_forever()

    async def call(self, hook: str, content: bytes) -> bytes:
        arguments = unpack_arguments(content)
        how = arguments.reason
        result = await getattr(self, how.replace(" ", "_"))() if how else None
        return pack_answer(HookAnswer(Continue(), notes={"hook": hook, "pid": os.getpid(), "said": result}))

    async def sleep(self) -> None:
        await trio.sleep(0.2)

    async def hang(self) -> None:
        await trio.sleep_forever()

    async def swallow_cancelled(self) -> None:
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                continue

    async def leaked_scope(self) -> None:
        self.kept.append(trio.CancelScope())
        self.kept[-1].__enter__()
        await trio.lowlevel.checkpoint()

    async def leaked_task(self) -> None:
        self.kept.append(trio.open_nursery())
        nursery = await self.kept[-1].__aenter__()
        nursery.start_soon(trio.sleep_forever)

    async def busy_loop(self) -> None:
        while True:
            pass

    async def busy_without_python(self) -> None:
        import re

        re.match("(a|a)*b", "a" * 60)

    async def compute(self) -> None:
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            pass

    async def raises(self) -> None:
        raise ValueError("a mistake\x1b[2J of the plugin")

    async def system_exit(self) -> None:
        sys.exit(3)

    async def interrupt(self) -> None:
        raise KeyboardInterrupt

    async def group(self) -> None:
        raise BaseExceptionGroup("several", [ValueError("one"), KeyboardInterrupt()])

    async def segfault(self) -> None:
        ctypes.string_at(0)

    async def exit_now(self) -> None:
        os._exit(7)

    async def exit_in_a_thread(self) -> None:
        threading.Thread(target=os._exit, args=(9,)).start()
        await trio.sleep(5)

    async def kill_itself(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def kill_the_server(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)

    async def leave_the_group(self) -> None:
        os.setsid()

    async def allocate(self) -> None:
        self.leak.append(bytearray(4 << 30))

    async def leak_slowly(self) -> None:
        while True:
            self.leak.append(bytearray(8 << 20))
            await trio.lowlevel.checkpoint()

    async def fork_bomb(self) -> None:
        while True:
            os.fork()

    async def run_a_program(self) -> None:
        import subprocess

        subprocess.run(["/bin/true"], check=True)

    async def threads(self) -> str:
        seen: list[str] = []
        thread = threading.Thread(target=seen.append, args=("ran",))
        thread.start()
        thread.join()
        return seen[0] + await trio.to_thread.run_sync(lambda: " twice")

    async def open_files(self) -> None:
        self.files = [Path("/dev/null").open() for _ in range(1000)]  # noqa: ASYNC230, SIM115

    async def long_file(self) -> None:
        with Path("long").open("wb") as file:  # noqa: ASYNC230
            for _ in range(100):
                file.write(b"x" * (1 << 20))

    async def gigabyte(self) -> None:
        block = "x" * 65_535 + "\n"
        for _ in range(16_384):
            sys.stdout.write(block)

    async def prints(self) -> None:
        sys.stdout.write("one\x1b[31m line\n")
        sys.stderr.write("another line\n")

    async def logs(self) -> None:
        self.link.log("info", "from inside\n", {"number": 7, "thing": object})

    async def asks(self) -> str:
        return (await self.link.ask("echo", b"hello")).decode()

    async def heard_at_the_start(self) -> str:
        return self.heard

    async def asks_in_vain(self) -> str:
        try:
            await self.link.ask("fail", b"")
        except OSError as error:
            return str(error)
        return "no error"

    async def garbage(self) -> None:
        _wire().send(os.urandom(64) + b"\xff" * 64)
        await trio.sleep(5)

    async def huge_frame(self) -> None:
        _wire().send(b"\x7f\xff\xff\xff\x12" + bytes(8))
        await trio.sleep(5)

    async def nameless_question(self) -> None:
        _wire().send(encode_frame(Kind.QUESTION, 1, b"no name"))
        await trio.sleep(5)

    async def huge_answer(self) -> str:
        return "x" * (2 << 20)

    async def unknown_call(self) -> None:
        _wire().send(encode_frame(Kind.ANSWER, 12345, b"rcpt\0{}"))
        await trio.sleep(5)

    async def other_hook(self) -> None:
        from elemta.plugin.worker.page import current_call

        _wire().send(encode_frame(Kind.ANSWER, current_call.get(), b"other\0{}"))
        await trio.sleep(5)

    async def no_answer(self) -> None:
        from elemta.plugin.worker.page import current_call

        _wire().send(encode_frame(Kind.ANSWER, current_call.get(), b'rcpt\0{"decision": ["Nonsense", {}]}'))
        await trio.sleep(5)

    async def closes_the_wire(self) -> None:
        os.closerange(3, 100)
        await trio.sleep(5)

    async def environment(self) -> str:
        return json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read()})


def load(setup: dict[str, Any], link: Link) -> Served:
    if setup.get("load") == "raise":
        raise RuntimeError("no such list")
    if setup.get("load") == "exit":
        os._exit(4)
    if setup.get("load") == "hang":
        time.sleep(3600)
    if setup.get("load") == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Failing(link, setup.get("start", ""))
