"""Sign-in and one's own account as JSON: passkeys, one-time links, touches, sessions.

A ceremony is two requests: `.../options` gives what `navigator.credentials` is asked, the second brings the answer. Signing
in answers with the session cookie; nothing else ever does. What people do to others (add, recover, duties) stands in
`people_api`. Rules, refusals and limits: `trust.authority.people`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation

from rocade.doors.http.access import AnyRequest, does, peer_of, session_of
from rocade.doors.http.sessions import (
    BROWSER,
    TOUCH,
    browser_cookie,
    no_cookie,
    secret_of,
    session_cookie,
    subject_of,
)
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import Passkey, People, Person, Session

NO_STORE = {"cache-control": "no-store"}
type Options = dict[str, Any]


class Credential(msgspec.Struct, frozen=True):
    """What `navigator.credentials` answered, in the JSON form of the standard."""

    credential: Options


class NewPasskey(msgspec.Struct, frozen=True):
    credential: Options
    name: str


class Name(msgspec.Struct, frozen=True):
    name: str


class OneTimeLink(msgspec.Struct, frozen=True):
    secret: str


class AskView(msgspec.Struct, frozen=True):
    """`number`: what to tell whoever made the invitation; '' where nothing has to be confirmed."""

    number: str
    is_confirmed: bool
    until_us: int


class TouchFor(msgspec.Struct, frozen=True):
    """`subject`: what the act's address names, as `sessions.subject_of` says it."""

    act: str
    subject: str = ""


class SignedIn(msgspec.Struct, frozen=True):
    """`next` is the page to go to: who has no passkey yet is led to register one."""

    person: str
    next: str


class TouchView(msgspec.Struct, frozen=True):
    touch: str


class PasskeyView(msgspec.Struct, frozen=True):
    number: str
    name: str
    is_synced: bool
    added_us: int
    used_us: int | None


class SessionView(msgspec.Struct, frozen=True):
    """`passkey`: the name of the one it was opened with, '' for a link."""

    number: str
    means: str
    passkey: str
    opened_us: int
    used_us: int
    is_this: bool


class DutyView(msgspec.Struct, frozen=True):
    number: str
    duty: str
    scope: str
    granted_by: str
    until_us: int | None


class AccountView(msgspec.Struct, frozen=True):
    person: str
    name: str
    organisation: str
    language: str
    means: str
    duties: list[DutyView]
    passkeys: list[PasskeyView]
    sessions: list[SessionView]


def passkey_view(passkey: Passkey) -> PasskeyView:
    return PasskeyView(f"{passkey.number:x}", passkey.name, passkey.is_synced, passkey.added_us, passkey.used_us)


def duty_views(person: Person) -> list[DutyView]:
    return [DutyView(f"{one.number:x}", one.duty, one.scope, one.granted_by, one.until_us) for one in person.duties]


def home_of(person: Person, passkeys: int) -> str:
    """Where somebody goes after signing in."""
    if not passkeys:
        return "/account"
    return "/" if person.is_operator else "/my"


def _answer(body: object, *cookies: Cookie) -> Response[Any]:
    return Response(body, status_code=200, headers=NO_STORE, cookies=list(cookies))


# --- signing in -----------------------------------------------------------------------------------------------------


@post("/v1/signin/options", status_code=200, opt=does(acts.SIGN_IN))
async def sign_in_options(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
) -> Response[Options]:
    """A challenge for a passkey of this region; no user name is asked."""
    browser = secret_of(request.scope, BROWSER) or people.new_browser()
    options = await people.passkeys.sign_in_options(browser, peer_of(request.scope))
    return _answer(options, browser_cookie(browser, people.site))


@post("/v1/signin", status_code=200, opt=does(acts.SIGN_IN))
async def sign_in(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[Credential],
) -> Response[SignedIn]:
    """Check the passkey's answer and open a session."""
    browser = secret_of(request.scope, BROWSER)
    secret, person = await people.passkeys.sign_in(browser, data.credential, peer_of(request.scope))
    return _answer(SignedIn(person.id, home_of(person, 1)), session_cookie(secret, people.site))


@post("/v1/signin/link/asks", status_code=200, opt=does(acts.SIGN_IN))
async def ask_to_be_let_in(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[OneTimeLink],
) -> Response[AskView]:
    """Ask to be let in by a link that lives for longer than ten minutes; asked again, it says whether that was confirmed."""
    browser = secret_of(request.scope, BROWSER) or people.new_browser()
    asked = await people.links.ask(data.secret, browser, peer_of(request.scope))
    view = AskView(asked.number, asked.is_confirmed, asked.until_us)
    return _answer(view, browser_cookie(browser, people.site))


@post("/v1/signin/link", status_code=200, opt=does(acts.SIGN_IN))
async def sign_in_by_link(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[OneTimeLink],
) -> Response[SignedIn]:
    """Use a one-time link and open a session that may look. An invitation is confirmed before (`/v1/signin/link/asks`)."""
    browser = secret_of(request.scope, BROWSER)
    secret, person = await people.links.redeem(data.secret, peer_of(request.scope), browser)
    passkeys = await people.passkeys.list(person.id)
    return _answer(SignedIn(person.id, home_of(person, len(passkeys))), session_cookie(secret, people.site))


@post("/v1/signout", status_code=200, opt=does(acts.SIGN_OUT))
async def sign_out(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
) -> Response[dict[str, int]]:
    """End this browser's session."""
    await people.sessions.end(session_of(request))
    return _answer({"ended": 1}, no_cookie(people.site))


@post("/v1/signout/everywhere", status_code=200, opt=does(acts.SIGN_OUT_EVERYWHERE))
async def sign_out_everywhere(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
) -> Response[dict[str, int]]:
    """End all one's sessions, this one too; open streams end within two seconds. Who has a passkey touches it for this."""
    session = session_of(request)
    await people.check_further(session, touch_of(request), acts.SIGN_OUT_EVERYWHERE.name)
    ended = await people.sessions.end_all(session)
    return _answer({"ended": ended}, no_cookie(people.site))


# --- one's account --------------------------------------------------------------------------------------------------


@get("/v1/account", opt=does(acts.READ_ACCOUNT))
async def show_account(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
) -> Response[AccountView]:
    """Who is signed in here, with which passkeys, where else, and with which duties."""
    session = session_of(request)
    return _answer(await account_view(people, session))


async def account_view(people: People, session: Session) -> AccountView:
    person = session.person
    passkeys = [passkey_view(one) for one in await people.passkeys.list(person.id)]
    sessions = [
        SessionView(f"{one['number']:x}", one["means"], one["passkey"], one["opened_us"], one["used_us"],
                    one["number"] == session.number)
        for one in await people.sessions.list(person.id)
    ]  # fmt: skip
    return AccountView(
        person.id,
        person.name,
        person.organisation,
        person.language,
        session.means,
        duty_views(person),
        passkeys,
        sessions,
    )


@delete("/v1/account/sessions/{number:str}", status_code=200, opt=does(acts.END_SESSION))
async def end_session(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    number: FromPath[str],
) -> Response[dict[str, int]]:
    """End one of one's own sessions, wherever it is. Who has a passkey touches it for exactly this session."""
    session = session_of(request)
    await people.check_further(session, touch_of(request), acts.END_SESSION.name, subject_of(request.scope))
    await people.sessions.end_one(session, number_of(number))
    return _answer({"ended": 1})


@post("/v1/account/passkeys/options", status_code=200, opt=does(acts.ADD_PASSKEY))
async def register_options(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
) -> Response[Options]:
    """What a browser is asked for a new passkey. A further one needs a session opened by passkey and a touch."""
    session = session_of(request)
    await people.check_further(session, touch_of(request), acts.ADD_PASSKEY.name)
    return _answer(await people.passkeys.register_options(session, secret_of(request.scope)))


@post("/v1/account/passkeys", status_code=200, opt=does(acts.ADD_PASSKEY))
async def register(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[NewPasskey],
) -> Response[PasskeyView]:
    """Keep a new passkey; the session goes on as one opened by it."""
    session = session_of(request)
    secret, passkey = await people.passkeys.register(session, secret_of(request.scope), data.credential, data.name)
    return _answer(passkey_view(passkey), session_cookie(secret, people.site))


@patch("/v1/account/passkeys/{passkey:str}", opt=does(acts.ADD_PASSKEY))
async def rename_passkey(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    passkey: FromPath[str],
    data: JSONBody[Name],
) -> Response[Name]:
    """Call a passkey by another name."""
    await people.passkeys.rename(session_of(request), number_of(passkey), data.name)
    return _answer(data)


@delete("/v1/account/passkeys/{passkey:str}", status_code=200, opt=does(acts.DROP_PASSKEY))
async def remove_passkey(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    passkey: FromPath[str],
) -> Response[dict[str, int]]:
    """End a passkey and the sessions opened with it. Needs a touch; never the last one."""
    await people.passkeys.remove(session_of(request), number_of(passkey))
    return _answer({"ended": 1})


# --- touches --------------------------------------------------------------------------------------------------------


@post("/v1/touches/options", status_code=200, opt=does(acts.TOUCH))
async def touch_options(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[TouchFor],
) -> Response[Options]:
    """A challenge bound to one act on one subject."""
    session = session_of(request)
    return _answer(await people.touches.options(session, secret_of(request.scope), data.act, data.subject))


@post("/v1/touches", status_code=200, opt=does(acts.TOUCH))
async def verify_touch(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[Credential],
) -> Response[TouchView]:
    """The touch, to be sent as `Rocade-Touch` with the act itself within a minute."""
    session, peer = session_of(request), peer_of(request.scope)
    return _answer(TouchView(await people.touches.verify(session, secret_of(request.scope), data.credential, peer)))


def touch_of(request: AnyRequest) -> str:
    return request.headers.get(TOUCH, "")


def number_of(text: str) -> int:
    """A row's number from its hexadecimal name; 0, which names nothing, from anything else."""
    try:
        return int(text, 16) if len(text) <= 16 and text.isalnum() else 0
    except ValueError:
        return 0


HANDLERS = [
    sign_in_options,
    sign_in,
    ask_to_be_let_in,
    sign_in_by_link,
    sign_out,
    sign_out_everywhere,
    show_account,
    end_session,
    register_options,
    register,
    rename_passkey,
    remove_passkey,
    touch_options,
    verify_touch,
]
