"""The radio of the virtual device: a Bluetooth controller for its UART, and straps in reach of it.

Reads one JSON object a line from standard input and answers each with one on standard output; ends with
its input. `{"do": "attach", "socket": "bt.sock"}` puts the controller behind the socket that QEMU
listens on (H4); README.md has the other commands. A command that fails is answered with `why`.
"""

import asyncio
import json
import logging
import sys

from bumble.transport.unix import open_unix_client_transport

from air import Adapter, Air
from strap import Strap

ADAPTER_ADDRESS = "00:1A:7D:DA:71:13"


class Radio:
    """Everything on the air. Each method is a command, its arguments the command's other fields."""

    def __init__(self):
        self.air, self.straps = Air(), {}
        self.adapter, self.transport = None, None

    async def attach(self, socket, address=ADAPTER_ADDRESS):
        """A controller appears, fresh from its power-on."""
        await self.vanish()
        self.transport = await open_unix_client_transport(socket)
        source, sink = self.transport.source, self.transport.sink
        self.adapter = Adapter(self.air, address, source, sink, self._on_reset)
        asyncio.create_task(self._end_with(self.transport))

    async def vanish(self):
        """It is gone in the middle of whatever it did, and the UART is dead."""
        adapter, transport = self.adapter, self.transport
        self.adapter, self.transport = None, None
        if adapter:
            adapter.vanish()
            await transport.close()

    async def add(self, strap, address, name=None, **options):
        if strap in self.straps:
            raise ValueError(f"there is a strap {strap!r}")
        self.straps[strap] = Strap(self.air, name or f"Strap {strap}", address, **options)
        await self.straps[strap].start()

    async def remove(self, strap):
        self.straps.pop(strap).stop()

    async def leave(self, strap):
        """Walks out of reach: nothing is said, the links time out."""
        self.air.leave(self.straps[strap].controller)

    async def come_back(self, strap):
        self.air.come_back(self.straps[strap].controller)

    async def silence(self, strap, until="never"):
        """Sends no more, on a link that stands, until `subscribe`, `connect`, `power` or `never`."""
        self.straps[strap].silence(until)

    async def speak(self, strap):
        self.straps[strap].heal("never")

    async def say(self, strap, hex, handle=None):
        """Notifies any bytes on any handle. Counted apart from what the strap sends by itself."""
        said = self.straps[strap].say(bytes.fromhex(hex), handle)
        self.straps[strap].raw += said
        return {"said": said}

    async def hang_up(self, strap):
        await self.straps[strap].hang_up()

    async def refuse(self, strap, times=1):
        """Lets that many connects come to nothing."""
        self.air.refuse(self.straps[strap].controller, times)

    async def state(self):
        adapter = self.adapter and {
            "scanning": self.adapter.le_scan_enable,
            "links": len(self.adapter.le_connections),
            "resets": self.adapter.resets,
        }
        straps = {name: strap.state() for name, strap in self.straps.items()}
        return {"adapter": adapter, "straps": straps}

    def _on_reset(self):
        for strap in self.straps.values():
            strap.heal("power")

    async def _end_with(self, transport):
        await transport.source.terminated
        if transport is self.transport:
            await self.vanish()

    async def obey(self, line):
        command = json.loads(line)
        do = command.pop("do")
        if do.startswith("_") or do == "obey" or not hasattr(self, do):
            raise ValueError(f"no command {do!r}")
        return await getattr(self, do)(**command)


async def main():
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    # It complains of what the faults here are meant to provoke.
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    radio = Radio()
    while line := await lines.readline():
        try:
            answer = {"ok": True, **(await radio.obey(line) or {})}
        except Exception as error:  # the next command may be a good one
            logging.info("a command failed", exc_info=True)
            answer = {"ok": False, "why": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
