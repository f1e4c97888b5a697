"""A role of Rocade whose road seals nothing: `python benchmarks/unsealed.py serve --config DIR/rocade.toml --role worker`.

What a sealed road is compared with. The product has no switch: this program takes the seals off from outside, records and twins
go as they came, the history lies on the plain disk, and then it plays the role as `rocade` does.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence


def take_seals_off() -> None:
    from rocade.fabric.log import Record
    from rocade.services.telemetry import sealing as road
    from rocade.services.vehicles import sealing as twin

    async def sealed(_self: road.RoadSeals, records: Sequence[road.Numbered]) -> list[Record]:
        return [record for record, _ in records]

    async def opened(_self: road.RoadSeals, records: Sequence[Record], erased: Collection[int] = ()) -> road.Opened:
        return road.Opened([record for record in records if record.key not in erased], 0, [])

    setattr(road.RoadSeals, "sealed_numbered", sealed)  # noqa: B010 - a method is replaced from outside
    setattr(road.RoadSeals, "opened", opened)  # noqa: B010
    bare = {
        "seal": lambda _key, plain, _aad: plain,
        "open_sealed": lambda _key, sealed, _aad: sealed,
        "aad": lambda *_: b"",
    }
    vars(twin).update(bare)


def take_disk_off() -> None:
    from rocade.fabric.history import disk

    disk._SETTINGS = disk._SETTINGS.replace("  <merge_tree><storage_policy>sealed</storage_policy></merge_tree>\n", "")
    disk._SETTINGS = disk._SETTINGS.replace("<keep_free_space_bytes>{no_room}</keep_free_space_bytes>", "")


def main() -> None:
    from rocade.app.cli import main as rocade

    if sys.argv[sys.argv.index("--role") + 1] == "store":
        take_disk_off()
    else:
        take_seals_off()
    rocade()


if __name__ == "__main__":
    main()
