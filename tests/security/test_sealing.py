"""Secrets of operations at rest."""

import base64
from pathlib import Path

import pytest

from hounsfield.errors import SettingsError
from hounsfield.security.sealing import FILE_NAME, CannotUnseal, Seal

KEY = base64.b64encode(bytes(range(32))).decode()


def test_sealed_by_one_process_and_read_by_another(tmp_path: Path) -> None:
    sealed = Seal("", tmp_path).seal(b"sig=abc", "op")
    assert b"sig=abc" not in sealed
    assert Seal("", tmp_path).unseal(sealed, "op") == b"sig=abc"
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert sealed != Seal("", tmp_path).seal(b"sig=abc", "op")


def test_another_key_operation_or_text_is_refused(tmp_path: Path) -> None:
    sealed = Seal(KEY, tmp_path).seal(b"sig=abc", "op")
    assert not list(tmp_path.iterdir())
    for seal, text, operation in (
        (Seal("", tmp_path), sealed, "op"),
        (Seal(KEY, tmp_path), sealed, "other"),
        (Seal(KEY, tmp_path), sealed[:-1] + bytes([sealed[-1] ^ 1]), "op"),
    ):
        with pytest.raises(CannotUnseal, match="Operations:EncryptionKey"):
            seal.unseal(text, operation)


@pytest.mark.parametrize("setting", ["short", "AAAA", KEY + "AAAA", "ü"])
def test_settings_that_are_no_key(setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Seal(setting, tmp_path)
    assert setting not in caught.value.message.replace("openssl rand -base64 32", "")
