"""What many write first: Python's SQLite with a COMMIT a reading, and paho-mqtt.

Usage: python_sqlite.py SOCKET PORT CA CERTIFICATE KEY TOPIC

Takes lines of JSON on a Unix socket from one program, answers each after its COMMIT, publishes it
with QoS 1 over mutual TLS, and marks it once it is acknowledged.
"""

import socket
import sqlite3
import sys
import threading
from collections import deque

import paho.mqtt.client as mqtt

IN_FLIGHT = 100

path, port, ca, certificate, key, topic = sys.argv[1:]

database = sqlite3.connect("readings.db", isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = NORMAL")
database.execute("CREATE TABLE readings(id INTEGER PRIMARY KEY, body BLOB, sent INTEGER)")

room = threading.Semaphore(IN_FLIGHT)
waiting = {}
acknowledged = deque()


def on_publish(_client, _userdata, mid, *_rest):
    acknowledged.append(mid)
    room.release()


def mark():
    while acknowledged:
        row = waiting.pop(acknowledged.popleft())
        database.execute("UPDATE readings SET sent = 1 WHERE id = ?", (row,))


if hasattr(mqtt, "CallbackAPIVersion"):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="python")
else:
    client = mqtt.Client(client_id="python")
client.on_publish = on_publish
client.tls_set(ca, certificate, key)
client.max_inflight_messages_set(IN_FLIGHT)
client.connect("localhost", int(port))
client.loop_start()

listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
while True:
    program, _ = listener.accept()
    with program, program.makefile("rb") as lines:
        for line in lines:
            body = line.rstrip()
            room.acquire()
            mark()
            row = database.execute("INSERT INTO readings(body, sent) VALUES (?, 0)", (body,))
            waiting[client.publish(topic, body, qos=1).mid] = row.lastrowid
            program.sendall(b"ok\n")
