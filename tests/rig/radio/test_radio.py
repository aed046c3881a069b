"""Tries the radio on this machine alone: bumble's own host takes the place of the device.

    python -m unittest -v test_radio
"""

import asyncio
import json
import logging
import sys
import tempfile
import unittest
from pathlib import Path

from bumble import hci
from bumble.core import UUID, TimeoutError
from bumble.device import Device, Peer
from bumble.transport.unix import open_unix_server_transport

HERE = Path(__file__).parent
ADDRESS, OTHER = "A0:9E:1A:01:02:03", "A0:9E:1A:01:02:04"
PATIENCE = 20
logging.disable(logging.ERROR)


class RadioTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.socket = f"{self.directory.name}/bt.sock"
        self.uart = await open_unix_server_transport(self.socket)
        self.radio = await asyncio.create_subprocess_exec(
            sys.executable, "radio.py", cwd=HERE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        await self.do("attach", socket=self.socket)
        await self.do("add", strap="7", address=ADDRESS, every_ms=50, rr=[812, 820])
        self.host = Device.with_hci("host", hci.Address("F0:F1:F2:F3:F4:F5"), self.uart.source, self.uart.sink)
        await self.host.power_on()

    async def asyncTearDown(self):
        self.radio.stdin.close()
        self.assertEqual(await asyncio.wait_for(self.radio.wait(), PATIENCE), 0)
        await self.uart.close()
        self.uart.server.close()
        self.directory.cleanup()

    async def test_everything_sent_arrives_once_and_in_order(self):
        belt = await Belt.connect(self.host, ADDRESS)
        await belt.hears(10)
        await belt.connection.disconnect()

        strap = await self.until("7", lambda strap: not strap["connected"])
        self.assertEqual(belt.numbers, strap["sent"])
        self.assertEqual(belt.values[0].hex(), "1e4800002c033403")
        self.assertEqual((strap["connects"], strap["subscribes"]), (1, 1))

    async def test_one_that_walks_away_times_out_and_can_come_back(self):
        await self.do("add", strap="8", address=OTHER, every_ms=50)
        belt, other = await Belt.connect(self.host, ADDRESS), await Belt.connect(self.host, OTHER)
        await belt.hears(3)

        await self.do("leave", strap="7")
        self.assertEqual(await belt.ended(), hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
        await other.hears(len(other.values) + 5)
        await self.do("come_back", strap="7")
        belt.adopt(await Belt.connect(self.host, ADDRESS))
        await belt.hears(len(belt.values) + 3)

        await belt.connection.disconnect()
        strap = await self.until("7", lambda strap: not strap["connected"])
        self.assertEqual(belt.numbers, strap["sent"])

    async def test_silence_ends_with_its_cure_and_no_milder_one(self):
        belt = await Belt.connect(self.host, ADDRESS)
        await belt.hears(2)
        await self.do("silence", strap="7", until="connect")
        await belt.measurement.unsubscribe(force=True)
        await belt.subscribe()
        self.assertTrue((await self.strap("7"))["silent"])

        await belt.connection.disconnect()
        again = await Belt.connect(self.host, ADDRESS)

        await again.hears(2)
        self.assertFalse((await self.strap("7"))["silent"])

    async def test_any_bytes_can_be_said(self):
        belt = await Belt.connect(self.host, ADDRESS)
        await belt.hears(1)
        await self.do("silence", strap="7")
        for value in ["", "10", "ff" * 20, "00" * 514]:
            self.assertTrue((await self.do("say", strap="7", hex=value))["said"])
            await self.eventually(lambda: belt.values[-1].hex() == value)

        self.assertTrue((await self.do("say", strap="7", hex="1648", handle=0x7777))["said"])
        self.assertEqual((await self.strap("7"))["raw"], 5)

    async def test_it_hangs_up_and_refuses(self):
        belt = await Belt.connect(self.host, ADDRESS)
        await self.do("refuse", strap="7")
        await self.do("hang_up", strap="7")
        reason = await belt.ended()
        self.assertEqual(reason, hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR)

        refused = await Belt.link(self.host, ADDRESS)
        self.assertEqual(await refused.ended(), hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR)
        again = await Belt.connect(self.host, ADDRESS)
        await again.hears(1)

    async def test_a_connect_to_nobody_can_be_called_off(self):
        with self.assertRaises(TimeoutError):
            await self.host.connect(hci.Address(OTHER, 0), timeout=0.5)

        await (await Belt.connect(self.host, ADDRESS)).hears(1)

    async def test_a_controller_that_vanishes_comes_back_without_its_links(self):
        belt = await Belt.connect(self.host, ADDRESS)
        await belt.hears(1)
        await self.do("vanish")
        self.assertIsNone((await self.do("state"))["adapter"])
        await self.until("7", lambda strap: not strap["connected"])

        await self.do("attach", socket=self.socket)
        await self.host.power_on()
        await (await Belt.connect(self.host, ADDRESS)).hears(1)

        adapter = (await self.do("state"))["adapter"]
        self.assertEqual((adapter["links"], adapter["resets"]), (1, 1))

    async def test_a_command_that_cannot_be_done_is_answered(self):
        self.radio.stdin.write(b'{"do": "leave", "strap": "none"}\n{"do": "_beat"}\nnonsense\n')

        for _ in range(3):
            self.assertFalse(json.loads(await self.radio.stdout.readline())["ok"])

    async def do(self, do, **fields):
        self.radio.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self.radio.stdout.readline(), PATIENCE))
        self.assertTrue(answer["ok"], answer)
        return answer

    async def strap(self, name):
        return (await self.do("state"))["straps"][name]

    async def until(self, name, predicate):
        async with asyncio.timeout(PATIENCE):
            while not predicate(strap := await self.strap(name)):
                await asyncio.sleep(0.02)
        return strap

    async def eventually(self, predicate):
        async with asyncio.timeout(PATIENCE):
            while not predicate():
                await asyncio.sleep(0.02)


class Belt:
    """A strap as the host sees it."""

    @classmethod
    async def link(cls, host, address):
        self = cls()
        self.values = []
        self.connection = await host.connect(hci.Address(address, 0), timeout=PATIENCE)
        self._ended = asyncio.get_running_loop().create_future()
        self.connection.on("disconnection", self._ended.set_result)
        return self

    @classmethod
    async def connect(cls, host, address):
        self = await cls.link(host, address)
        peer = Peer(self.connection)
        await peer.request_mtu(517)
        await peer.discover_services()
        await peer.discover_characteristics()
        self.measurement = peer.get_characteristics_by_uuid(UUID.from_16_bits(0x2A37))[0]
        await self.subscribe()
        return self

    async def subscribe(self):
        await self.measurement.subscribe(self.values.append)

    def adopt(self, later):
        """Goes on with what the same strap says on another link."""
        later.values[:0] = self.values
        self.values, self.connection = later.values, later.connection

    @property
    def numbers(self):
        return [int.from_bytes(value[2:4], "little") for value in self.values]

    async def hears(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.values) < count:
                await asyncio.sleep(0.02)

    async def ended(self):
        return await asyncio.wait_for(self._ended, PATIENCE)


if __name__ == "__main__":
    unittest.main()
