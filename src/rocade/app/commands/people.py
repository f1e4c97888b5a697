"""Commands about people, by whoever holds the region's disk: add the first operator, list, give a one-time link, end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

if TYPE_CHECKING:
    from rocade.app.local import Hand
    from rocade.trust.authority.people import People

DUTIES = ("support", "security", "release")
LANGUAGES = ("en", "fr", "zh")


hours_option = click.option(
    "--hours",
    default=0.0,
    help="Make an invitation for so many hours, up to 168, to be confirmed by number, instead of a link for ten minutes.",
)


def _lifetime_s(hours: float) -> float:
    return hours * 3600 or 600.0


def _people(hand: Hand) -> People:
    from rocade.trust.authority.people import People, Site

    configuration = hand.configuration
    site = Site.at(configuration.site)
    return People(hand.database, hand.audit, hand.clock, hand.random, site, configuration.region)


def _address(people: People, secret: str) -> str:
    return f"{people.site.origin}/signin/link/{secret}"


@click.group()
def person() -> None:
    """People who sign in: operators with their duties, owners, drivers, users of dealers and partners."""


@person.command(
    "add",
    epilog=example(
        'person add "Ada Lovelace" --duty security --duty support --config ./eu',
        'person add "Grace Hopper" --language fr --config ./eu',
        'person add "Alan Turing" --organisation dealer:garage-sud --config ./eu',
    ),
)
@click.argument("name")
@click.option("--duty", "duties", multiple=True, type=click.Choice(DUTIES), help="Makes an operator; may be repeated.")
@click.option("--organisation", default="", help="dealer:<id> or partner:<id> somebody works for.")
@click.option(
    "--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language of pages and messages."
)
@hours_option
@config_option
@click.pass_obj
def person_add(
    load: Load, name: str, duties: tuple[str, ...], organisation: str, language: str, hours: float, config: Path | None
) -> None:
    """Add a person and print the one-time link for the first sign-in, where a passkey is registered. It is good for ten minutes."""
    from rocade.app.local import act

    async def add(hand: Hand) -> tuple[str, str]:
        people = _people(hand)
        made = await people.add(name, duties, organisation, language, hand.actor)
        return made.id, _address(people, await people.link(made.id, "invitation", _lifetime_s(hours), hand.actor))

    made, address = act(load(config), add)
    click.echo(f"{made}\n{address}")


@person.command("list", epilog=example("person list --config ./eu"))
@config_option
@click.pass_obj
def person_list(load: Load, config: Path | None) -> None:
    """List everybody with duties and passkeys."""
    from rocade.app.local import act
    from rocade.trust.authority.people import Person

    async def read(hand: Hand) -> list[tuple[Person, int]]:
        people, found, after = _people(hand), [], ""
        while page := await people.list(after, 1000):
            found += [(one, len(await people.passkeys.list(one.id))) for one in page]
            after = page[-1].id
        return found

    table = Table("person", "name", "duties", "organisation", "passkeys", "added (UTC)", "state")
    for one, passkeys in act(load(config), read):
        duties = ", ".join(f"{duty.duty}{f' ({duty.scope})' if duty.scope else ''}" for duty in one.duties)
        added = datetime.fromtimestamp(one.added_us / 1e6, UTC).date().isoformat()
        state = "ended" if one.ended_us else "active"
        table.add(one.id, one.name, duties, one.organisation, str(passkeys), added, state)
    table.show()


@person.command(
    "link",
    epilog=example(
        "person link person:0f1e2d3c4b5a6978 --config ./eu",
        "person link person:0f1e2d3c4b5a6978 --hours 48 --config ./eu",
    ),
)
@click.argument("id", metavar="PERSON")
@hours_option
@config_option
@click.pass_obj
def person_link(load: Load, id: str, hours: float, config: Path | None) -> None:
    """Print a new one-time sign-in link; earlier unused ones end. It lets PERSON look and, without a passkey, register one.

    Alone it is good for ten minutes; one that has to travel (--hours) shows its holder a number, to be confirmed by `person confirm`.
    """
    from rocade.app.local import act

    async def link(hand: Hand) -> str:
        people = _people(hand)
        return _address(people, await people.link(id, "local", _lifetime_s(hours), hand.actor))

    click.echo(act(load(config), link))


@person.command("confirm", epilog=example("person confirm person:0f1e2d3c4b5a6978 48271935 --config ./eu"))
@click.argument("id", metavar="PERSON")
@click.argument("number")
@config_option
@click.pass_obj
def person_confirm(load: Load, id: str, number: str, config: Path | None) -> None:
    """Let PERSON in, who opened an invitation and told you the NUMBER it shows: make sure first whom you are speaking to."""
    from rocade.app.local import act

    async def confirm(hand: Hand) -> None:
        await _people(hand).links.confirm(id, number, hand.actor)

    act(load(config), confirm)
    click.echo(f"{id} is let in")


@person.command("end", epilog=example("person end person:0f1e2d3c4b5a6978 --config ./eu"))
@click.argument("id", metavar="PERSON")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@click.pass_obj
def person_end(load: Load, id: str, config: Path | None, *, yes: bool) -> None:
    """End somebody's access for good: passkeys, sessions, links, duties; the name is forgotten."""
    from rocade.app.local import act

    if not yes:
        click.confirm(f"End the access of {id} for good?", abort=True, err=True)

    async def end(hand: Hand) -> None:
        await _people(hand).end(id, hand.actor)

    act(load(config), end)
    click.echo(f"{id} has no access any more")


COMMANDS = (person,)
