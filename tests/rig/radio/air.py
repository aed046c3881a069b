"""The air between the device's Bluetooth controller and the straps, and that controller.

Bumble's virtual link, with what BlueZ and lost links need mended: data carries the address that its
link was made with, whoever is away neither hears nor is heard, a connect can be called off, a reset
forgets everything. Of radio it has nothing: no loss, no noise, no range but "away".
"""

import asyncio

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

# What Linux asks for when it makes a link, in seconds: net/bluetooth/hci_core.c, le_supv_timeout.
SUPERVISION_TIMEOUT = 0.42
# Six connection events without an answer end a link that was hardly made: Core 5.4, Vol 6, Part B, 4.5.2.
ESTABLISHMENT_TIMEOUT = 0.06

TIMEOUT = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
NOT_ESTABLISHED = hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR


class Air(LocalLink):
    """Carries what controllers send to those that are not away."""

    def __init__(self):
        super().__init__()
        self.away = set()
        self.refusals = {}

    def leave(self, controller):
        """Takes a controller out of reach; its links end when their supervision runs out."""
        self.away.add(controller)
        for connection in list(controller.le_connections.values()):
            peer = self.find_le_controller(connection.peer_address)
            self._lose_later(controller, connection.peer_address, TIMEOUT, SUPERVISION_TIMEOUT)
            if peer:
                self._lose_later(peer, connection.self_address, TIMEOUT, SUPERVISION_TIMEOUT)

    def come_back(self, controller):
        self.away.discard(controller)

    def refuse(self, controller, times):
        """Lets the next connects to a controller come to nothing."""
        self.refusals[controller] = times

    def send_advertising_pdu(self, sender_controller, packet):
        if sender_controller in self.away:
            return
        if isinstance(packet, ll.ConnectInd):
            wanted = self.find_le_controller(packet.advertiser_address)
            if wanted in self.away or self.refusals.get(wanted, 0) > 0:
                self.refusals[wanted] = self.refusals.get(wanted, 0) - 1
                address, soon = packet.advertiser_address, ESTABLISHMENT_TIMEOUT
                self._lose_later(sender_controller, address, NOT_ESTABLISHED, soon)
                return
        loop = asyncio.get_running_loop()
        for controller in self.controllers - self.away - {sender_controller}:
            loop.call_soon(controller.on_ll_advertising_pdu, packet)

    def send_ll_control_pdu(self, sender_address, receiver_address, packet):
        sender = self.find_le_controller(sender_address)
        receiver = self.find_le_controller(receiver_address)
        if receiver and not {sender, receiver} & self.away:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)

    def send_acl_data(self, sender_controller, destination_address, transport, data):
        # Bumble names the sender by its random address, whatever the link was made with.
        receiver = self.find_le_controller(destination_address)
        link = sender_controller.le_connections.get(destination_address)
        if not receiver or not link or {sender_controller, receiver} & self.away:
            return
        asyncio.get_running_loop().call_soon(
            receiver.on_link_acl_data, link.self_address, PhysicalTransport.LE, data
        )

    @staticmethod
    def _lose_later(controller, peer_address, reason, seconds):
        doomed = controller.le_connections.get(peer_address)

        def lose():
            if doomed and controller.le_connections.get(peer_address) is doomed:
                controller.on_le_disconnected(doomed, reason)

        asyncio.get_running_loop().call_later(seconds, lose)


class Adapter(Controller):
    """The controller that the device sees on its UART."""

    # Linux that is told of these waits for the enhanced forms of events that bumble does not send.
    le_features = Controller.le_features & ~(
        hci.LeFeatureMask.LL_PRIVACY
        | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
        | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
    )

    def __init__(self, air, address, source, sink, on_reset):
        super().__init__("adapter", source, sink, air, hci.Address(address, 0))
        self.on_reset = on_reset
        self.resets = 0

    def on_hci_reset_command(self, _command):
        self.le_scan_enable = False
        self.pending_le_connection = None
        for connection in list(self.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(TIMEOUT))
        self.le_connections.clear()
        self.resets += 1
        self.on_reset()
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_le_create_connection_cancel_command(self, _command):
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        cancelled = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        # The command is answered first: Core 5.4, Vol 4, Part E, section 7.8.13.
        asyncio.get_running_loop().call_soon(self.send_hci_packet, cancelled)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def vanish(self):
        """Is there no more: whoever was linked to it finds out by itself."""
        self.link.leave(self)
        self.link.remove_controller(self)
        self.set_packet_sink(None)
