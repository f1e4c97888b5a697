"""Clients nobody here wrote publish through the door over mutual TLS: paho, aiomqtt, mosquitto_pub, MQTT.js."""

from __future__ import annotations

import asyncio
import threading

import paho.mqtt.client as paho
import pytest

VIN = "VF1AAAAA555111111"
TOPIC = f"rocade/v1/{VIN}/up/batch"


def publish_by_paho(port: int, identity, protocol: int, bodies: list[bytes]) -> list[int]:
    """Publish at QoS 1 and wait for every PUBACK; returns their reason codes."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="car", protocol=protocol)
    client.tls_set(str(identity / "trust.pem"), str(identity / "certificate.pem"), str(identity / "key.pem"))
    reasons: list[int] = []
    done = threading.Event()

    def on_publish(_client, _data, _mid, reason, _properties) -> None:
        reasons.append(reason.value)
        if len(reasons) == len(bodies):
            done.set()

    client.on_publish = on_publish
    client.on_connect = lambda *_: [client.publish(TOPIC, body, qos=1) for body in bodies]
    client.connect("localhost", port)
    client.loop_start()
    assert done.wait(10), reasons
    client.disconnect()
    client.loop_stop()
    return reasons


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
async def test_paho_publishes_and_everything_is_stored_in_order(door, yard, protocol) -> None:
    bodies = [b"%d" % number for number in range(50)]
    reasons = await asyncio.to_thread(publish_by_paho, door.port, yard.identity(VIN), protocol, bodies)
    assert reasons == [0] * 50
    assert [publish.body for publish in door.intake.stored] == bodies
    assert {publish.tail for publish in door.intake.stored} == {"batch"}
