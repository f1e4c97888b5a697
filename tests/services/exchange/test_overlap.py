"""Certificates overlap in all six places, are renewed without losing a message, and revocation has one clear rule."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from tests.clocks import PassingClock
from tests.services.exchange.hub import Dealer, Hub, eventually

from rocade.core.errors import RocadeError
from rocade.services.exchange import Wanted
from rocade.trust.authority.region import LEAF_LIFE_US
from rocade.trust.identity import signers
from rocade.trust.identity.directory import load_issuers, load_key
from rocade.trust.identity.envelope import unseal
from rocade.wire.exchange import REVOCATIONS_TYPE, ROOT_TYPE, read_receipts, read_revocations, read_root

DAY_US = 86_400_000_000
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


async def renewed(hub: Hub, dealer: Dealer) -> Dealer:
    """The same site with a new key and certificate; the old pair stays where it was."""
    copy = dealer.directory.with_name(f"{dealer.directory.name}-new")
    (await hub.authority.provision([dealer.identity], "test"))[0].write(copy)
    new = Dealer(hub, copy)
    hub.dealers.append(new)
    return new


async def revoke(hub: Hub, dealer: Dealer) -> int:
    """Revoke the certificate in this dealer's directory; returns once the hub has heard."""
    from rocade.trust.identity.directory import load_leaf

    serial = load_leaf(dealer.directory).serial_number
    await hub.authority.revoke_serial(serial, "stolen", "test")
    await eventually(lambda: _so(hub.denied.is_revoked(serial)))
    return serial


async def _so(value: object) -> object:
    return value


# --- sign, verify ----------------------------------------------------------------------------------------------------------


async def test_sign_with_the_old_key_and_with_the_new_one_over_either_connection(hub: Hub) -> None:
    old = await hub.dealer("FR-1")
    await old.connect()
    new = await renewed(hub, old)
    told = [
        await old.send(old.message(b"old key")),
        await old.send(old.message(b"new key"), key=load_key(new.directory)),
    ]
    new.sequences = old.sequences
    await new.connect()
    told += [
        await new.send(new.message(b"new key, new line")),
        await new.send(new.message(b"old key, new line"), key=load_key(old.directory)),
    ]
    assert told == [(0, "")] * 4


async def test_verify_takes_every_key_in_force_and_nobody_elses(hub: Hub) -> None:
    one, other = await hub.dealer("FR-1"), await hub.dealer("FR-2")
    await one.connect()
    assert await one.send(one.message(), key=load_key(other.directory)) == (0x87, "exchange.key.unknown")
    assert await one.send(other.message()) == (0x87, "exchange.sender.foreign")


async def test_renewal_between_two_messages_loses_none(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    sent = []
    for number in range(12):
        if number % 4 == 3:
            new = await renewed(hub, dealer)
            for name in ("key.pem", "certificate.pem"):
                shutil.copy(new.directory / name, dealer.directory / name)
            if number == 7:
                dealer.hang_up()
                await dealer.connect()
        message = dealer.message(b"%d" % number)
        assert await dealer.send(message) == (0, "")
        sent.append(message.id)
    kept = await hub.exchange.search(Wanted(party="dealer/FR-1"))
    assert [one.id for one in reversed(kept)] == sent
    assert {one.state for one in kept} == {"received"}


# --- encrypt, decrypt -------------------------------------------------------------------------------------------------------


async def test_encrypt_for_every_key_a_site_can_open_and_decrypt_with_the_older_one(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    old, new, ended = (X25519PrivateKey.generate() for _ in range(3))
    now_us = hub.clock.now_us()
    raw = [key.public_key().public_bytes_raw() for key in (new, old, ended)]
    ends = [now_us + 90 * DAY_US, now_us + 30 * DAY_US, now_us - DAY_US]
    assert await dealer.announce(*zip(raw, ends, strict=True)) == (0, "")
    keys = await hub.exchange.encryption_keys("FR-1")
    assert keys == raw[:2], "the ended key is not encrypted for, the two others are"
    sealed = [SUITE.encrypt(b"prices", X25519PublicKey.from_public_bytes(key)) for key in keys]
    opened = []
    for content in sealed:
        for key in (old, new):
            with contextlib.suppress(InvalidTag):  # sealed for the other key
                opened.append(SUITE.decrypt(content, key))
    assert opened == [b"prices"] * 2
    assert await hub.exchange.encryption_keys("FR-1", now_us + 40 * DAY_US) == raw[:1]


async def test_an_older_announcement_does_not_replace_a_newer_one(hub: Hub, clock: PassingClock) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    new, old = (X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2))
    await dealer.announce((new, clock.now_us() + DAY_US))
    clock.ahead_us -= 60_000_000
    await dealer.announce((old, clock.now_us() + DAY_US))
    assert await hub.exchange.encryption_keys("FR-1") == [new]


# --- sign a receipt, verify a receipt -----------------------------------------------------------------------------------------


async def test_receipts_of_the_old_and_the_new_hub_key_both_verify(hub: Hub, clock: PassingClock) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    first = dealer.message(b"1")
    await dealer.send(first)
    await dealer.until(lambda: dealer.bodies("receipt"))
    dealer.hang_up()  # or the door may find that it was silent for days
    clock.ahead_us += 6 * DAY_US
    await dealer.connect()
    assert await hub.signer.renew(), "two thirds of the key's life are over"
    second = dealer.message(b"2")
    await dealer.send(second)
    await dealer.until(lambda: len(dealer.bodies("receipt")) == 2)
    await dealer.ask("signers")
    await dealer.until(lambda: dealer.bodies("signers"))
    import msgspec

    chains = [one.encode() for one in msgspec.json.decode(dealer.bodies("signers")[0])["chains"]]
    known = signers.read_signers(chains, load_issuers(dealer.directory), "exchange")
    assert len(known) == 2
    used = []
    for body in dealer.bodies("receipt"):
        payload, signer = signers.unseal(ROOT_TYPE, bytes(read_receipts(body).root), known)
        signers.check_time(signer, read_root(payload).at_us)
        used.append(signer.serial)
    assert len(set(used)) == 2, "the new key signs, the old one still verifies"


async def test_a_root_signed_outside_its_keys_time_does_not_count(hub: Hub, clock: PassingClock) -> None:
    known = signers.read_signers(await hub.exchange.chains(), load_issuers(hub.directory / "trust"), "exchange")
    (signer,) = known.values()
    signers.check_time(signer, hub.clock.now_us())
    with pytest.raises(RocadeError, match=r"trust\.signer\.time"):
        signers.check_time(signer, signer.not_after_us)


async def test_another_services_certificate_signs_no_receipts(hub: Hub) -> None:
    chain = (hub.directory / "server" / "certificate.pem").read_bytes()
    with pytest.raises(RocadeError, match=r"trust\.signer\.unknown"):
        signers.read_signers([chain], load_issuers(hub.directory / "trust"), "exchange")


# --- revocation ---------------------------------------------------------------------------------------------------------------


async def test_revoked_while_offline_what_comes_later_is_refused_and_what_was_recorded_stays(hub: Hub) -> None:
    old = await (await hub.dealer("FR-1")).connect()
    recorded = old.message(b"before")
    await old.send(recorded)
    old.hang_up()
    backdated = old.message(b"from the queue", created_us=hub.clock.now_us() - DAY_US)
    await revoke(hub, old)
    with pytest.raises(RocadeError):
        await old.connect()
    new = await (await renewed(hub, old)).connect()
    new.sequences = old.sequences
    assert await new.say("message", old.sealed(backdated)) == (0x87, "exchange.key.revoked")
    assert await new.send(backdated) == (0, ""), "its owner signs it again: same id, same content"
    states = {one.id: one.state for one in await hub.exchange.search(Wanted())}
    assert states == {recorded.id: "received", backdated.id: "received"}
    assert await new.send(recorded) == (0, ""), "a retry of what was recorded before is still that message"


async def test_a_certificate_revoked_in_the_middle_ends_its_connection_and_its_other_keys_go_on(hub: Hub) -> None:
    old = await (await hub.dealer("FR-1")).connect()
    new = await renewed(hub, old)
    await old.send(old.message())
    await revoke(hub, old)
    await old.until(lambda: old.ended)
    new.sequences = old.sequences
    await new.connect()
    assert await new.send(new.message()) == (0, "")
    assert await new.send(new.message(), key=load_key(old.directory)) == (0x87, "exchange.key.revoked")


async def test_the_signed_revocation_list_goes_down_and_never_back(hub: Hub) -> None:
    one, other = await hub.dealer("FR-1"), await hub.dealer("FR-2")
    await one.connect()
    await one.ask("revocations")
    await one.until(lambda: one.bodies("revocations"))
    serial = await revoke(hub, other)
    await one.until(lambda: len(one.bodies("revocations")) >= 2)
    known = signers.read_signers(await hub.exchange.chains(), load_issuers(one.directory), "exchange")
    keys = {name: held.key for name, held in known.items()}
    first, last = (
        read_revocations(unseal(REVOCATIONS_TYPE, body, keys))
        for body in (one.bodies("revocations")[0], one.bodies("revocations")[-1])
    )
    assert (first.revoked, [held for held, _ in last.revoked]) == ((), [f"{serial:x}"])
    with pytest.raises(RocadeError, match=r"exchange\.revocations\.older"):
        read_revocations(unseal(REVOCATIONS_TYPE, one.bodies("revocations")[0], keys), last.number)


# --- thirty days without the line ---------------------------------------------------------------------------------------------


async def test_a_queue_of_thirty_days_drains_in_order_with_the_signatures_it_has(hub: Hub, clock: PassingClock) -> None:
    """The certificate that signed it has ended meanwhile: another one of the same site holds the line."""
    clock.ahead_us = -(LEAF_LIFE_US["dealer"] + 5 * DAY_US)
    old = await hub.dealer("FR-1")
    begun_us = clock.now_us()
    clock.ahead_us = 0
    queue = []
    for day in range(30):
        made_us = begun_us + LEAF_LIFE_US["dealer"] - (30 - day) * 3_600_000_000
        message = old.message(b"day %d" % day, created_us=made_us)
        queue.append((message, old.sealed(message)))
    new = await (await renewed(hub, old)).connect()
    for _, sealed in queue:
        assert await new.say("message", sealed) == (0, "")
    kept = await hub.exchange.search(Wanted(party="dealer/FR-1"))
    assert [one.id for one in reversed(kept)] == [message.id for message, _ in queue]
    late = new.message(b"made after the end", created_us=clock.now_us(), sequence=31)
    assert await new.send(late, key=load_key(old.directory)) == (0x87, "exchange.key.ended")


async def test_the_signer_is_shared_by_processes_and_made_once(hub: Hub, tmp_path: Path) -> None:
    from rocade.services.exchange import SIGNER, Signer

    second = await Signer.of_hub(hub.directory / SIGNER, hub.database, hub.clock, hub.authority)
    assert second.public_key == hub.signer.public_key
