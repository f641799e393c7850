"""Secrets of long-running operations at rest: encrypted in the database, with a key that is not there.

AES-256-GCM (NIST SP 800-38D) with a fresh random nonce; each text is bound to the operation it belongs to. The key is
``Operations:EncryptionKey``, or a file in the data directory that only its owner can read. Who can read both that file
and the database can read the secrets of operations that run, and no others: they are removed when these end.
"""

import base64
import contextlib
import os
import secrets
from pathlib import Path

from hounsfield.errors import HounsfieldError, SettingsError

KEY_BYTES = 32
NONCE_BYTES = 12
FILE_NAME = "operations.key"
"""In the data directory."""
SETTING = "Operations:EncryptionKey"


class CannotUnseal(HounsfieldError):
    """The secret was encrypted with another key than this process has."""

    def __init__(self) -> None:
        super().__init__(
            "The credentials of the operation were encrypted with another key than this worker has. Give "
            f"{SETTING} the same value wherever requests are answered and operations are worked off."
        )


class Seal:
    """Encrypts and decrypts with one key, which is read or made when it is first needed."""

    def __init__(self, setting: str, data_dir: Path) -> None:
        """Raises SettingsError for a setting that is no key; it is not repeated in the message."""
        self._file = data_dir / FILE_NAME
        self._key = _parsed(setting) if setting else None

    def seal(self, text: bytes, operation_id: str) -> bytes:
        """``text`` for the row of the operation."""
        # 10 MB and a tenth of a second, which only exports pay.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._known_key()).encrypt(nonce, text, operation_id.encode())

    def unseal(self, sealed: bytes, operation_id: str) -> bytes:
        """What was sealed for the operation. Raises CannotUnseal."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return AESGCM(self._known_key()).decrypt(nonce, text, operation_id.encode())
        except InvalidTag:
            raise CannotUnseal from None

    def _known_key(self) -> bytes:
        if self._key is None:
            self._key = _from_file(self._file)
        return self._key


def _parsed(setting: str) -> bytes:
    try:
        key = base64.b64decode(setting, validate=True)
    except ValueError:  # not Base64, or not even ASCII
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"The setting {SETTING} must be 32 random bytes in Base64: openssl rand -base64 32.")
    return key


def _from_file(path: Path) -> bytes:
    """The key in the file, which is made if there is none; of several processes that make it one wins."""
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            os.fsync(file)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.close(file)
            temporary.unlink()
    return _parsed(path.read_text().strip())
