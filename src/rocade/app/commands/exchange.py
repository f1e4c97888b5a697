"""Commands about messages: find them, prove them, see and simulate where they go."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.wire.exchange import CLASSES


@click.group()
def exchange() -> None:
    """Messages between points of sale, systems and hubs: search, proofs, routes, other hubs."""


@exchange.command("search", epilog=example("exchange search --refused --party dealer/FR-00123-1 --config ./eu"))
@click.option("--party", default="", help="Who sent it: dealer/SITE, partner/ID, service/hub-REGION.")
@click.option("--id", "id", default="", help="The sender's own identifier.")
@click.option("--brand", default="", help="Brand of the address.")
@click.option("--country", default="", help="Country of the address.")
@click.option("--service", default="", help="Service of the address.")
@click.option("--site", default="", help="The point of sale it is addressed to.")
@click.option("--target", default="", help="Where it went: local/NAME, partner/ID, hub/hub-REGION, dealer/SITE.")
@click.option(
    "--state",
    "message_state",
    type=click.Choice(("waiting", "received", "accepted", "refused", "conflict")),
    default=None,
    help="Where it stands.",
)
@click.option("--class", "content_class", type=click.Choice(CLASSES), default=None, help="Class of its content.")
@click.option("--code", default="", help="Code of a refusal, or the family it belongs to.")
@click.option("--refused", is_flag=True, help="Only refused ones and conflicts.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@config_option
@click.pass_obj
def search(load: Load, /, config: Path | None, *, as_json: bool, refused: bool, **wanted: Any) -> None:
    """Find messages, the newest first; never what they say."""
    given = {name: value for name, value in wanted.items() if value}
    with ApiClient(load(config)) as api:
        found = api.get("/v1/exchange/messages", refused=refused or None, **given)["items"]
    if as_json:
        for one in found:
            click.echo(json.dumps(one))
        return
    table = Table("number", "from", "id", "service", "to", "state", "code", "reason")
    for one in found:
        table.add(
            str(one["number"]),
            one["party"],
            one["id"],
            one["service"],
            one["target"],
            one["state"],
            one["code"],
            one["reason"],
        )
    table.show()


@exchange.command("turned", epilog=example("exchange turned --code exchange.key --config ./eu"))
@click.option("--party", default="", help="On whose line it came.")
@click.option("--code", default="", help="A code or the family it belongs to.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@config_option
@click.pass_obj
def turned(load: Load, party: str, code: str, limit: int, config: Path | None) -> None:
    """What was refused before it was anybody's message: no signature that counts, no form, over quota."""
    with ApiClient(load(config)) as api:
        found = api.get("/v1/exchange/turned", party=party or None, code=code or None, limit=limit)["items"]
    table = Table("number", "line of", "under", "code", "times", "calls itself", "reason")
    for one in found:
        table.add(
            str(one["number"]), one["party"], one["tail"], one["code"], str(one["times"]), one["id"], one["reason"]
        )
    table.show()


@exchange.command("show", epilog=example("exchange show 4711 --content --config ./eu"))
@click.argument("number", type=click.IntRange(min=1))
@click.option("--content", is_flag=True, help="What it says too, as its sender signed it.")
@config_option
@click.pass_obj
def show(load: Load, number: int, config: Path | None, *, content: bool) -> None:
    """Where a message stands."""
    with ApiClient(load(config)) as api:
        one = api.get(f"/v1/exchange/messages/{number}")
        for name, value in one.items():
            click.echo(f"{name:14} {value}")
        if content:
            click.echo(json.dumps(api.get(f"/v1/exchange/{one['content_class']}/{number}"), indent=1))


@exchange.command("prove", epilog=example("exchange prove 4711 --out ./proofs --config ./eu"))
@click.argument("number", type=click.IntRange(min=1))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default=True,
    help="Where the files go.",
)
@config_option
@click.pass_obj
def prove(load: Load, number: int, out: Path, config: Path | None) -> None:
    """Write a message's receipts as proof files; `rocade verify FILE --key trust.pem` checks them without the hub."""
    with ApiClient(load(config)) as api:
        found = api.get(f"/v1/exchange/messages/{number}/proofs")
    out.mkdir(parents=True, exist_ok=True)
    for kind, one in zip(("received", "decided"), found, strict=False):
        file = out / f"{number}.{kind}.proof.json"
        file.write_text(json.dumps(one, indent=1))
        click.echo(str(file))


@exchange.command("replay", epilog=example("exchange replay dealer/FR-00123-1 main --config ./eu"))
@click.argument("party")
@click.argument("stream")
@click.option("--from", "first", type=click.IntRange(min=0), default=0, help="Message number to begin behind.")
@config_option
@click.pass_obj
def replay(load: Load, party: str, stream: str, first: int, config: Path | None) -> None:
    """One sender's stream as it was recorded, oldest first, a JSON object a line."""
    with ApiClient(load(config)) as api:
        cursor, found = None, []
        while True:
            page = api.get("/v1/exchange/messages", party=party, stream=stream, limit=500, cursor=cursor)
            found += [one for one in page["items"] if one["number"] > first]
            cursor = page["next"]
            if not cursor or int(cursor) <= first:
                break
    for one in reversed(found):
        click.echo(json.dumps(one))


@exchange.command("skip", epilog=example("exchange skip dealer/FR-00123-1 orders:1f3a --to 118 --config ./eu"))
@click.argument("party")
@click.argument("stream")
@click.option("--to", "number", type=click.IntRange(min=2), required=True, help="The number the stream goes on at.")
@config_option
@click.pass_obj
def skip(load: Load, party: str, stream: str, number: int, config: Path | None) -> None:
    """Let a stream go on without messages that can never come, as after a lost disk. Recorded in the audit log."""
    with ApiClient(load(config)) as api:
        api.post("/v1/exchange/streams/skip", party=party, stream=stream, next=number)
    click.echo(f"stream {stream} of {party} goes on at {number}")


@exchange.command(
    "join",
    epilog=example("exchange join hub-ca --host road.example.ca --code ABCDE-... --root-sha256 1f3a... --config ./eu"),
)
@click.argument("name")
@click.option("--host", required=True, help="Where the other hub is.")
@click.option("--port", type=click.IntRange(1, 65535), default=8884, show_default=True, help="Its exchange.")
@click.option("--est-port", type=click.IntRange(1, 65535), default=8085, show_default=True, help="Its enrolment.")
@click.option(
    "--code",
    required=True,
    help="One-time code, made there: rocade enroll --kind service --id hub-<your region> --claim-only.",
)
@click.option(
    "--root-sha256", required=True, help="Fingerprint of the other region's root certificate, from its operator."
)
@config_option
@click.pass_obj
def join(
    load: Load, name: str, host: str, port: int, est_port: int, code: str, root_sha256: str, config: Path | None
) -> None:
    """Enrol this hub at another one, as hubs/NAME; a rule may then send to hub/NAME."""
    from rocade.core.errors import Refused
    from rocade.services.exchange.model import HUB
    from rocade.services.exchange.peers import Address
    from rocade.trust.identity import est_client

    if not name.startswith(HUB) or "/" in name:
        raise Refused("exchange.route.invalid", f"another hub is named {HUB}<region>")
    folder = load(config).root / "hubs" / name
    server = est_client.Server(host, est_port)
    verified = est_client.enrol(server, folder, code, est_client.fetch_root(server, root_sha256))
    (folder / "address.json").write_bytes(msgspec.json.encode(Address(host, port, est_port)))
    click.echo(f"this hub is {verified.identity.uri} there; a running exchange dials within moments")


@exchange.group()
def route() -> None:
    """The routing table: data with versions, tried before it is changed."""


@route.command("show", epilog=example("exchange route show --json --config ./eu > routes.json"))
@click.option("--json", "as_json", is_flag=True, help="The rules alone, as `simulate` and `change` read them.")
@config_option
@click.pass_obj
def show_routes(load: Load, config: Path | None, *, as_json: bool) -> None:
    """The rules in force."""
    with ApiClient(load(config)) as api:
        (newest,) = api.get("/v1/exchange/routes")["items"]
    if as_json:
        click.echo(json.dumps(newest["rules"], indent=1))
        return
    click.echo(f"version {newest['version']}  {newest['note']}")
    table = Table("to", "dealer", "brand", "country", "service", "stays", "primary only", "note")
    for rule in newest["rules"]:
        marks = ["yes" if rule.get(name) else "" for name in ("stays", "primary_only")]
        fields = [rule.get(name, "*") for name in ("dealer", "brand", "country", "service")]
        table.add(rule["to"], *fields, *marks, rule.get("note", ""))
    table.show()


@route.command("simulate", epilog=example("exchange route simulate routes.json --days 30 --config ./eu"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--days", type=click.FloatRange(0.01, 400), default=30.0, show_default=True, help="Whose messages are tried."
)
@config_option
@click.pass_obj
def simulate(load: Load, file: Path, days: float, config: Path | None) -> None:
    """What of the last days' messages would go elsewhere under the rules in FILE. Changes nothing."""
    with ApiClient(load(config)) as api:
        found = api.send("/v1/exchange/routes/simulation", file=file, days=days)
    table = Table("messages", "from", "brand", "country", "service", "went to", "would go to")
    for one in found["items"]:
        table.add(
            str(one["count"]), one["dealer"], one["brand"], one["country"], one["service"], one["was"], one["would_be"]
        )
    table.show()
    click.echo(f"{found['messages']} messages would go elsewhere")


@route.command(
    "change", epilog=example("exchange route change routes.json --note 'Canada by its own hub' --config ./eu")
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--note", default="", help="Why, for those who read the versions.")
@config_option
@click.pass_obj
def change(load: Load, file: Path, note: str, config: Path | None) -> None:
    """Put the rules in FILE into force as a new version; simulate them first."""
    content = file.read_bytes()
    with ApiClient(load(config)) as api:
        (newest,) = api.get("/v1/exchange/routes")["items"]
        made = api.put_body(
            "/v1/exchange/routes", content, based_on=newest["version"], digest=sha256(content).hexdigest(), note=note
        )
    click.echo(f"version {made['version']} is in force, {len(made['rules'])} rules")


COMMANDS = (exchange,)
