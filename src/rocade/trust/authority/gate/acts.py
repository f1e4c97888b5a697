"""The one table of everything that may be done: what is not here cannot be allowed.

A route names its act (`opt=does(READ_TWIN)`), services ask with it, the Cedar schema is made from it. `by` puts an act into
one group; who may do the acts of a group stands in `policies/*.cedar`, and nowhere else. Where a handler sees many
vehicles at once (lists, streams, ranges of many) its own act only opens the door: each vehicle is asked for apart.
Every act that cannot be undone, or that could make somebody more powerful, needs a fresh passkey touch.
"""

from __future__ import annotations

from collections.abc import Iterable

from rocade.trust.authority.gate.model import ANY, ANY_CONTROL, Act

GROUPS: dict[str, tuple[str, ...]] = {
    "public": (),
    "known": (),
    "operators": (),
    "support": (),
    "security": (),
    "release": (),
    "look": ("vehicle",),
    "desk": ("look", "vehicle"),
    "command": ("vehicle",),
    "mine": ("vehicle",),
    "own": ("vehicle",),
    "give": ("vehicle",),
    "self": (),
    "account": ("self",),
    "site_look": (),
    "site_run": (),
    "site_lead": (),
    "site_business": (),
    "vehicle": (),
    "touch": (),
}
"""Each group with the groups it belongs to. public: anybody; known: anybody proven in this region; operators: any duty;
support, security, release: that duty; look: reads of a vehicle, by class; desk: looks the support duty has on every vehicle;
command: making a vehicle do something, by class of control; mine: owner and former owner; own: the owner alone; give: putting a vehicle into an owner's hands; self: one's own
account; account: the same, and the security duty for others'; at a dealer's point of sale ("site") site_look: its machine, its
people, operators, and providers with what the act names; site_run: running its agent, which can be delegated to a provider; site_lead: its manager
and the security duty; site_business: its machine and its people in one of the roles the act names, nobody else;
vehicle, touch: made from the act."""


def _public(name: str) -> Act:
    return Act(name, "nothing", by="public")


def _region(by: str, name: str, *, needs_touch: bool = False) -> Act:
    return Act(name, "region", needs_touch=needs_touch, by=by)


def _vehicle(by: str, name: str, classes: tuple[str, ...] = (), *, needs_touch: bool = False) -> Act:
    return Act(f"vehicle.{name}", "vehicle", classes, needs_touch, by)


def _account(by: str, name: str, *, needs_touch: bool = False) -> Act:
    return Act(f"account.{name}", "account", needs_touch=needs_touch, by=by)


def _site(by: str, name: str, classes: tuple[str, ...] = (), *, needs_touch: bool = False) -> Act:
    return Act(f"site.{name}", "site", classes, needs_touch, by)


# Open to everybody -----------------------------------------------------------------------------------------------

CHECK_HEALTH = _public("health.check")
READ_REFERENCE = _public("api.reference")
READ_STATIC = _public("static.read")
CHOOSE_LANGUAGE = _public("language.choose")
SIGN_IN = _public("session.begin")
"""Every step of signing in: the page, passkey, one-time link, a foreign identity provider. Proves by itself."""
REQUEST_TOKEN = _public("token.request")
"""The token door proves the client by its certificate and answers errors as OAuth does."""
READ_TOKEN_KEYS = _public("token.keys")
READ_CARD = _public("card.read")
"""The card of a point of sale that chose to show one."""
USE_OPENID = _public("openid.use")
"""The doors of the OpenID Connect provider prove by themselves: a registered application, a code good once, a session."""
READ_PRICE_BLOB = _public("prices.blob")
"""Price files are sealed and named by their hash: any cache may hold them, only who was given the key can read them."""
READ_PROOFS = _public("proofs.read")
"""Signed heads and hashes of the audit log, and the page that verifies proofs: what is proven must need no trust in who is asked."""
FOLLOW_ERASURE = _public("erasures.follow")
"""How far an erasure is, and its certificate, by a number of 63 random bits that only who ordered it was told: who was forgotten cannot
sign in any more. Both hold references and counts, nothing personal."""
EXPLAIN = _public("why.explain")
"""Codes are explained to all, to a refused stranger too; what else is told asks for the act of reading the thing itself."""

# Anybody proven in this region -----------------------------------------------------------------------------------

LIST_SIGNALS = _region("known", "signals.list")
LIST_VEHICLES = _region("known", "vehicles.list")
FIND_VEHICLE = _region("known", "vehicles.find")
WATCH_VEHICLES = _region("known", "vehicles.watch")
READ_MANY = _region("known", "vehicles.history")
READ_GROUND = _region("known", "ground.read")
READ_PRICE_HEAD = _region("known", "prices.head")
"""The signed head and the wrapped keys of a list; the handler answers points of sale that are entitled to it."""
FIND_COMMAND = _region("known", "commands.find")
"""Opens the door only: whose command it is decides `READ_COMMANDS`."""
CALL_GRID = _region("known", "charging.grid")
"""Opens the door only: a partner bound to the depot or the support duty may signal and read proofs; for others there is no such depot."""
READ_TARIFFS = _region("known", "charging.tariffs")
"""Which tariffs and CO2 series there are, and what they say: a driver chooses his."""
LIST_SITES = _region("known", "sites.list")
"""Points of sale: operators see all, everybody else those he has to do with."""

CALL_SOAP = _region("known", "soap.call")
"""Opens the door only: the envelope's signer must be the one who is connected, and the desk asks what he may."""
FOLLOW_EXCHANGE = _region("known", "exchange.follow")
"""One's own messages, receipts and price changes, as a stream or by long poll."""
KEEP_WEBHOOKS = _region("known", "webhooks.keep")
"""The addresses one's own news is sent to."""
FOLLOW_SHARING = _region("known", "sharing.follow")
"""Opens the door only: a third party's own contracts with owners, what they give it, and where it is sent."""

# Operators with any duty -----------------------------------------------------------------------------------------

WATCH_FLEET = _region("operators", "fleet.watch")
READ_FLEET = _region("operators", "fleet.aggregate")
READ_STATUS = _region("operators", "status.read")
READ_METRICS = _region("operators", "metrics.read")
"""A service certificate may do this as well: what scrapes figures should hold no operator's certificate."""
READ_CONSENTS = _region("operators", "consents.overview")
WATCH_CHAOS = _region("operators", "chaos.watch")
READ_PRICE_LISTS = _region("operators", "prices.read")
READ_ROUTES = _region("operators", "exchange.routes")
READ_LINE_COSTS = _region("operators", "interconnection.costs")
READ_CHARGE_REPORT = _region("operators", "charging.report")
"""What a depot saved, and who may dim it."""
READ_DEPOTS = _region("operators", "charging.depots")
"""Depots with their boards: cars by brand and model, their charge and when they leave."""
READ_STATIONS = _region("operators", "stations.read")
"""Charging stations, what they said and drew, what each accepts; never whose vehicle hung there."""
READ_CROSSINGS = _region("operators", "crossing.read")
"""What left for other regions or would, line by line, and what came."""
READ_SHARING = _region("operators", "sharing.read")
"""How many contracts there are with whom for what, and the terms; never whose."""
READ_DEALERS = _region("operators", "dealers.read")
"""The network of dealers as a whole: providers, exceptions, joining, moving over."""

# The support duty ------------------------------------------------------------------------------------------------

READ_REGISTRY = _region("support", "registry.read")
READ_UNKNOWN_SIGNALS = _region("support", "signals.unknown")
READ_ENROLMENTS = _region("support", "enrolment.read")
ENROL_VEHICLE = _region("support", "enrolment.vehicle")
READ_QUARANTINE = _region("support", "quarantine.read")
REPLAY_QUARANTINED = _region("support", "quarantine.replay")
DROP_QUARANTINED = _region("support", "quarantine.drop", needs_touch=True)
MOVE_SITES = _region("support", "dealers.move", needs_touch=True)
"""Shadow run, cut-over and roll-back of points of sale."""
CHANGE_DEPOTS = _region("support", "charging.depots.change")
"""Limits of depots, and which vehicles charge there."""
CHANGE_TARIFFS = _region("support", "charging.tariffs.change")
READ_INTERCONNECTION = _region("support", "interconnection.read")
SEARCH_EXCHANGE = _region("support", "exchange.search")
"""Messages by sender, way and outcome; never what they say."""
READ_TECHNICAL_MESSAGE = _region("support", "exchange.technical")
READ_CUSTOMER_MESSAGE = _region("support", "exchange.customer", needs_touch=True)
"""What a message about customers says, with their names."""
SKIP_STREAM = _region("support", "exchange.skip", needs_touch=True)
"""Letting a sender's stream go on without messages that can never come."""
PULL_PLUG = _region("support", "chaos.pull")
FIND_PERSON = _region("support", "people.find")
"""Names that contain some letters: whom the one at the desk means."""
RUN_STATIONS = _region("support", "stations.run")
"""Limits and orders to charging stations: start, stop, reset, unlock."""
READ_STATION_TAGS = _region("support", "stations.tags")
CHANGE_STATION_TAGS = _region("support", "stations.tags.change")
"""Which tags may charge, and for which vehicle."""
RECOVER_PERSON = _region("support", "people.recover", needs_touch=True)
"""A new start for somebody who lost his passkeys; for an operator it takes the security duty besides (`people`)."""

# The security duty -----------------------------------------------------------------------------------------------

ENROL_PARTY = _region("security", "enrolment.party", needs_touch=True)
"""A claim code for anything but a vehicle: whoever may make one of an operator holds every duty."""
BIND_GRID = _region("security", "charging.grid.bind", needs_touch=True)
"""Which partner may dim which depot."""
CHANGE_INTERCONNECTION = _region("security", "interconnection.change", needs_touch=True)
"""Which site may reach which service."""
CHANGE_ROUTES = _region("security", "exchange.reroute", needs_touch=True)
"""Where messages go: another hub, a system, a service of this one."""
READ_FISCAL_MESSAGE = _region("security", "exchange.fiscal", needs_touch=True)
REVOKE = _region("security", "certificates.revoke", needs_touch=True)
READ_CERTIFICATES = _region("security", "certificates.read")
READ_CLIENTS = _region("security", "clients.read")
CHANGE_CLIENTS = _region("security", "clients.change", needs_touch=True)
"""Which machines may ask for access tokens, and for which purposes."""
ROTATE_TOKEN_KEYS = _region("security", "token.rotate", needs_touch=True)
READ_AUDIT = _region("security", "audit.read")
VERIFY_AUDIT = _region("security", "audit.verify")
READ_PEOPLE = _region("security", "people.read")
CHANGE_STATIONS = _region("security", "stations.change", needs_touch=True)
"""Who may come in as a charging station: registration, passwords, security profile, closing."""
ADD_PERSON = _region("security", "people.add", needs_touch=True)
SET_DUTIES = _region("security", "people.duties", needs_touch=True)
LINK_PERSON = _region("security", "people.link", needs_touch=True)
"""A one-time sign-in link for somebody who has no passkey yet."""
END_PERSON = _region("security", "people.end", needs_touch=True)
ERASE_PERSON = _region("security", "people.erase", needs_touch=True)
"""Forgetting somebody who asked for it otherwise than by his own account."""
SETTLE_CONFLICT = _region("security", "ownership.settle", needs_touch=True)
"""Two people claim one vehicle. Support may hand out a code for it, but whose it is another duty decides."""

TRACE_LEAK = _region("security", "prices.trace")
"""Whose list a file that turned up elsewhere was made from."""
CHANGE_DEALERS = _region("security", "dealers.change", needs_touch=True)
"""Importing the network, brands, providers, national exceptions: who gets which prices and where messages go."""
ENROL_SITES = _region("security", "dealers.enrol", needs_touch=True)
"""Claim codes for many points of sale at once."""
READ_APPLICATIONS = _region("security", "applications.read")
CHANGE_APPLICATIONS = _region("security", "applications.change", needs_touch=True)
"""Which web applications people may open with the passkey they have here."""
PIN_REGION = _region("security", "crossing.pin", needs_touch=True)
"""Whose root is believed when a packet of another region is offered."""
SET_SHARING_TERMS = _region("security", "sharing.terms", needs_touch=True)
"""What is asked of third parties, and which signals are kept back as trade secrets."""
READ_CONFLICTS = _region("security", "ownership.read")
"""Which vehicles two people claim, and who they are."""

# The release duty ------------------------------------------------------------------------------------------------

RELEASE = _region("release", "release.publish", needs_touch=True)
"""Putting software or a price list on the road; the services that do it ask for this act."""
MAKE_PRICE_LIST = _region("release", "prices.list.add")
DRAFT_PRICES = _region("release", "prices.draft")
"""Handing a price file in and reading what it would do; nothing is released by it."""
TURN_EPOCH = _region("release", "prices.epoch", needs_touch=True)
"""A new key for a list's files from its next release on."""
DRAFT_CROSSING = _region("release", "crossing.draft")
"""Making what would leave for another region, and putting it away; nothing crosses by it."""
RELEASE_CROSSING = _region("release", "crossing.release", needs_touch=True)
"""Letting exactly what was seen cross; never by who drafted it."""
CARRY_CROSSING = _region("release", "crossing.carry")
ACCEPT_CROSSING = _region("release", "crossing.accept", needs_touch=True)

# Looking at a vehicle --------------------------------------------------------------------------------------------

OPEN_VEHICLE = _vehicle("desk", "open", ANY)
"""A vehicle's page: brand and model, never its number."""
READ_TWIN = _vehicle("look", "twin.read", ANY)
READ_HISTORY = _vehicle("look", "history.read", ANY)
READ_TRIPS = _vehicle("look", "trips.read", ("location", "driving"))
READ_BATTERY = _vehicle("look", "battery.read", ("energy", "condition"))
"""Its state of health and the passport's fields: made from energy data, they say its condition."""
READ_TRACK = _vehicle("look", "track.read", ("location",))
DOWNLOAD = _vehicle("look", "download", ANY)
READ_CHARGING = _vehicle("look", "charging.read", ("energy",))
"""State, plan, sessions and alerts; when and how the driver leaves only with the right to control charging."""
READ_VEHICLE = _vehicle("desk", "registry.read", ("identity",))
"""The row of the registry, with the vehicle's number (VIN)."""
READ_GAPS = _vehicle("desk", "gaps.read", ANY)

# Making a vehicle do something ---------------------------------------------------------------------------------------

COMMAND = _vehicle("command", "command", ANY_CONTROL)
"""Opens the door only: each command asks for the act of its class besides."""
COMMAND_CHARGING = _vehicle("command", "command.charging", ("control.charging",))
SET_CHARGING = _vehicle("command", "charging.set", ("control.charging",))
"""Goals, the big stop, what a car's battery and plug are."""
COMMAND_COMFORT = _vehicle("command", "command.comfort", ("control.comfort",))
LOCK = _vehicle("command", "command.lock", ("control.access",))
UNLOCK = _vehicle("command", "command.unlock", ("control.access",), needs_touch=True)
LOCATE = _vehicle("command", "command.locate", ("control.location",), needs_touch=True)
"""Saying where it is: by radio, horn or lights."""
READ_COMMANDS = _vehicle("command", "commands.read", ANY_CONTROL)
"""The commands of the classes he has."""

# What a vehicle's owner may do -----------------------------------------------------------------------------------

READ_LOOKS = _vehicle("mine", "looks.read")
READ_GRANTS = _vehicle("mine", "grants.read")
READ_CONTRACTS = _vehicle("mine", "contracts.read")
"""With whom one's vehicle's data are shared, and the log of it."""
PLAN_ERASURE = _vehicle("mine", "erasure.plan")
ERASE = _vehicle("mine", "erase", needs_touch=True)
GRANT = _vehicle("own", "grant")
WITHDRAW = _vehicle("own", "withdraw")
SHARE = _vehicle("own", "share")
"""Naming a third party that gets one's vehicle's data as they come."""
END_SHARING = _vehicle("own", "share.end")
INVITE = _vehicle("own", "guests.invite")
END_GUEST = _vehicle("own", "guests.end")
TRANSFER = _vehicle("own", "transfer", needs_touch=True)
GIVE_VEHICLE = _vehicle("give", "give")
"""A claim code: its bearer becomes the owner of a vehicle that has none, or opens a conflict about one that has."""

# A dealer's point of sale ------------------------------------------------------------------------------------------

SEE_SITE = _site("site_look", "read")
"""Its card: names, place, brands, opening hours."""
READ_HEALTH = _site("site_look", "health", ("health",))
"""What its agent says of itself: version, outbox, certificate's end. No business content."""
INSTALL_AGENT = _site("site_run", "install", ("install",))
"""Asking that a code be given; the code itself is `JOIN_SITE`."""
RENEW_AGENT = _site("site_run", "renew", ("renew",))
RESTART_AGENT = _site("site_run", "restart", ("restart",))
JOIN_SITE = _site("site_lead", "join", needs_touch=True)
"""The one-time code that enrols the key made at the dealer's. Never shown to a provider."""
DELEGATE = _site("site_lead", "delegate", needs_touch=True)
SHOW_CARD = _site("site_lead", "card")
"""What its card on other web sites shows, and on which."""
READ_SITE_PEOPLE = _site("site_lead", "people.read")
CHANGE_SITE_PEOPLE = _site("site_lead", "people.change", needs_touch=True)
RUN_SHADOW = _site("site_business", "shadow", ("manager", "parts"))
"""Reports of the old way beside the new one: differences of prices are business content."""
READ_SITE_PRICES = _site("site_business", "prices.read", ("manager", "sales", "after-sales", "parts", "accounts"))
READ_SITE_MESSAGES = _site("site_business", "messages.read", ("manager", "sales", "after-sales", "parts", "accounts"))
SEND_SITE_MESSAGE = _site("site_business", "messages.send", ("manager", "after-sales", "parts"))
SEND_SITE_MONEY = _site("site_business", "money.send", ("manager", "accounts"), needs_touch=True)
"""Anything that moves money: fiscal messages, and whatever a later module calls so."""

# Accounts --------------------------------------------------------------------------------------------------------

MY_VEHICLES = _account("self", "vehicles")
CLAIM_VEHICLE = _account("self", "claim")
ACCEPT_INVITATION = _account("self", "invitation.accept")
ADD_PASSKEY = _account("self", "passkey.add")
"""Not a touch by itself: the first passkey comes by a link. The second one asks for the first (`people`)."""
DROP_PASSKEY = _account("self", "passkey.drop", needs_touch=True)
ERASE_ACCOUNT = _account("self", "erase", needs_touch=True)
"""Being forgotten: name, passkeys, sessions, consents, and the data of the vehicles he owns or owned."""
TOUCH = _account("self", "touch")
SIGN_OUT = _account("self", "sign_out")
END_SESSION = _account("self", "session.end")
"""Ending one of one's own sessions. Who has a passkey touches it (`people`); who has none yet could not."""
OPEN_APPLICATION = _account("self", "application.open")
"""Entering a registered web application with the session a passkey opened here."""
READ_ACCOUNT = _account("account", "read")
SIGN_OUT_EVERYWHERE = _account("account", "sign_out_everywhere")


def _table(found: Iterable[object]) -> dict[str, Act]:
    table: dict[str, Act] = {}
    for act in found:
        if isinstance(act, Act):
            assert act.name not in table, f"two acts are called {act.name}"
            table[act.name] = act
    return table


ACTS = _table(list(globals().values()))
"""Every act of this file by its name."""


def groups_of(act: Act) -> tuple[str, ...]:
    """Every group an act belongs to; in Cedar's words its parents."""
    return (act.by, *GROUPS[act.by], *(["touch"] if act.needs_touch else []))
