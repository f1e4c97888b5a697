"""Commands about the network of dealers: import it, see it, let sites join, providers, moving over from the old ways."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.errors import Refused

STATES = ("shadow", "cut-over", "rolled-back", "old")
ACTS = ("install", "renew", "restart", "health")
ROLES = ("manager", "sales", "after-sales", "parts", "accounts")
SHOWN = 20


@click.group()
def dealers() -> None:
    """Dealers: groups, companies, points of sale, their brands, providers and people; joining and moving over."""


@dealers.command("template", epilog=example("dealers template > sites.csv"))
def template() -> None:
    """Print the header of the CSV file that `dealers import` reads, with an example line."""
    from rocade.services.dealers.importing import template

    click.echo(template(), nl=False)


@dealers.command(
    "import",
    epilog=example("dealers import sites.csv --dry-run --config ./eu", "dealers import sites.csv --config ./eu"),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only say what would change, and every wrong line.")
@config_option
@click.pass_obj
def import_(load: Load, file: Path, config: Path | None, *, dry_run: bool) -> None:
    """Take the whole network over from a CSV file, or nothing of it; the same file again changes nothing."""
    with ApiClient(load(config)) as api:
        report = api.send("/v1/dealers/import", file=file, dry_run="true")
        _tell(report)
        if report["wrong"]:
            raise Refused("dealers.import.refused", f"{report['wrong']} lines are wrong, nothing was imported")
        if not dry_run:
            done = api.send("/v1/dealers/import", file=file)
            click.echo(f"imported: {done['new']} new, {done['changed']} changed")


def _tell(report: dict[str, Any]) -> None:
    counts = ("new", "changed", "same", "missing", "wrong")
    click.echo(f"{report['lines']} right lines: " + ", ".join(f"{report[name]} {name}" for name in counts))
    for wrong in report["wrong_lines"]:
        click.echo(f"line {wrong['line']}: {wrong['site']} {wrong['column']}: {wrong['reason']}")
    for one in report["differences"][:SHOWN]:
        click.echo(f"{one['site']} {one['field']}: {one['was']!r} becomes {one['becomes']!r}")
    if more := len(report["differences"]) - SHOWN:
        click.echo(f"and {more} more differences" if more > 0 else "", nl=more > 0)
    if report["missing"]:
        click.echo(f"known, but not in the file: {' '.join(report['missing_sites'][:SHOWN])}")


@dealers.command("list", epilog=example("dealers list --country FR --brand renault --config ./eu"))
@click.option("--group", default="", help="Only those of this group.")
@click.option("--dealer", default="", help="Only those of this dealer.")
@click.option("--country", default="", help="Only those in this country, such as FR.")
@click.option("--brand", default="", help="Only those that have this brand.")
@click.option("--find", default="", help="Letters of id, name or city.")
@config_option
@click.pass_obj
def list_(load: Load, group: str, dealer: str, country: str, brand: str, find: str, config: Path | None) -> None:
    """List points of sale."""
    table = Table("site", "name", "city", "country", "dealer", "group", "primary", "brands", "move")
    with ApiClient(load(config)) as api:
        asked = {"group": group, "dealer": dealer, "country": country, "brand": brand, "find": find}
        wanted = {name: value for name, value in asked.items() if value}
        for one in api.pages("/v1/dealers/sites", limit=1000, **wanted):
            brands = " ".join(dict.fromkeys(has["brand"] for has in one["brands"]))
            table.add(one["id"], one["name"], one["city"], one["country"], one["dealer"], one["group"],
                      one["primary"] or "yes", brands, one["move"])  # fmt: skip
    table.show()


@dealers.command("show", epilog=example("dealers show FR-00123-1 --config ./eu"))
@click.argument("site")
@config_option
@click.pass_obj
def show(load: Load, site: str, config: Path | None) -> None:
    """Show one point of sale: its card, its people, the steps of its moving over."""
    with ApiClient(load(config)) as api:
        card = api.get(f"/v1/dealers/sites/{quote(site, safe='')}")
        roles = api.get(f"/v1/dealers/sites/{quote(site, safe='')}/people")
        steps = api.get(f"/v1/dealers/sites/{quote(site, safe='')}/moves")
    for name, value in card.items():
        if name != "brands" and value not in {None, ""}:
            click.echo(f"{name:14} {_day(value) if name.endswith('_us') else value}")
    for one in card["brands"]:
        what = "+".join(name for name in ("sells", "services") if one[name])
        click.echo(f"brand          {one['brand']} {what} from {_day(one['from_us'])} to {_day(one['until_us'])}")
    for one in roles:
        click.echo(f"role           {one['person']} {one['role']} {one['brand'] or 'all brands'}  ({one['id']})")
    for one in steps:
        click.echo(f"step           {_day(one['at_us'])} {one['state']} {one['note']}")


def _day(at_us: int | None) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC") if at_us else "no end"


@dealers.command("join", epilog=example("dealers join FR-00123-1 --config ./eu"))
@click.argument("site")
@config_option
@click.pass_obj
def join(load: Load, site: str, config: Path | None) -> None:
    """Print the one-time code a point of sale joins with: `rocade dealer init` there makes the key and never lets it go."""
    configuration = load(config)
    with ApiClient(configuration) as api:
        answer = api.post(f"/v1/dealers/sites/{quote(site, safe='')}/code")
    click.echo(answer["claim_code"])
    click.echo(
        f"{answer['identity']}; good once, for seven days; root {root_fingerprint(configuration.trust)}", err=True
    )


def root_fingerprint(trust: Path) -> str:
    """SHA-256 of the region's root certificate, for the dealer to compare."""
    from cryptography.hazmat.primitives import hashes

    from rocade.trust.identity.directory import load_root

    return load_root(trust / "trust.pem").fingerprint(hashes.SHA256()).hex()


@dealers.command(
    "enrol-many",
    epilog=example("dealers enrol-many --country FR --out codes.csv --config ./eu",
                   "dealers enrol-many --sites wave-3.txt --out codes.csv --config ./eu"),
)  # fmt: skip
@click.option("--sites", type=click.Path(path_type=Path, exists=True), help="File with one site id a line.")
@click.option("--group", default="", help="Only those of this group.")
@click.option("--country", default="", help="Only those in this country, such as FR.")
@click.option("--brand", default="", help="Only those that have this brand.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="CSV file: site, code. It is a secret: 0600."
)
@config_option
@click.pass_obj
def enrol_many(
    load: Load, sites: Path | None, group: str, country: str, brand: str, out: Path, config: Path | None
) -> None:
    """Make one-time codes for many points of sale at once, good for thirty days, into a file only you can read."""
    named = [line.strip() for line in sites.read_text().splitlines() if line.strip()] if sites else []
    with ApiClient(load(config)) as api:
        wanted = {"sites": named, "group": group, "country": country, "brand": brand}
        codes = api.send("/v1/dealers/codes", json=wanted)
    out.touch(mode=0o600)
    out.chmod(0o600)
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["site", "code"])
        writer.writerows([one["site"], one["claim_code"]] for one in codes)
    click.echo(f"{len(codes)} codes in {out}")


# --- people and providers ------------------------------------------------------------------------------------------------


@dealers.command("role", epilog=example("dealers role FR-00123-1 person:00000000000000a1 manager --config ./eu"))
@click.argument("site")
@click.argument("person")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--brand", default="", help="For this brand alone; default all.")
@config_option
@click.pass_obj
def role(load: Load, site: str, person: str, role: str, brand: str, config: Path | None) -> None:
    """Give somebody of the dealer a role at a site; its manager gives the others himself."""
    with ApiClient(load(config)) as api:
        made = api.post(f"/v1/dealers/sites/{quote(site, safe='')}/people", person=person, role=role, brand=brand)
    click.echo(made["id"])


@dealers.command("invite", epilog=example('dealers invite FR-00123-1 "Ada Martin" manager --config ./eu'))
@click.argument("site")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--brand", default="", help="For this brand alone; default all.")
@click.option(
    "--language",
    type=click.Choice(["en", "fr", "zh"]),
    default="en",
    show_default=True,
    help="What the pages speak to him.",
)
@config_option
@click.pass_obj
def invite(load: Load, site: str, name: str, role: str, brand: str, language: str, config: Path | None) -> None:
    """Add somebody to a dealer's people with his first role, and print the one-time link for his passkey."""
    configuration = load(config)
    with ApiClient(configuration) as api:
        path = f"/v1/dealers/sites/{quote(site, safe='')}/invitations"
        made = api.post(path, name=name, role=role, brand=brand, language=language)
    click.echo(f"{made['person']}\n{configuration.site.rstrip('/')}/signin/link/{made['secret']}")


@dealers.command("provider", epilog=example('dealers provider helios "Helios IT" --config ./eu'))
@click.argument("id")
@click.argument("name")
@config_option
@click.pass_obj
def provider(load: Load, id: str, name: str, config: Path | None) -> None:
    """Register a party of kind partner as service provider: its key will sign no business content."""
    with ApiClient(load(config)) as api:
        api.post("/v1/dealers/providers", id=id, name=name)


@dealers.command(
    "delegate", epilog=example("dealers delegate helios dealer:FR-00123 renew restart health --config ./eu")
)
@click.argument("provider")
@click.argument("scope")
@click.argument("acts", nargs=-1, required=True, type=click.Choice(ACTS))
@config_option
@click.pass_obj
def delegate(load: Load, provider: str, scope: str, acts: tuple[str, ...], config: Path | None) -> None:
    """Let a provider run the agents of SCOPE: site:<id>, dealer:<id> or group:<id>."""
    with ApiClient(load(config)) as api:
        made = api.post("/v1/dealers/delegations", provider=provider, at=scope, act=list(acts))
    click.echo(made["id"])


@dealers.group("application")
def application() -> None:
    """Web applications that people of dealers open with the passkey they have here (this region as OpenID provider)."""


@application.command(
    "add",
    epilog=example(
        'dealers application add warranty "Warranty" --redirect https://warranty.example/callback --role parts --brand renault'
    ),
)
@click.argument("id")
@click.argument("name")
@click.option(
    "--redirect", "redirects", multiple=True, required=True, help="Address to come back to, letter by letter."
)
@click.option("--logout", "logouts", multiple=True, help="Address to go to after signing out.")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(ROLES), help="Who may enter.")
@click.option("--brand", default="", help="For people of this brand alone; default any.")
@click.option("--profile", is_flag=True, help="The application may also ask for name and language.")
@click.option("--public", is_flag=True, help="It keeps no secret (a program in a browser or on a telephone).")
@config_option
@click.pass_obj
def application_add(
    load: Load, id: str, name: str, redirects: tuple[str, ...], logouts: tuple[str, ...], roles: tuple[str, ...],
    brand: str, config: Path | None, *, profile: bool, public: bool,
) -> None:  # fmt: skip
    """Register a web application, or replace it, and print its secret, once."""
    configuration = load(config)
    scopes = ["openid", "roles", *(["profile"] if profile else [])]
    body = {"id": id, "name": name, "redirect_uris": redirects, "post_logout_redirect_uris": logouts, "roles": roles,
            "brand": brand, "scopes": scopes, "has_secret": not public}  # fmt: skip
    with ApiClient(configuration) as api:
        made = api.send("/v1/applications", json=body)
    click.echo(f"issuer         {configuration.site.rstrip('/')}\nclient_id      {made['id']}")
    if made["client_secret"]:
        click.echo(f"client_secret  {made['client_secret']}")


@application.command("list", epilog=example("dealers application list --config ./eu"))
@config_option
@click.pass_obj
def application_list(load: Load, config: Path | None) -> None:
    """List the registered applications."""
    table = Table("id", "name", "brand", "roles", "scopes", "redirects")
    with ApiClient(load(config)) as api:
        for one in api.get("/v1/applications"):
            lists = (" ".join(one[name]) for name in ("roles", "scopes", "redirect_uris"))
            table.add(one["id"], one["name"], one["brand"], *lists)
    table.show()


@application.command("drop", epilog=example("dealers application drop warranty --config ./eu"))
@click.argument("id")
@config_option
@click.pass_obj
def application_drop(load: Load, id: str, config: Path | None) -> None:
    """Take an application off the register; its codes and tokens end."""
    with ApiClient(load(config)) as api:
        api.delete(f"/v1/applications/{id}")


# --- moving over -----------------------------------------------------------------------------------------------------------


@dealers.group("move")
def move() -> None:
    """Moving over from the old ways: shadow run, cut-over and roll-back per site, progress by group."""


@move.command("status", epilog=example("dealers move status --config ./eu"))
@config_option
@click.pass_obj
def status(load: Load, config: Path | None) -> None:
    """Progress: sites of each group by state."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/dealers/moves")
    states = ("old", "shadow", "cut-over", "rolled-back")
    table = Table("group", "sites", *states, "done")
    for one in (*items, _sum(items)):
        counts = [one["states"].get(state, 0) for state in states]
        share = f"{100 * counts[2] // one['sites']} %" if one["sites"] else ""
        table.add(one["group"] or "(no group)", str(one["sites"]), *map(str, counts), share)
    table.show()


def _sum(items: list[dict[str, Any]]) -> dict[str, Any]:
    states = {state: sum(one["states"].get(state, 0) for one in items) for state in STATES}
    return {"group": f"{len(items)} groups", "sites": sum(one["sites"] for one in items), "states": states}


@move.command("step", epilog=example("dealers move step FR-00123-1 shadow --config ./eu",
                                     "dealers move step FR-00123-1 rolled-back --note 'line down' --config ./eu"))  # fmt: skip
@click.argument("site")
@click.argument("to", type=click.Choice(STATES))
@click.option("--note", default="", help="Why; needed with --accept.")
@click.option("--accept", is_flag=True, help="Cut over in spite of known differences.")
@config_option
@click.pass_obj
def step(load: Load, site: str, to: str, note: str, config: Path | None, *, accept: bool) -> None:
    """Take a site one step: shadow, cut-over, rolled-back, or back to old."""
    with ApiClient(load(config)) as api:
        made = api.post(f"/v1/dealers/sites/{quote(site, safe='')}/moves", to=to, note=note, accept=str(accept).lower())
    click.echo(f"{site}: {made['state']}")


@move.command("compare", epilog=example("dealers move compare FR-00123-1 --old tarif.csv --new export.csv --list parts-fr --seq 12 "
                                        "--identity ./dealer/hubs/main"))  # fmt: skip
@click.argument("site")
@click.option("--old", type=click.Path(path_type=Path, exists=True), required=True, help="What the old way brought.")
@click.option(
    "--new",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="`rocade dealer export` of the same list.",
)
@click.option("--list", "list_id", required=True, help="The price list to compare the old file with.")
@click.option("--seq", type=int, required=True, help="Number of the list the export was made at.")
@click.option("--identity", type=click.Path(path_type=Path), help="The site's identity: report to the hub as the site.")
@click.option("--hub", default=None, help="Address of the hub's API, https://NAME:PORT; default: this machine.")
@config_option
@click.pass_obj
def compare(
    load: Load, site: str, old: Path, new: Path, list_id: str, seq: int, identity: Path | None, hub: str | None,
    config: Path | None,
) -> None:  # fmt: skip
    """Compare the old file with the new list, here at the dealer's; with --identity the counts are reported to the hub.

    Ends with exit code 1 while anything differs.
    """
    import msgspec

    from rocade.services.dealers import moving

    found = moving.compare(moving.read_prices(old.read_bytes()), moving.read_prices(new.read_bytes()))
    click.echo(f"{found.compared} references: {found.same} the same, {found.differing} differ, "
               f"{found.only_old} only in the old file, {found.only_new} only in the new list")  # fmt: skip
    for one in found.examples[:SHOWN]:
        click.echo(f"{one.ref}: {one.old or 'none'} -> {one.new or 'none'}")
    if identity is not None:
        with ApiClient(load(config), hub, identity=identity) as api:
            body = {"list": list_id, "seq": seq, "compared": msgspec.to_builtins(found)}
            api.send(f"/v1/dealers/sites/{quote(site, safe='')}/shadows", json=body)
    if not found.is_same:
        sys.exit(1)


COMMANDS = (dealers,)
