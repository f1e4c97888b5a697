"""`rocade dealer …`: the agent at a point of sale, its tokens and people, prices on the command line.

Everything here runs without the server's parts: what a command needs is imported when it runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocade.app.commands import example
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom

if TYPE_CHECKING:
    from collections.abc import Callable

    from rocade.agents.dealer.store import Store

PLACE = Path("dealer")


def place_option[F: Callable[..., Any]](command: F) -> F:
    return click.option(
        "--dir", "place", type=click.Path(path_type=Path), default=PLACE, envvar="ROCADE_DEALER", show_default=True,
        help="The agent's folder (or ROCADE_DEALER).",
    )(command)  # fmt: skip


@click.group()
def dealer() -> None:
    """The agent at a point of sale: prices, messages, the line to the hubs."""


@dealer.command(
    epilog=example(
        "dealer init --hub hub.example.org --code 7KQ2-… --root-sha256 3f0c…",
        "dealer init --hub other.example.org --name other --code … --root root.pem --dir /var/lib/rocade-dealer",
    )
)
@click.option("--hub", "host", required=True, help="The hub's host name.")
@click.option(
    "--code", required=True, help="The one-time code of this point of sale ('-' = read it from standard input)."
)
@click.option("--root", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The region's root as PEM.")
@click.option("--root-sha256", default="", help="Or its SHA-256 fingerprint, from the letter with the code.")
@click.option("--name", default="main", show_default=True, help="What to call this hub here.")
@click.option("--line-port", default=8884, show_default=True, help="The permanent line.")
@click.option("--api-port", default=8443, show_default=True, help="Price files.")
@click.option("--est-port", default=8085, show_default=True, help="Enrolment and renewal.")
@click.option("--relay-port", default=0, show_default=True, help="Services between sites; 0 = none.")
@place_option
def init(
    host: str, code: str, root: Path | None, root_sha256: str, name: str, place: Path, **ports: int
) -> None:  # fmt: skip
    """Join a hub: the key is made here and never leaves; the code is used up.

    Run it again for a further hub, or for the same hub with a new code after the certificate has ended.
    """
    from rocade.agents.dealer import joining
    from rocade.agents.dealer.settings import Hub

    if bool(root) == bool(root_sha256):
        raise click.UsageError("give the region's root with --root FILE, or its fingerprint with --root-sha256")
    if code == "-":
        code = sys.stdin.readline()
    hub = Hub(name=name, host=host, **ports)
    identity = joining.join(place, hub, code.strip(), root.read_bytes() if root else b"", root_sha256)
    click.echo(f"{identity.uri}\nkey and certificate in {place}/hubs/{name}; now: rocade dealer run --dir {place}")


@dealer.command(epilog=example("dealer run --dir ./dealer"))
@place_option
def run(place: Path) -> None:
    """Run the agent until it is told to stop (Ctrl-C, SIGTERM)."""
    from rocade.agents.dealer.memory import be_frugal

    be_frugal()
    from rocade.agents.dealer.agent import Dealer
    from rocade.app import logs

    logs.configure("dealer")

    async def serve() -> bool:
        agent = Dealer.open(place)
        task = asyncio.create_task(agent.run())
        agent.on_restart = task.cancel
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            pass
        finally:
            agent.close()
        return agent.is_restart_asked

    if asyncio.run(serve()):  # a hub asked for it: the same program anew, with nothing of the old one left
        os.execv(sys.executable, [sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(place)])  # noqa: S606 - no shell is meant


@dealer.command(epilog=example("dealer status", "dealer status --json"))
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@place_option
def status(place: Path, *, as_json: bool) -> None:
    """How the agent is: lines, lists, outbox. Exit code 1 if it does not run."""
    from rocade.agents.dealer import reporting

    standing = reporting.read(place)
    if as_json:
        click.echo(reporting.as_json(standing))
    else:
        for line in reporting.lines(standing):
            click.echo(line)
    if not standing.is_running:
        sys.exit(1)


@dealer.command(
    epilog=example("dealer price 16100-12", "dealer price 16100-12 --list parts --at 2026-03-01T12:00:00+01:00")
)
@click.argument("ref")
@click.option("--list", "name", default="", help="Which list; not needed where there is one.")
@click.option("--at", default="", help="At this instant (ISO 8601 with an offset); default now.")
@click.option("--known", type=int, help="As known at this number of the list.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@place_option
def price(ref: str, name: str, at: str, known: int | None, place: Path, *, as_json: bool) -> None:
    """The price of a part at an instant, from this machine alone: the line and the agent may be down."""
    import msgspec

    from rocade.agents.dealer.instants import instant, iso
    from rocade.agents.dealer.money import money

    prices = _prices(place)
    name = name or prices.only()
    found = prices.price(name, ref, instant(at, prices.now_us(name)), known)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    said = "withdrawn" if found.price_minor is None else money(found.price_minor, found.currency)
    click.echo(
        f"{said}  ({ref} at {iso(found.at_us)}, in force from {iso(found.valid_from_us)}, list {name} number {found.seq},"
        f" as known at {found.known_seq})"
    )


@dealer.command(epilog=example("dealer prove 16100-12 --at 2026-03-01T12:00:00+01:00 --out proof.json"))
@click.argument("ref")
@click.option("--list", "name", default="", help="Which list; not needed where there is one.")
@click.option("--at", default="", help="At this instant (ISO 8601 with an offset); default now.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; default standard output.")
@place_option
def prove(ref: str, name: str, at: str, out: Path | None, place: Path) -> None:
    """Write a file that `rocade verify` accepts or refuses without this agent, the hub or a network."""
    from rocade.agents.dealer.instants import instant

    prices = _prices(place)
    name = name or prices.only()
    made = prices.prove(name, ref, instant(at, prices.now_us(name)))
    if out:
        out.write_bytes(made)
    else:
        click.echo(made)


@dealer.command(
    epilog=example("dealer export --list parts --out prices.csv", "dealer export --at 2026-01-01T00:00:00+00:00")
)
@click.option("--list", "name", default="", help="Which list; not needed where there is one.")
@click.option("--at", default="", help="At this instant (ISO 8601 with an offset); default now.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; default standard output.")
@place_option
def export(name: str, at: str, out: Path | None, place: Path) -> None:
    """A whole list as CSV, as it is at an instant. It carries this point of sale's marks: it is not to be handed on."""
    from rocade.agents.dealer.exporting import rows
    from rocade.agents.dealer.instants import instant

    prices = _prices(place)
    name = name or prices.only()
    count = 0
    with click.open_file(str(out) if out else "-", "w", encoding="utf-8", atomic=bool(out)) as file:
        for line in rows(prices, place, name, instant(at, prices.now_us(name))):
            file.write(line)
            count += 1
    click.echo(f"{count - 1} parts of list {name}", err=True)


@dealer.command(epilog=example("dealer doctor"))
@place_option
def doctor(place: Path) -> None:
    """Test name, port, TLS, clock, certificate, disk, permissions, the agent's file, price lists; say what to do. Exit code 1 if something fails."""
    from rocade.agents.dealer import settings
    from rocade.agents.dealer.catalogue import texts
    from rocade.agents.dealer.doctor import examine, examine_prices

    said, read, clock = texts("en"), settings.load(place), SystemClock()
    findings = [*asyncio.run(examine(place, read, clock)), *examine_prices(place, read, clock)]
    for one in findings:
        where = f" ({one.hub})" if one.hub else ""
        click.echo(f"{one.level:4}  {said['test.' + one.check]}{where}: {one.seen}")
        if one.level != "ok" and one.advice:
            click.echo(f"      {said['advice.' + one.advice]}")
    if any(one.level == "fail" for one in findings):
        sys.exit(1)


@dealer.command(epilog=example("dealer mend", "dealer mend --accept"))
@click.option("--accept", is_flag=True, help="Take the file as it stands, what is damaged included.")
@place_option
def mend(place: Path, *, accept: bool) -> None:
    """Show what in the agent's file is not what was written, after a start said `dealer.damaged`. Exit code 1 if something is.

    `--accept` keeps it as it stands, which stands among the troubles from then on; the agent must not run.
    """
    from rocade.agents.dealer import settings
    from rocade.agents.dealer.agent import hold_alone
    from rocade.agents.dealer.store import FILE, accept_damage, find_damage

    settings.load(place)
    damages = find_damage(place / FILE)
    for damage in damages:
        click.echo(damage)
    if not damages:
        click.echo("the file is whole, nothing was done")
    elif not accept:
        sys.exit(1)
    else:
        lock = hold_alone(place)
        accept_damage(place / FILE)
        _store(place).note_trouble("", "dealer.damaged", f"taken as it stands: {'; '.join(damages)}")
        os.close(lock)
        click.echo("the file is taken as it stands")


# --- tokens of the dealer's software ---------------------------------------------------------------------------------


@dealer.group()
def token() -> None:
    """Tokens for the dealer's own software (DMS): scoped, shown once, ended one by one."""


@token.command("create", epilog=example("dealer token create dms --scope prices.read --scope messages.send"))
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help="prices.read, messages.send, messages.read, state.read."
)
@click.option("--days", default=365, show_default=True, help="How long it is good.")
@place_option
def token_create(name: str, scopes: tuple[str, ...], days: int, place: Path) -> None:
    """Make a token and show it, this once."""
    from rocade.agents.dealer.tokens import Tokens

    click.echo(Tokens(_store(place), SystemRandom()).create(name, scopes, days))


@token.command("list", epilog=example("dealer token list"))
@place_option
def token_list(place: Path) -> None:
    """What tokens there are; never the tokens themselves."""
    from rocade.agents.dealer.instants import iso
    from rocade.agents.dealer.tokens import Tokens

    for one in Tokens(_store(place), SystemRandom()).list():
        state = f"ended {iso(one.ended_us)}" if one.ended_us else f"until {iso(one.until_us)}"
        click.echo(f"{one.name}  {' '.join(one.scopes)}  {state}  last used {iso(one.used_us)}")


@token.command("end", epilog=example("dealer token end 2"))
@click.argument("name")
@place_option
def token_end(name: str, place: Path) -> None:
    """End a token at once."""
    from rocade.agents.dealer.tokens import Tokens

    Tokens(_store(place), SystemRandom()).end(name)


# --- people ----------------------------------------------------------------------------------------------------------


@dealer.group()
def staff() -> None:
    """People who may open the agent's page on the LAN."""


@staff.command("add", epilog=example("dealer staff add 'Camille' --role seller"))
@click.argument("name")
@click.option(
    "--role", type=click.Choice(("seller", "manager")), default="seller", show_default=True, help="What he may do here."
)
@place_option
def staff_add(name: str, role: str, place: Path) -> None:
    """Add somebody; then `dealer staff link NAME`."""
    from rocade.agents.dealer.staff import Staff

    Staff(_store(place), SystemRandom()).add(name, role)


@staff.command("link", epilog=example("dealer staff link 'Camille'"))
@click.argument("name")
@place_option
def staff_link(name: str, place: Path) -> None:
    """Print a sign-in link, and a QR code of it, that works once within ten minutes."""
    from rocade.agents.dealer import settings
    from rocade.agents.dealer.lan_identity import LanIdentity
    from rocade.agents.dealer.staff import Staff

    lan = settings.load(place).lan
    if not lan.addresses:
        raise Refused("dealer.page.off", "the page is off; set lan.addresses and lan.networks in dealer.toml")
    identity = LanIdentity(place, lan, SystemClock())
    link = f"{identity.url(lan.port)}/signin/link/{Staff(_store(place), SystemRandom()).make_link(name)}"
    import segno

    segno.make(link, error="l").terminal(compact=True)
    click.echo(link)
    if not lan.certificate:
        click.echo(f"The tablet asks once whether to trust this certificate; compare SHA-256:\n{identity.fingerprint}")


@staff.command("list", epilog=example("dealer staff list"))
@place_option
def staff_list(place: Path) -> None:
    """Who may sign in."""
    from rocade.agents.dealer.staff import Staff

    for one in Staff(_store(place), SystemRandom()).list():
        click.echo(f"{one.name}  {one.role}  {one.passkeys} passkeys")


@staff.command("end", epilog=example("dealer staff end 'Camille'"))
@click.argument("name")
@place_option
def staff_end(name: str, place: Path) -> None:
    """End somebody's access at once, sessions and passkeys with it."""
    from rocade.agents.dealer.staff import Staff

    Staff(_store(place), SystemRandom()).end(name)


# --- versions --------------------------------------------------------------------------------------------------------


@dealer.group()
def update() -> None:
    """Newer versions: offered by the hub, applied only after consent."""


@update.command("list", epilog=example("dealer update list"))
@place_option
def update_list(place: Path) -> None:
    """What was offered and answered."""
    from rocade.agents.dealer.offers import Offers

    for one in Offers(_store(place)).list():
        click.echo(f"{one.version}  {one.answer or 'not answered'}  {one.outcome}  sha256 {one.sha256}  {one.text}")


@update.command("accept", epilog=example("dealer update accept 0.2.0"))
@click.argument("version")
@place_option
def update_accept(version: str, place: Path) -> None:
    """Consent to a version; the agent applies it by the command it was given."""
    from rocade.agents.dealer.offers import Offers

    Offers(_store(place)).answer(version, f"user:{os.getuid()}", accept=True)


@update.command("refuse", epilog=example("dealer update refuse 0.2.0"))
@click.argument("version")
@place_option
def update_refuse(version: str, place: Path) -> None:
    """Refuse a version; it is not applied."""
    from rocade.agents.dealer.offers import Offers

    Offers(_store(place)).answer(version, f"user:{os.getuid()}", accept=False)


def _store(place: Path) -> Store:
    """The agent's file, beside the agent if it runs. Raises: Misconfigured `dealer.settings`."""
    from rocade.agents.dealer import settings
    from rocade.agents.dealer.store import FILE, Store

    settings.load(place)
    return Store(place / FILE, SystemClock(), SystemRandom())


def _prices(place: Path) -> Any:
    """The price lists, beside the agent if it runs."""
    from rocade.agents.dealer import settings
    from rocade.agents.dealer.pricing import Prices, open_store

    clock = SystemClock()
    return Prices({hub.name: open_store(place, hub.name, clock) for hub in settings.load(place).hubs})


COMMANDS = (dealer,)
