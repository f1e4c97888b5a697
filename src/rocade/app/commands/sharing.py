"""Commands about data shared with third parties: the operator's overview and terms; what a third party does with its contracts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.errors import Refused, Unavailable

AGAIN_S = 2.0
_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
identity_option = click.option(
    "--identity",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of the third party's certificate and key.",
)


@click.group()
def sharing() -> None:
    """Vehicle data that owners have sent to third parties, under contracts."""


# --- the operator -----------------------------------------------------------------------------------------------------


@sharing.command("overview", epilog=example("sharing overview --config ./eu"))
@config_option
@click.pass_obj
def overview(load: Load, config: Path | None) -> None:
    """Contracts by third party and purpose, without persons and vehicles; the terms."""
    with ApiClient(load(config)) as api:
        found = api.get("/v1/sharing/overview")
    table = Table("third party", "purpose", "running", "not taken up")
    for one in found["contracts"]:
        table.add(one["party"], one["purpose"], str(one["running"]), str(one["offered"]))
    table.show()
    terms = Table("terms", "for", "compensation", "kept back", "reason", "since (UTC)")
    for one in found["terms"]:
        terms.add(
            str(one["version"]), one["party"] or "anybody", one["compensation"] or "none",
            " ".join(one["withheld"]) or "nothing", one["reason"], _time(one["made_us"]),
        )  # fmt: skip
    terms.show()


@sharing.command(
    "terms",
    epilog=example('sharing terms --withhold Vehicle.ADAS.ABS.IsEngaged --reason "supplier\'s secret" --config ./eu'),
)
@click.option("--party", default="", help="partner:ID or dealer:ID. Default: anybody.")
@click.option("--compensation", default="", help="What is asked of the third party, in words.")
@click.option("--withhold", multiple=True, help="A signal kept back as a trade secret; may be repeated.")
@click.option("--reason", default="", help="Why; owner and third party are told.")
@config_option
@click.pass_obj
def terms(
    load: Load, party: str, compensation: str, withhold: tuple[str, ...], reason: str, config: Path | None
) -> None:
    """Set the terms of contracts made from now on; those made before keep theirs."""
    with ApiClient(load(config)) as api:
        made = api.post(
            "/v1/sharing/terms", party=party, compensation=compensation, withheld=list(withhold), reason=reason
        )
    click.echo(f"terms {made['version']} for {made['party'] or 'anybody'}")


@sharing.command("stop", epilog=example("sharing stop partner:acme --config ./eu"))
@click.argument("party")
@config_option
@click.pass_obj
def stop(load: Load, party: str, config: Path | None) -> None:
    """End every contract of a third party at once. Its certificate is revoked apart: `rocade revoke`."""
    with ApiClient(load(config)) as api:
        found = api.post(f"/v1/sharing/parties/{quote(party, safe='')}/stop")
    click.echo(f"{found['contracts']} contracts ended")


# --- a third party ----------------------------------------------------------------------------------------------------


@sharing.command("contracts", epilog=example("sharing contracts --identity ./acme --config ./eu"))
@identity_option
@config_option
@click.pass_obj
def contracts(load: Load, identity: Path, config: Path | None) -> None:
    """A third party's contracts, the newest first."""
    with ApiClient(load(config), identity=identity) as api:
        found = api.get("/v1/sharing/contracts")["items"]
    table = Table("contract", "state", "purpose", "classes", "ways", "until (UTC)", "terms")
    for one in found:
        until = _time(one["until_us"]) if one["until_us"] else "no end"
        state = f"{one['state']} ({one['why_ended']})" if one["why_ended"] else one["state"]
        asked = one["terms"]["compensation"] or "none"
        table.add(one["id"], state, one["purpose"], " ".join(one["classes"]), " ".join(one["ways"]), until, asked)
    table.show()


def _decide(load: Load, config: Path | None, identity: Path, contract: str, act: str) -> None:
    with ApiClient(load(config), identity=identity) as api:
        one = api.send(f"/v1/sharing/contracts/{quote(contract, safe='')}/{act}")
    click.echo(f"{one['id']}: {one['state']}")
    if one["withheld"]:
        click.echo(f"kept back ({one['terms']['reason']}): {' '.join(one['withheld'])}")


@sharing.command("accept", epilog=example("sharing accept contract-5f0c --identity ./acme --config ./eu"))
@click.argument("contract")
@identity_option
@config_option
@click.pass_obj
def accept(load: Load, contract: str, identity: Path, config: Path | None) -> None:
    """Take a contract up, with its terms: from now on data flow."""
    _decide(load, config, identity, contract, "accept")


@sharing.command("decline", epilog=example("sharing decline contract-5f0c --identity ./acme --config ./eu"))
@click.argument("contract")
@identity_option
@config_option
@click.pass_obj
def decline(load: Load, contract: str, identity: Path, config: Path | None) -> None:
    """Not this contract, or no longer."""
    _decide(load, config, identity, contract, "decline")


@sharing.command(
    "webhook", epilog=example("sharing webhook contract-5f0c https://acme.example/cars --identity ./acme --config ./eu")
)
@click.argument("contract")
@click.argument("url", default="")
@click.option("--rotate", is_flag=True, help="Make a new secret; the old one signs besides for a day.")
@click.option("--resume", is_flag=True, help="Try the address again now.")
@identity_option
@config_option
@click.pass_obj
def webhook(
    load: Load, contract: str, url: str, identity: Path, config: Path | None, *, rotate: bool, resume: bool
) -> None:
    """Set, show or resume the address that a contract's records are posted to."""
    path = f"/v1/sharing/contracts/{quote(contract, safe='')}/webhook"
    with ApiClient(load(config), identity=identity) as api:
        if url:
            made = api.put_body(path, msgspec.json.encode({"url": url}))
            click.echo(f"secret, shown this once: {made['secret']}")
        elif rotate:
            click.echo(f"secret, shown this once: {api.post(f'{path}/rotate')['secret']}")
        else:
            if resume:
                api.post(f"{path}/resume")
            one = api.get(path)
            told = _time(one["told_us"]) if one["told_us"] else "never"
            click.echo(f"{one['url']}: last taken {told}, last answer {one['status'] or 'none'}")
            if one["attempt"]:
                click.echo(f"{one['attempt']} failures in a row, next try {_time(one['due_us'])}")
            if one["paused_us"]:
                click.echo("paused: --resume begins again where it was")


@sharing.command("follow", epilog=example("sharing follow contract-5f0c --identity ./acme --config ./eu"))
@click.argument("contract", default="")
@click.option("--cursor", default="", help="Go on behind this event. Default: from now.")
@click.option("--count", type=click.IntRange(0), default=0, help="Stop after so many records; 0 = never.")
@identity_option
@config_option
@click.pass_obj
def follow(load: Load, contract: str, cursor: str, count: int, identity: Path, config: Path | None) -> None:
    """Print what a contract (or all of them) gives as it comes, one JSON object a line; reconnects by itself."""
    seen = 0
    with ApiClient(load(config), identity=identity) as api:
        while True:
            try:
                for name, last, data in _events(api, contract, cursor):
                    cursor = last or cursor
                    if name == "record":
                        click.echo(data)
                        seen += 1
                    elif name in ("ended", "expired"):
                        click.echo(f"{name}: {data}", err=True)
                    if (count and seen >= count) or (name == "ended" and contract):
                        return
            except Unavailable as error:
                click.echo(f"{error.message}; goes on in a moment", err=True)
            time.sleep(AGAIN_S)


def _events(api: ApiClient, contract: str, cursor: str) -> Any:
    """(name, id, data) of each event as it comes."""
    waiting = b""
    for piece in api.stream("/v1/sharing/stream", contract=contract or None, cursor=cursor or None):
        *whole, waiting = (waiting + piece).split(b"\n\n")
        for one in whole:
            lines = dict(line.split(": ", 1) for line in one.decode().split("\n") if ": " in line[1:])
            if "event" in lines:
                yield lines["event"], lines.get("id", ""), lines.get("data", "")


@sharing.command(
    "fetch", epilog=example("sharing fetch contract-5f0c --out cars.parquet --identity ./acme --config ./eu")
)
@click.argument("contract")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option("--from", "since", type=_moment, help="Instant (UTC), inclusive. Default: when the contract began.")
@click.option("--until", type=_moment, help="Instant (UTC), exclusive. Default: now.")
@identity_option
@config_option
@click.pass_obj
def fetch(
    load: Load,
    contract: str,
    out: Path,
    since: datetime | None,
    until: datetime | None,
    identity: Path,
    config: Path | None,
) -> None:
    """Fetch a contract's past as one Parquet file."""
    path, asked = (
        f"/v1/sharing/contracts/{quote(contract, safe='')}/parquet",
        {"from_us": _us(since), "until_us": _us(until)},
    )
    part = out.with_name(f"{out.name}.part")
    with ApiClient(load(config), identity=identity) as api, part.open("wb") as file:
        size, end = 0, b""
        for piece in api.stream(path, **asked):
            size += file.write(piece)
            end = (end + piece)[-len(_PARQUET) :]
    if end != _PARQUET:
        part.unlink()
        raise Refused("sharing.contract.ended", "the file was cut off: the contract has ended meanwhile", why="ended")
    part.replace(out)
    click.echo(f"{out}: {size} bytes")


_PARQUET = b"PAR1"


@sharing.command("log", epilog=example("sharing log contract-5f0c --identity ./acme --config ./eu"))
@click.argument("contract")
@identity_option
@config_option
@click.pass_obj
def show_log(load: Load, contract: str, identity: Path, config: Path | None) -> None:
    """What was sent under a contract and what failed, the newest first."""
    with ApiClient(load(config), identity=identity) as api:
        found = api.get(f"/v1/sharing/contracts/{quote(contract, safe='')}/log")["items"]
    table = Table("at (UTC)", "what", "way", "records", "values", "bytes", "code")
    for one in found:
        numbers = (str(one[name] or "") for name in ("records", "samples", "bytes"))
        table.add(_time(one["at_us"]), one["kind"], one["way"], *numbers, one["code"])
    table.show()


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


COMMANDS = [sharing]
