"""A heart-rate strap on the virtual air: the Heart Rate, Battery and Device Information services.

Each measurement carries its own number in the field of energy expended, so that what arrives can be
compared with what was sent, one by one. A strap can fall silent on a link that stands, and be healed by
what usually heals one; send whatever bytes it is told to; walk away; hang up; refuse a connect.
"""

import asyncio
import struct

from bumble import att, gatt, hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Device
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from air import Adapter

ADVERTISE_EVERY_MS = 150.0
HEART_RATE_SERVICE = UUID.from_16_bits(0x180D)

# Flags of a Heart Rate Measurement: Heart Rate Service 1.0, section 3.1.1.1.
CONTACT, ENERGY, RR = 0x06, 0x08, 0x10

# What can end a silence, from the mildest cure on; each also ends one that a milder would have.
CURES = ["subscribe", "connect", "power", "never"]


def measurement(bpm, number, rr):
    """Encodes one, with its number as the energy expended."""
    flags = CONTACT | ENERGY | (RR if rr else 0)
    return struct.pack("<BBH", flags, bpm, number & 0xFFFF) + b"".join(
        struct.pack("<H", interval) for interval in rr
    )


class Strap:
    """One strap; it advertises from its start on, and beats while somebody is subscribed."""

    def __init__(self, air, name, address, bpm=72, every_ms=1000, rr=(), random=False):
        self.air, self.bpm, self.every, self.rr = air, bpm, every_ms / 1000, list(rr)
        self.sent, self.number, self.raw = [], 0, 0
        self.connects, self.subscribes, self.cure = 0, 0, None
        kind = hci.Address.RANDOM_DEVICE_ADDRESS if random else hci.Address.PUBLIC_DEVICE_ADDRESS
        address = hci.Address(address, kind)
        self.own_address_type = hci.OwnAddressType.RANDOM if random else hci.OwnAddressType.PUBLIC
        self.controller = Controller(name, link=air, public_address=None if random else address)
        self.controller.le_features = Adapter.le_features
        host = Host(self.controller, AsyncPipeSink(self.controller))
        self.device = Device(name=name, host=host, address=address if random else None)
        self.measurement = characteristic(0x2A37, gatt.Characteristic.Properties.NOTIFY, b"")
        self.measurement.on("subscription", self._on_subscription)
        read = gatt.Characteristic.Properties.READ
        self.device.add_services([
            gatt.Service(HEART_RATE_SERVICE, [self.measurement, characteristic(0x2A38, read, b"\x01")]),
            gatt.Service(UUID.from_16_bits(0x180F), [characteristic(0x2A19, read, bytes([87]))]),
            gatt.Service(UUID.from_16_bits(0x180A), [characteristic(0x2A29, read, b"pulsegate rig")]),
        ])
        self.device.on("connection", self._on_connection)
        self.device.advertising_data = bytes(AdvertisingData([
            (AdvertisingData.FLAGS, b"\x06"),
            (AdvertisingData.COMPLETE_LOCAL_NAME, name.encode()),
            (AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, bytes(HEART_RATE_SERVICE)),
        ]))
        self.beating = None

    async def start(self):
        await self.device.power_on()
        await self.device.start_advertising(
            own_address_type=self.own_address_type,
            auto_restart=True,
            advertising_interval_min=ADVERTISE_EVERY_MS,
            advertising_interval_max=ADVERTISE_EVERY_MS,
        )
        self.beating = asyncio.create_task(self._beat())

    def stop(self):
        """Takes it off the air for good."""
        self.air.leave(self.controller)
        self.air.remove_controller(self.controller)
        self.beating.cancel()

    @property
    def connection(self):
        return next(iter(self.device.connections.values()), None)

    @property
    def subscribed(self):
        cccds = self.device.gatt_server.subscribers.get(self.connection, {})
        return bool(cccds.get(self.measurement.handle, b"\0")[0] & 1)

    @property
    def away(self):
        return self.controller in self.air.away

    def silence(self, cure):
        """Says nothing more on whatever link, until it is healed by `cure`."""
        self.cure = CURES[CURES.index(cure)]

    def heal(self, cure):
        if self.cure and CURES.index(cure) >= CURES.index(self.cure):
            self.cure = None

    def say(self, value, handle=None):
        """Notifies these bytes, on the heart rate's handle if on none other; `False` if nobody hears."""
        if not self.connection or not self.subscribed or self.away:
            return False
        notification = att.ATT_Handle_Value_Notification(
            attribute_handle=handle or self.measurement.handle, attribute_value=value
        )
        self.device.gatt_server.send_gatt_pdu(self.connection, bytes(notification))
        return True

    async def hang_up(self):
        if self.connection:
            await self.connection.disconnect()

    def state(self):
        return {
            "connected": self.connection is not None,
            "subscribed": self.subscribed,
            "away": self.away,
            "silent": self.cure is not None,
            "connects": self.connects,
            "subscribes": self.subscribes,
            "sent": self.sent,
            "raw": self.raw,
        }

    async def _beat(self):
        while True:
            if not self.cure and self.say(measurement(self.bpm, self.number, self.rr)):
                self.sent.append(self.number)
                self.number += 1
            await asyncio.sleep(self.every)

    def _on_connection(self, _connection):
        self.connects += 1
        self.heal("connect")

    def _on_subscription(self, _bearer, notifies, _indicates):
        if notifies:
            self.subscribes += 1
            self.heal("subscribe")


def characteristic(uuid, properties, value):
    readable = gatt.Characteristic.Properties.READ in properties
    permissions = gatt.Characteristic.READABLE if readable else gatt.Characteristic.Permissions(0)
    return gatt.Characteristic(UUID.from_16_bits(uuid), properties, permissions, value)
