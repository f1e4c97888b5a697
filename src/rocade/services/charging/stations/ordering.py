"""Orders to stations, in each version's words: start, stop, reset, unlock, trigger, clear, composite, password, certificate.

`carry_out(context, order)` -> the station's answer. Refuses acts nobody knows, connectors and transactions that are not there.
No secret stands in an order's row: a new password is made here and known to the station alone, the door keeps its hash, and the old
one is good until the new one is used first; the tag of a remote start is made for this one start and tied to its vehicle.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rocade.core.errors import Refused
from rocade.core.ports import Clock, Random
from rocade.fabric.database import Database
from rocade.services.charging.stations import errors, ledger, profiles, proving, store
from rocade.services.charging.stations.dialect import PURPOSES
from rocade.services.charging.stations.intake import Context
from rocade.services.charging.stations.limiting import Call
from rocade.services.charging.stations.model import Tag
from rocade.services.charging.stations.sealing import StationSeals
from rocade.services.charging.stations.store import Order
from rocade.trust.authority.sealing.columns import Columns

ACTS = ("start", "stop", "reset", "unlock", "trigger", "clear", "composite", "password", "certify", "close")
TRIGGERS = ("BootNotification", "Heartbeat", "MeterValues", "StatusNotification")
HOUR_S = 3600
START_US = 300_000_000
"""A remote start's tag is good for five minutes: that long a driver may take to plug in."""


class Ordering:
    def __init__(self, database: Database, call: Call, clock: Clock, random: Random, tags: proving.Tags) -> None:
        self._database, self._call, self._clock, self._random, self._tags = database, call, clock, random, tags
        self._seals = StationSeals(database)

    async def carry_out(self, context: Context, order: Order) -> dict[str, Any]:
        """Raises: Refused, Unavailable; KeyError for a body that our own API should have refused."""
        act = {
            "start": self._start, "stop": self._stop, "reset": self._reset, "unlock": self._unlock, "trigger": self._trigger,
            "clear": self._clear, "composite": self._composite, "password": self._password, "certify": self._certify,
        }.get(order.act)  # fmt: skip
        if act is None:
            raise errors.invalid("act", "one of " + ", ".join(ACTS))
        return await act(context, order.body)

    async def _start(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        evse, vehicle = int(body["evse"]), body.get("vehicle")
        tag = proving.new_password(self._random)
        now_us = self._clock.now_us()
        digest = (await self._seals.at_hand()).blind_tag(self._tags.digest(tag))
        row = Tag(reference=digest[:6].hex(), vehicle=vehicle, label="start", ends_us=now_us + START_US)
        await store.put_tag(self._database.pool, Columns(self._database), digest, row, now_us)
        if context.version == "1.6":
            return await self._accepted(context, "RemoteStartTransaction", {"connectorId": evse, "idTag": tag})
        wanted = {
            "evseId": evse,
            "remoteStartId": self._random.bits(31),
            "idToken": {"idToken": tag, "type": "Central"},
        }
        return await self._accepted(context, "RequestStartTransaction", wanted)

    async def _stop(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        found = await ledger.read_transaction(
            self._database.pool, await self._seals.at_hand(), int(body["transaction"])
        )
        if found is None or found.station != context.station.id or found.ended_us is not None:
            raise errors.transaction_unknown()
        if context.version == "1.6":
            return await self._accepted(context, "RemoteStopTransaction", {"transactionId": found.number})
        return await self._accepted(context, "RequestStopTransaction", {"transactionId": found.reference})

    async def _reset(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        is_hard = bool(body.get("hard"))
        kinds = ("Soft", "Hard") if context.version == "1.6" else ("OnIdle", "Immediate")
        return await self._accepted(context, "Reset", {"type": kinds[is_hard]})

    async def _unlock(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        evse, connector = int(body["evse"]), int(body.get("connector", 1))
        place = {"connectorId": evse} if context.version == "1.6" else {"evseId": evse, "connectorId": connector}
        return await self._accepted(context, "UnlockConnector", place, "Unlocked")

    async def _trigger(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        payload: dict[str, Any] = {"requestedMessage": str(body["message"])}
        if evse := int(body.get("evse", 0)):
            payload |= {"connectorId": evse} if context.version == "1.6" else {"evse": {"id": evse}}
        return await self._accepted(context, "TriggerMessage", payload)

    async def _clear(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        purpose = next(one for one in PURPOSES if one == body["purpose"])
        number = profiles.profile_id(int(body["evse"]), purpose)
        return await self._call(
            context.station.id, "ClearChargingProfile", profiles.clear_profile(context.version, number)
        )

    async def _composite(self, context: Context, body: dict[str, Any]) -> dict[str, Any]:
        payload = profiles.get_composite(
            context.version, int(body["evse"]), int(body.get("seconds", HOUR_S)), str(body.get("unit", ""))
        )
        return await self._accepted(context, "GetCompositeSchedule", payload)

    async def _password(self, context: Context, _body: dict[str, Any]) -> dict[str, Any]:
        id, password = context.station.id, proving.new_password(self._random)
        secret = await asyncio.to_thread(proving.hash_password, password)
        await store.put_next_secret(self._database.pool, id, secret, at_once=False)
        try:
            return await self._send_password(context, password)
        except Refused:
            await store.drop_next_secret(self._database.pool, id, secret)
            raise

    async def _send_password(self, context: Context, password: str) -> dict[str, Any]:
        if context.version == "1.6":
            text = password.encode().hex()  # the security whitepaper for 1.6 writes AuthorizationKey in hexadecimal
            return await self._accepted(context, "ChangeConfiguration", {"key": "AuthorizationKey", "value": text})
        one = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        answer = await self._call(
            context.station.id, "SetVariables", {"setVariableData": [{**one, "attributeValue": password}]}
        )
        status = answer["setVariableResult"][0]["attributeStatus"]
        if status not in {"Accepted", "RebootRequired"}:
            raise errors.said_no(status)
        return {"status": status}

    async def _certify(self, context: Context, _body: dict[str, Any]) -> dict[str, Any]:
        """Ask the station for a signing request; what follows is its own (`SignCertificate`)."""
        if context.version == "1.6":
            payload = {"requestedMessage": "SignChargePointCertificate"}
            return await self._accepted(context, "ExtendedTriggerMessage", payload)
        return await self._accepted(context, "TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"})

    async def _accepted(
        self, context: Context, action: str, payload: dict[str, Any], wanted: str = "Accepted"
    ) -> dict[str, Any]:
        """Raises: Refused `stations.said_no`."""
        answer = await self._call(context.station.id, action, payload)
        if answer.get("status") not in {wanted, "Scheduled", "RebootRequired"}:
            raise errors.said_no(str(answer.get("status")))
        return answer


def check(act: str, body: dict[str, Any]) -> None:
    """Raises: Refused `stations.invalid` for what no station could do."""
    if act not in ACTS:
        raise errors.invalid("act", "one of " + ", ".join(ACTS))
    needs = {
        "start": ("evse",),
        "stop": ("transaction",),
        "unlock": ("evse",),
        "trigger": ("message",),
        "composite": ("evse",),
    }
    for field in needs.get(act, ()):
        if not body.get(field):
            raise errors.invalid(field, f"needed for {act}")
    if act == "trigger" and body["message"] not in TRIGGERS:
        raise errors.invalid("message", "one of " + ", ".join(TRIGGERS))
