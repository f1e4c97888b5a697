"""The two WebAuthn ceremonies as pure checks: what a browser sends in, a proven passkey or a refusal with its own code out.

Required beyond the signature: our origin and host, the user verified by the authenticator, a known algorithm, and a sign
counter that does not go back (`check_counter`, after the signature: only a proven counter tells of a cloned key).
Refuses (`people.passkey.`): `malformed`, `origin`, `unverified`, `signature`, `counter`.
Source: W3C Web Authentication Level 3, sections 7.1 and 7.2; the `webauthn` library does the cryptography.
"""

from __future__ import annotations

from typing import Any

import msgspec
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    parse_attestation_object,
    parse_authentication_credential_json,
    parse_authenticator_data,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticationCredential,
    AuthenticatorData,
    AuthenticatorSelectionCriteria,
    CollectedClientData,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    RegistrationCredential,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from rocade.core.errors import Refused
from rocade.trust.authority.people.model import Passkey, Person, Site, person_number

TIMEOUT_MS = 120_000
ALGORITHMS = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]

type Options = dict[str, Any]
"""Arguments of the browser's `navigator.credentials`, in the JSON form of the standard."""


class NewPasskey(msgspec.Struct, frozen=True):
    """What a registration has proven."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    is_synced: bool


class Answer[T](msgspec.Struct, frozen=True):
    """A parsed credential; its challenge is not yet believed."""

    credential: T
    client: CollectedClientData
    authenticator: AuthenticatorData

    @property
    def challenge(self) -> bytes:
        return self.client.challenge


def handle_of(person: str) -> bytes:
    """The user handle in a passkey: the person's random number."""
    return person_number(person).to_bytes(8)


def registration_options(site: Site, person: Person, challenge: bytes, known: list[Passkey]) -> Options:
    options = generate_registration_options(
        rp_id=site.host,
        rp_name="Rocade",
        user_id=handle_of(person.id),
        user_name=person.name,
        user_display_name=person.name,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=_descriptors(known),
        supported_pub_key_algs=ALGORITHMS,
    )
    return _options(options_to_json(options))


def sign_in_options(site: Site, challenge: bytes, known: list[Passkey]) -> Options:
    """No passkeys named = the browser offers what it has: no user name is typed."""
    options = generate_authentication_options(
        rp_id=site.host,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        allow_credentials=_descriptors(known),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return _options(options_to_json(options))


def _options(text: str) -> Options:
    return msgspec.json.decode(text, type=dict[str, Any])


def _descriptors(passkeys: list[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=one.credential_id) for one in passkeys]


def parse_registration(credential: Options) -> Answer[RegistrationCredential]:
    """Raises: Refused `people.passkey.malformed`."""
    try:
        parsed = parse_registration_credential_json(credential)
        client = parse_client_data_json(parsed.response.client_data_json)
        authenticator = parse_attestation_object(parsed.response.attestation_object).auth_data
    except Exception as error:  # the parsers raise what their input makes them raise
        raise _malformed() from error
    return Answer(parsed, client, authenticator)


def parse_sign_in(credential: Options) -> Answer[AuthenticationCredential]:
    """Raises: Refused `people.passkey.malformed`."""
    try:
        parsed = parse_authentication_credential_json(credential)
        client = parse_client_data_json(parsed.response.client_data_json)
        authenticator = parse_authenticator_data(parsed.response.authenticator_data)
    except Exception as error:  # as above
        raise _malformed() from error
    return Answer(parsed, client, authenticator)


def verify_registration(site: Site, answer: Answer[RegistrationCredential]) -> NewPasskey:
    """Raises: Refused `people.passkey.origin`, `.unverified`, `.signature`."""
    _check_surroundings(site, answer)
    try:
        proven = verify_registration_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
    except WebAuthnException as error:
        raise Refused("people.passkey.signature", "this passkey could not be proven; try another one") from error
    is_synced = proven.credential_device_type is CredentialDeviceType.MULTI_DEVICE
    return NewPasskey(proven.credential_id, proven.credential_public_key, proven.sign_count, is_synced)


def verify_sign_in(site: Site, answer: Answer[AuthenticationCredential], passkey: Passkey) -> int:
    """The counter the passkey's own key has signed.

    Raises: Refused `people.passkey.origin`, `.unverified`, `.signature`.
    """
    _check_surroundings(site, answer)
    handle = answer.credential.response.user_handle
    if handle and handle != handle_of(passkey.person):
        raise Refused("people.passkey.signature", "this passkey was made for somebody else")
    try:
        proven = verify_authentication_response(
            credential=answer.credential,
            expected_challenge=answer.challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError) as error:
        raise Refused("people.passkey.signature", "the passkey did not sign this") from error
    return proven.new_sign_count


def check_counter(passkey: Passkey, sign_count: int) -> None:
    """A counter that is not beyond the last one seen means a second copy of the key; keys without a counter send 0.

    Raises: Refused `people.passkey.counter`.
    """
    if (sign_count or passkey.sign_count) and sign_count <= passkey.sign_count:
        raise Refused(
            "people.passkey.counter",
            "this passkey's counter went back: it may have been copied; use another one and remove it",
        )


def _check_surroundings(site: Site, answer: Answer[Any]) -> None:
    if answer.client.origin != site.origin or answer.client.cross_origin:
        raise Refused("people.passkey.origin", f"passkeys of this region are used at {site.origin} alone")
    if not (answer.authenticator.flags.uv and answer.authenticator.flags.up):
        raise Refused(
            "people.passkey.unverified", "unlock the passkey by finger, face or PIN; a mere presence is not enough"
        )


def _malformed() -> Refused:
    return Refused("people.passkey.malformed", "this is no answer of a passkey")
