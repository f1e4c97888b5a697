"""Kill -9 at random instants while price heads are applied: what is on disk afterwards must be one whole number of the list.

A child applies one head after the other, from an empty store on, and says each number when `apply` has returned; it is killed, and the
store it leaves is opened: its rows must give the state root of the head it names, and no number that was said may be missing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from rocade.agents.dealer.prices import PriceStore
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PublicKey, new_key

if TYPE_CHECKING:
    from price_lists import Press
from rocade.wire.prices import KEY_TYPE, EpochLetter, WrappedKey, wrap_key, write_letter


@dataclass
class Outcome:
    """`within`: kills that came before the child had gone through all numbers; `half`: stores that were not one whole number."""

    kills: int = 0
    within: int = 0
    half: int = 0
    lost: int = 0
    fresh: int = 0
    """Kills that found no number applied yet."""


class Keys:
    """The point of sale's encryption key."""

    def __init__(self) -> None:
        self.private = X25519PrivateKey.generate()

    @property
    def private_keys(self) -> list[X25519PrivateKey]:
        return [self.private]


def publish(directory: Path, press: Press) -> None:
    """Heads, files, letter and root key of a list, on disk."""
    root, signing, keys = new_key(), press.signing, Keys()
    public = signing.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    statement = envelope.seal(KEY_TYPE, public, root).decode()
    wrapped = WrappedKey(press.list_id, 1, (wrap_key(press.key, keys.private.public_key(), press.list_id, 1),))
    (directory / "blobs").mkdir(parents=True)
    for name, content in press.files.items():
        (directory / "blobs" / name).write_bytes(content)
    (directory / "heads").write_bytes(msgspec.msgpack.encode(press.signed))
    (directory / "root").write_bytes(root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    open_store(directory, "template").keep_epoch(write_letter(EpochLetter((wrapped,), (statement,))), keys)


def open_store(directory: Path, name: str) -> PriceStore:
    root = load_der_public_key((directory / "root").read_bytes())
    assert isinstance(root, PublicKey.__value__)
    return PriceStore(directory / name / "prices.sqlite3", lambda: root)


def apply_all(directory: Path) -> None:
    """What the child does."""
    heads: list[bytes] = msgspec.msgpack.decode((directory / "heads").read_bytes())
    store = open_store(directory, "store")
    held = store.heads()
    print("begun", flush=True)
    for envelope_ in heads[held[0].seq if held else 0 :]:
        print(store.apply(envelope_, lambda name: (directory / "blobs" / name).read_bytes()).seq, flush=True)
    print("ended", flush=True)
    time.sleep(3600)


def kill_while_applying(directory: Path, press: Press, count: int, seed: int, most_s: float) -> Outcome:
    """`count` kills, each after a random time of at most `most_s` since the child began to apply what the press has published."""
    publish(directory, press)
    numbers = len(press.signed)
    chance, outcome = random.Random(seed), Outcome()
    while outcome.kills < count:
        if not (directory / "store").exists():
            _copy(directory / "template", directory / "store")
        child = subprocess.Popen([sys.executable, __file__, str(directory)], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        assert child.stdout.readline() == "begun\n"
        time.sleep(chance.uniform(0, most_s))
        child.send_signal(signal.SIGKILL)
        said = child.stdout.read().split()
        child.wait()
        outcome.kills += 1
        outcome.within += "ended" not in said
        last = max((int(word) for word in said if word.isdigit()), default=0)
        seq = _check(directory, outcome, last)
        if seq == numbers:  # begin again from nothing
            for file in (directory / "store").iterdir():
                file.unlink()
            (directory / "store").rmdir()
    return outcome


def _check(directory: Path, outcome: Outcome, last: int) -> int:
    """The number that the store holds after a kill; what is wrong with it is counted."""
    store = open_store(directory, "store")
    held = store.heads()
    seq = held[0].seq if held else 0
    outcome.fresh += not held
    outcome.half += any(store.verify_all().values())
    outcome.lost += seq < last
    store.close()
    return seq


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    apply_all(Path(sys.argv[1]))
