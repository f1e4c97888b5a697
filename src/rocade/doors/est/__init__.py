"""The enrolment door: the part of EST (RFC 7030) that vehicles and dealers need, on a TLS port of its own.

    GET  /.well-known/est/cacerts              root and intermediates (PKCS#7)
    GET  /.well-known/est/issuers              the signed issuer table (ours, beside the standard)
    POST /.well-known/est/simpleenroll         claim code (HTTP Basic, user "claim") -> certificate
    POST /.well-known/est/simplereenroll       client certificate -> its successor; a birth certificate re-enrols
    POST /.well-known/est/birth/simpleenroll   client certificate fresh from its claim -> birth certificate

It authenticates, frames and limits; what may be issued is the authority's decision. Usage: `Door(...).start(host, port)`.
"""

from rocade.doors.est.door import Door, Limits

__all__ = ["Door", "Limits"]
