"""A crew: several processes with the same settings, which share a port. One that dies is started anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from typing import Final

from taskflow.core.errors import TaskFlowError
from taskflow.core.outage import backoff
from taskflow.roles.stop import Stop
from taskflow.wiring import banner, database, logs
from taskflow.wiring.channel import Channel
from taskflow.wiring.listeners import listening
from taskflow.wiring.member import Order
from taskflow.wiring.monitor import monitored
from taskflow.wiring.settings import Settings
from taskflow.wiring.signals import hear_no_more

STEADY: Final = 30.0
"""Seconds after which a process that ends is not taken for one that cannot start."""
LONGEST: Final = 5.0
"""Seconds: connections wait for whoever is to answer them."""

log = logging.getLogger("taskflow")


def main(settings: Settings) -> int:
    """Run so many processes until told to stop.

    Returns:
        The exit code: 0 after a clean stop of all, else that of one which ended badly, or could not start at first.
    """
    logs.configure(settings["log.format"], settings["log.level"])
    try:
        revision = database.prepare(settings["store.url"], migrate=settings.migrate)
        return asyncio.run(Crew(settings, revision).run())
    except TaskFlowError as error:
        hear_no_more()
        log.error("cannot start: %s", error)  # noqa: TRY400 - the reason is all that helps
        return 1


class Crew:
    """The parent: it serves nobody, and holds the sockets that all members accept from, so that nobody is refused while one of
    them is started anew, and nobody waits for that one."""

    def __init__(self, settings: Settings, revision: str) -> None:
        self._settings = settings
        self._revision = revision
        self._count: int = settings["processes"]
        self._listeners: list[socket.socket] = []
        self._members: dict[int, tuple[Process, Channel]] = {}
        self._told = False
        self._exit = 0

    async def run(self) -> int:
        """Start all, keep them, end them."""
        self._stop = Stop()
        loop = asyncio.get_running_loop()
        if "api" in self._settings["roles"]:
            self._listeners = listening(self._settings["api.host"], self._settings["api.port"])
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ask)
        try:
            async with monitored(self._settings, self._ready):
                await asyncio.gather(*(self._keep(number + 1) for number in range(self._count)))
        finally:
            self._close()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            hear_no_more()
        return self._exit if self._exit >= 0 else 128 - self._exit

    async def _keep(self, number: int) -> None:
        """Have one member live until all are to end."""
        failures = 0
        while not self._stop.asked.is_set():
            begun = time.monotonic()
            try:
                started, code = await self._live(number)
            except (OSError, RuntimeError) as error:
                log.error("process %d of %d cannot be started: %s", number, self._count, error)  # noqa: TRY400
                started, code = False, 1
            if self._stop.asked.is_set():
                self._exit = self._exit or code
                return
            if not (started or self._told):
                # It would fail again, as all others do: whoever started this must hear of it.
                self._exit = code or 1
                self._ask()
                return
            failures = 1 if time.monotonic() - begun > STEADY else failures + 1
            pause = backoff(failures, cap=LONGEST)
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            log.warning("process %d of %d ended %s; started anew in %.1f s", number, self._count, how, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.asked.wait()

    async def _live(self, number: int) -> tuple[bool, int]:
        """A member's life.

        Returns:
            Whether it had started, and its exit code.
        """
        ours, theirs = socket.socketpair()
        descriptors = tuple(each.fileno() for each in self._listeners)
        port = self._listeners[0].getsockname()[1] if self._listeners else None
        channel = await Channel.of(ours)
        try:
            with theirs:
                member = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "taskflow.wiring.member",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(), *descriptors),
                    stdin=subprocess.DEVNULL,
                    # In a group of its own: Ctrl-C is for us, and we tell it.
                    process_group=0,
                )
            self._members[number] = member, channel
            if self._stop.asked.is_set():
                _terminate(member)
            channel.order(Order(self._settings, descriptors))
            started = await self._started(channel, member)
            if started and not self._told:
                self._told = True
                banner.show(self._settings, self._revision, port)
            code = await member.wait()
        finally:
            self._members.pop(number, None)
            channel.close()
        # Told to end before it could hear of it, it ends by the signal itself.
        return started, 0 if code == -signal.SIGTERM and self._stop.asked.is_set() else code

    async def _started(self, channel: Channel, member: Process) -> bool:
        """Wait until a member works, or is no more."""
        waiting = [asyncio.create_task(channel.started.wait()), asyncio.create_task(member.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        return channel.started.is_set()

    async def _ready(self) -> dict[str, str | None]:
        """Why each role does not work, or does not in one of the members."""
        roles: dict[str, str | None] = dict.fromkeys(self._settings["roles"])
        found = await asyncio.gather(*(self._asked(number + 1) for number in range(self._count)))
        for number, wrong in enumerate(found, 1):
            roles |= {
                role: f"process {number} of {self._count}: {why}" for role, why in wrong.items() if why is not None
            }
        return roles

    async def _asked(self, number: int) -> Mapping[str, str | None]:
        silent = "does not answer"
        if self._stop.asked.is_set():
            silent = "ends"
        elif number not in self._members or not self._members[number][1].started.is_set():
            silent = "starts"
        elif (answer := await self._members[number][1].ready()) is not None:
            return answer
        return dict.fromkeys(self._settings["roles"], silent)

    def _ask(self) -> None:
        """End all; a second time, at once."""
        self._stop.ask()
        # Whom a socket of ours let in, nobody would answer any more.
        self._close()
        for member, channel in self._members.values():
            _terminate(member)
            if self._stop.now.is_set():
                channel.hurry()

    def _close(self) -> None:
        for listener in self._listeners:
            listener.close()


def _terminate(member: Process) -> None:
    if member.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            member.terminate()
