"""Key custody by PKCS#11: the region key lives in a token, its number never leaves it.

A version is a 256-bit AES secret key labelled `<label>-<version>`, sensitive, not extractable, used with CKM_AES_GCM. The session
is closed and opened anew (PIN asked again) at least every few seconds of use, so that a holder who changes the PIN, disables the
token or deletes the key has cut access by the next lease. A wrong PIN is tried once, then not again until the PIN file changes:
tokens lock after some. Needs the extra rocade[hsm] (python-pkcs11) and the token's own library.
Source: OASIS PKCS #11 3.0, 2.13 (AES-GCM) and 5.6 (sessions).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rocade.core.errors import Corrupt, Misconfigured, Unavailable
from rocade.trust.authority.sealing.custody import NONCE_BYTES, unknown_version

if TYPE_CHECKING:
    import pkcs11

KEY_BITS = 256
SESSION_S = 5.0
_CUT = {"PinIncorrect", "PinInvalid", "PinLocked", "PinExpired", "PinLenRange", "UserPinNotInitialized"}
_locks: dict[str, threading.Lock] = {}
"""One a library: its sessions and its login are the process's."""


class Pkcs11Custody:
    """The region key in the token called `token`, reached by the library of its maker."""

    def __init__(self, library: str, token: str, pin_file: Path, label: str) -> None:
        self._library, self._token, self._pin_file, self._label = library, token, pin_file, label
        self._lock = _locks.setdefault(library, threading.Lock())
        self._session: pkcs11.Session | None = None
        self._keys: dict[int, Any] = {}
        self._opened_s = 0.0
        self._rejected: tuple[int, bytes] | None = None

    def current(self) -> int:
        return max(self.versions(), default=0)

    def versions(self) -> list[int]:
        return self._do(lambda: sorted(self._keys))

    def files(self) -> list[Path]:
        return []

    def create(self, after: int = 0) -> int:
        def create() -> int:
            from pkcs11 import Attribute, KeyType, MechanismFlag

            version = max(after, *self._keys, 0) + 1
            assert self._session is not None
            self._keys[version] = self._session.generate_key(
                KeyType.AES,
                KEY_BITS,
                label=f"{self._label}-{version}",
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
            )
            return version

        return self._do(create)

    def wrap(self, version: int, plain: bytes, aad: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._do(lambda: bytes(self._key(version).encrypt(plain, **_gcm(nonce, aad))))

    def unwrap(self, version: int, wrapped: bytes, aad: bytes) -> bytes:
        nonce, cipher = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        return self._do(lambda: self._decrypt(self._key(version), nonce, cipher, aad))

    def destroy(self, version: int) -> None:
        def destroy() -> None:
            if key := self._keys.pop(version, None):
                key.destroy()

        self._do(destroy)

    def _key(self, version: int) -> Any:
        if version not in self._keys:
            raise unknown_version(version)
        return self._keys[version]

    def _decrypt(self, key: Any, nonce: bytes, cipher: bytes, aad: bytes) -> bytes:
        """Tokens answer a wrong tag with various errors: one that still works otherwise meant the tag."""
        from pkcs11.exceptions import PKCS11Error

        try:
            return bytes(key.decrypt(cipher, **_gcm(nonce, aad)))
        except PKCS11Error:
            key.encrypt(b"\0" * 32, **_gcm(os.urandom(NONCE_BYTES), b"probe"))
            raise Corrupt(
                "custody.wrap", "a bucket key does not open with the region key: not this region's, or changed"
            ) from None

    def _do[T](self, work: Callable[[], T]) -> T:
        """`work` in a fresh enough session; with a new one when the token was away in between."""
        from pkcs11.exceptions import PKCS11Error

        with self._lock:
            try:
                self._enter()
                return work()
            except PKCS11Error:
                self._leave()
            try:
                self._enter()
                return work()
            except PKCS11Error as error:
                self._leave()
                raise Unavailable("custody.down", f"the token does not answer: {type(error).__name__}") from error

    def _enter(self) -> None:
        """Open a session and find the keys; the library begins anew, for some keep in memory which PIN was right."""
        from pkcs11 import Attribute, ObjectClass
        from pkcs11.exceptions import PKCS11Error

        if self._session is not None and time.monotonic() - self._opened_s < SESSION_S:
            return
        self._leave()
        pin = self._read_pin()
        library = _load(self._library)
        if library.initialized:
            library.finalize()
        library.initialize()
        try:
            self._session = library.get_token(token_label=self._token).open(rw=True, user_pin=pin[1].decode())
        except PKCS11Error as error:
            if type(error).__name__ not in _CUT:
                raise
            self._rejected = pin
            raise Unavailable("custody.refused", f"the token refuses the PIN: {type(error).__name__}") from error
        self._rejected, self._opened_s, prefix = None, time.monotonic(), f"{self._label}-"
        found: Any = self._session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
        labels = {key.label: key for key in found}
        self._keys = {
            int(label[len(prefix) :]): key
            for label, key in labels.items()
            if label.startswith(prefix) and label[len(prefix) :].isdigit()
        }

    def _leave(self) -> None:
        from pkcs11.exceptions import PKCS11Error

        session, self._session, self._keys = self._session, None, {}
        if session is not None:
            try:
                session.close()
            except PKCS11Error:
                return  # it had ended already

    def _read_pin(self) -> tuple[int, bytes]:
        """When the PIN file was written, and the PIN."""
        try:
            stat, pin = self._pin_file.stat(), self._pin_file.read_bytes().strip()
        except FileNotFoundError:
            raise Unavailable("custody.refused", f"no PIN of the token: {self._pin_file.name} is not there") from None
        except PermissionError:
            raise Unavailable("custody.refused", "this process may not read the PIN of the token") from None
        if stat.st_mode & 0o077:
            raise Misconfigured("custody.exposed", f"{self._pin_file.name} can be read by others; chmod 600 it")
        if (stat.st_mtime_ns, pin) == self._rejected:
            raise Unavailable(
                "custody.refused",
                "the token has refused this PIN; it is tried again when the PIN file is written again",
            )
        return stat.st_mtime_ns, pin


def _load(path: str) -> Any:
    """The library, loaded once a process. Raises: Misconfigured `custody.library`."""
    try:
        import pkcs11
    except ImportError:
        raise Misconfigured("custody.library", "[custody] kind pkcs11 needs the extra rocade[hsm]") from None
    if path not in _libraries:
        try:
            _libraries[path] = pkcs11.lib(path)
        except pkcs11.PKCS11Error as error:
            raise Misconfigured("custody.library", f"[custody] library cannot be loaded: {error}") from error
    return _libraries[path]


_libraries: dict[str, Any] = {}


def _gcm(nonce: bytes, aad: bytes) -> dict[str, Any]:
    from pkcs11 import GCMParams, Mechanism

    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, aad, 128)}
