"""Settings among the arguments of a command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cli.setting_arguments import as_options, by_key
from hounsfield.errors import SettingsError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("--DicomServer:Security:Enabled true", "--set DicomServer:Security:Enabled=true"),
        ("--DicomServer:Security:Enabled=true", "--set DicomServer:Security:Enabled=true"),
        ("/DicomServer:Security:Enabled true", "--set DicomServer:Security:Enabled=true"),
        ("/dicomserver:security:enabled=a=b", "--set dicomserver:security:enabled=a=b"),
        ("--AllowedHosts x --port 1", "--set AllowedHosts=x --port 1"),
        ("--Cors:Origins:0 --x", "--set Cors:Origins:0=--x"),
        ("--Logging:LogLevel:Microsoft.Health Debug", "--set Logging:LogLevel:Microsoft.Health=Debug"),
        ("--set DicomCast:Enabled=false", "--set DicomCast:Enabled=false"),
        ("--set --A:B=c", "--set --A:B=c"),
        ("--set", "--set"),
        ("--data-dir /srv/data --port 8080 --no-cast", "--data-dir /srv/data --port 8080 --no-cast"),
        ("--data-dir /srv:data", "--data-dir /srv:data"),
        ("show /etc/x=1 --config C:x", "show /etc/x=1 --config C:x"),
        ("--host=::1", "--host=::1"),
    ],
)
def test_what_names_a_setting(written: str, read: str) -> None:
    assert list(as_options(written.split())) == read.split()


def test_a_missing_value() -> None:
    with pytest.raises(SettingsError, match="wants a value"):
        list(as_options(["--port", "1", "/DicomCast:Enabled"]))


@given(st.lists(st.text(max_size=12)))
def test_any_arguments(arguments: list[str]) -> None:
    try:
        found = list(as_options(arguments))
    except SettingsError:
        return
    assert len(found) >= len(arguments)


def test_values_by_key() -> None:
    assert by_key(["A:B=c=d", " X =", "Q__R=1", "A:B=e"]) == {"A:B": "e", "X": "", "Q:R": "1"}
    assert by_key(None) == {}
    for wrong in ("A:B", "", "=x"):
        with pytest.raises(SettingsError, match="KEY=VALUE"):
            by_key([wrong])
