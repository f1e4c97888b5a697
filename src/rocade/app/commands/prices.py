"""Commands about price lists at the API: make a list, publish a file (dry run, then release), see how far it came, who leaked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

ACCEPTABLE = ("factors", "withdrawals", "zero", "past")

_list = click.option("--list", "list_id", required=True, help="Id of the price list, as `prices lists` shows it.")


@click.group()
def prices() -> None:
    """Price lists: publish a file whole or not at all, see how far it came, trace one that leaked."""


@prices.command(
    "add", epilog=example("prices add renault-fr-retail --brand renault --country FR --currency EUR --config ./eu")
)
@click.argument("list_id", metavar="LIST")
@click.option("--brand", required=True, help="Points of sale that sell or service it are entitled to the list.")
@click.option("--country", required=True, help="Two capital letters; only points of sale there are entitled.")
@click.option("--currency", required=True, help="Three capital letters, ISO 4217.")
@click.option("--kind", type=click.Choice(["retail", "net"]), default="retail", show_default=True)
@config_option
@click.pass_obj
def add(
    load: Load, list_id: str, brand: str, country: str, currency: str, kind: str, config: Path | None
) -> None:  # fmt: skip
    """Make an empty price list."""
    body = {"id": list_id, "brand": brand, "country": country, "currency": currency, "kind": kind}
    with ApiClient(load(config)) as api:
        made = api.send("/v1/price-lists", json=body)
    click.echo(f"{made['id']}: nothing released yet; {made['entitled']} points of sale are entitled to it")


@prices.command("lists", epilog=example("prices lists --config ./eu"))
@config_option
@click.pass_obj
def lists(load: Load, config: Path | None) -> None:
    """List the price lists."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/price-lists")["items"]
    table = Table("list", "brand", "country", "currency", "kind", "release", "references", "entitled")
    for one in items:
        table.add(
            one["id"], one["brand"], one["country"], one["currency"], one["kind"], str(one["seq"]), str(one["parts"]),
            str(one["entitled"]),
        )  # fmt: skip
    table.show()


@prices.command(
    "publish",
    epilog=example(
        "prices publish prices.csv --list renault-fr-retail --dry-run --config ./eu",
        "prices publish prices.csv --list renault-fr-retail --at 2026-12-01T00:00[Europe/Paris] --config ./eu",
        "prices publish fix.csv --list renault-fr-retail --only-changes --at 2026-11-01T00:00Z --accept past --config ./eu",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_list
@click.option(
    "--at",
    "effective",
    help="When it takes effect: 2026-12-01T00:00:00+01:00 or 2026-12-01T00:00[Europe/Paris]; default now.",
)
@click.option(
    "--only-changes", is_flag=True, help="References the file leaves out stay; without it they are withdrawn."
)
@click.option("--note", default="", help="What this release is, for those who look later.")
@click.option(
    "--accept", multiple=True, type=click.Choice(ACCEPTABLE), help="Accept what the report warns of; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@config_option
@click.pass_obj
def publish(
    load: Load, file: Path, list_id: str, effective: str | None, note: str, accept: tuple[str, ...], config: Path | None,
    *, only_changes: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Check FILE line by line, show what it changes, and release it."""
    at = effective or datetime.now(UTC).isoformat(timespec="seconds")
    mode = "changes" if only_changes else "full"
    with ApiClient(load(config)) as api:
        draft = api.send(
            f"/v1/price-lists/{quote(list_id, safe='')}/drafts", file=file, effective=at, mode=mode, note=note or None
        )
        for line in draft["lines"]:
            click.echo(line)
        report = draft["report"]
        if report["problem_count"]:
            raise SystemExit(1)
        if dry_run:
            _say_how(draft, list_id)
            return
        needs = [one for one in report["needs"] if one not in accept and not (one == "past" and effective is None)]
        if needs:
            click.echo(f"not released: accept {', '.join(needs)} with --accept, or correct the file", err=True)
            raise SystemExit(1)
        given = ",".join((*accept, *(("past",) if effective is None else ())))
        done = api.post(f"/v1/price-lists/{quote(list_id, safe='')}/drafts/{draft['id']}/release", accept=given or None)
    click.echo(f"released as number {done['seq']} of {list_id}, effective {_shown(done['effective_us'])}")


@prices.command(
    "release", epilog=example("prices release 0f3c... --list renault-fr-retail --accept factors --config ./eu")
)
@click.argument("draft")
@_list
@click.option(
    "--accept", multiple=True, type=click.Choice(ACCEPTABLE), help="Accept what the report warns of; may be repeated."
)
@config_option
@click.pass_obj
def release(load: Load, draft: str, list_id: str, accept: tuple[str, ...], config: Path | None) -> None:
    """Release a file that was handed in before (`publish --dry-run` shows its id)."""
    with ApiClient(load(config)) as api:
        done = api.post(
            f"/v1/price-lists/{quote(list_id, safe='')}/drafts/{draft}/release", accept=",".join(accept) or None
        )
    click.echo(f"released as number {done['seq']} of {list_id}, effective {_shown(done['effective_us'])}")


@prices.command("show", epilog=example("prices show --list renault-fr-retail --config ./eu"))
@_list
@config_option
@click.pass_obj
def show(load: Load, list_id: str, config: Path | None) -> None:
    """Releases of a list, and how far the last one came."""
    with ApiClient(load(config)) as api:
        found = api.get(f"/v1/price-lists/{quote(list_id, safe='')}/releases")["items"]
        progress = api.get(f"/v1/price-lists/{quote(list_id, safe='')}/progress")
    table = Table("release", "effective (UTC)", "released (UTC)", "by", "changes", "note")
    for one in found:
        table.add(
            str(one["seq"]), _shown(one["effective_us"]), _shown(one["released_us"]), one["released_by"],
            str(one["changes"]), one["note"],
        )  # fmt: skip
    table.show()
    click.echo(
        f"release {progress['seq']}: {progress['entitled']} points of sale entitled, {progress['fetched']} fetched, "
        f"{progress['applied']} applied, {progress['refused']} refused"
    )


@prices.command("who-leaked", epilog=example("prices who-leaked found.csv --list renault-fr-retail --config ./eu"))
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_list
@config_option
@click.pass_obj
def who_leaked(load: Load, file: Path, list_id: str, config: Path | None) -> None:
    """Name the point of sale whose export of a list FILE was made from: sorted, cut, or in another form."""
    with ApiClient(load(config)) as api:
        found = api.send(f"/v1/price-lists/{quote(list_id, safe='')}/leaks", file=file)
    for one in found["suspects"]:
        if one["is_named"]:
            click.echo(f"{one['site']}: {one['marks']} of its {found['marks_each']} marks")
    if not found["named"]:
        click.echo("nobody is named: fewer than three marks of any one point of sale are in the file")
        raise SystemExit(1)


@prices.command("cut-off", epilog=example("prices cut-off --list renault-fr-retail --config ./eu"))
@_list
@config_option
@click.pass_obj
def cut_off(load: Load, list_id: str, config: Path | None) -> None:
    """Seal the next release with a new key, given only to those entitled now (the next release does so by itself when one left)."""
    with ApiClient(load(config)) as api:
        done = api.post(f"/v1/price-lists/{quote(list_id, safe='')}/epochs", reason="asked")
    click.echo(f"{list_id}: epoch {done['epoch']} from the next release on")


@prices.command("key", epilog=example("prices key --config ./eu"))
@config_option
@click.pass_obj
def key(load: Load, config: Path | None) -> None:
    """Make the list-signing key of a region that was made without one; the root's key must lie here."""
    from rocade.app.local import Hand, act
    from rocade.core.errors import Misconfigured
    from rocade.services.prices import create
    from rocade.trust.identity.keys import read_private

    async def make(hand: Hand) -> None:
        trust = hand.configuration.trust
        if (trust / "prices" / "key.json").exists():
            raise Misconfigured("prices.key.exists", "this region has its list-signing key")
        root_key = read_private(trust / "root" / "key.pem")
        await hand.record("prices.key", "region")
        create(trust / "prices", root_key, hand.random)

    act(load(config), make)
    click.echo("the list-signing key is made and signed by the root; restart the region to use it")


def _say_how(draft: dict[str, Any], list_id: str) -> None:
    if not sum(draft["report"][name] for name in ("new", "changed", "withdrawn", "described")):
        click.echo("nothing changes")
        return
    accept = "".join(f" --accept {one}" for one in draft["report"]["needs"])
    click.echo(f"to release it: rocade prices release {draft['id']} --list {list_id}{accept}")


def _shown(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


COMMANDS = (prices,)
