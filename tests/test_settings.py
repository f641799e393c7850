"""Settings: sources, types, spellings, and what a child process gets (server.md §14)."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import SettingsError
from hounsfield.settings import SECRETS, TABLE, Setting, Settings, from_environment, load

DELAY = "DicomServer:Services:DeletedInstanceCleanup:DeleteDelay"
FULL = "DicomServer:Features:EnableFullDicomItemValidation"
LIMIT = "DicomServer:Services:StoreServiceSettings:MaxAllowedDicomFileSize"


def from_file(tmp_path: Path, content: Any, environment: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    file = tmp_path / "appsettings.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return load(file, environment=environment or {})


def value(settings: Settings, row: Setting) -> Any:
    """A setting by the getter of its type."""
    if row.type is str:
        return settings.text(row.key)
    if row.type is bool:
        return settings.flag(row.key)
    if row.type is int:
        return settings.optional_number(row.key) if row.default is None else settings.number(row.key)
    if row.type is list:
        return settings.strings(row.key)
    return settings.duration(row.key, timedelta(seconds=1))


def test_the_table_is_in_order() -> None:
    keys = [row.key.lower() for row in TABLE]
    assert len(keys) == len(set(keys))
    assert set(keys) >= SECRETS
    for row in TABLE:
        assert row.default is None or isinstance(row.default, row.type), row.key
        assert row.sentence.endswith((".", "…")), row.key


def test_defaults() -> None:
    settings, warnings = load(environment={})
    assert warnings == []
    for row in TABLE:
        absent = timedelta(seconds=1) if row.type is timedelta else None
        assert value(settings, row) == (absent if row.default is None else row.default)


def test_later_sources_win(tmp_path: Path) -> None:
    content = {"DicomServer": {"Swagger": {"Title": "file", "ServerUri": "file", "License": {"Name": "file"}}}}
    environment = {
        "DicomServer__Swagger__ServerUri": "environment",
        "DicomServer__Swagger__License__Name": "environment",
    }
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(content))
    settings, _ = load(file, environment=environment, overrides={"DicomServer:Swagger:License:Name": "command line"})
    assert settings.text("DicomServer:Swagger:Title") == "file"
    assert settings.text("DicomServer:Swagger:ServerUri") == "environment"
    assert settings.text("DicomServer:Swagger:License:Name") == "command line"


def test_keys_are_read_in_any_case(tmp_path: Path) -> None:
    settings, warnings = from_file(
        tmp_path, {"DICOMSERVER": {"features:enableFullDicomItemValidation": True}}, {"dicomcast__ENABLED": "FALSE"}
    )
    assert warnings == []
    assert settings.flag(FULL)
    assert settings.flag(FULL.upper())
    assert not settings.flag("DicomCast:Enabled")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:05", timedelta(seconds=5)),
        ("1:02", timedelta(hours=1, minutes=2)),
        ("3.00:00:00", timedelta(days=3)),
        ("10.23:59:59.9999999", timedelta(days=10, hours=23, minutes=59, seconds=59, microseconds=999999)),
        (" 00:00:00.25 ", timedelta(milliseconds=250)),
    ],
)
def test_times(text: str, expected: timedelta) -> None:
    assert load(environment={DELAY.replace(":", "__"): text})[0].duration(DELAY) == expected


@pytest.mark.parametrize(
    ("key", "bad", "kind"),
    [
        *((DELAY, bad, "a time") for bad in ("5", "5s", "-00:00:05", "00:00:05.12345678", "", "9999999999.00:00:00")),
        *((FULL, bad, "true or false") for bad in ("yes", "1", "", "truee")),
        *((LIMIT, bad, "an integer") for bad in ("1.5", "2GB", "", "9" * 19, "0x10")),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_and_not_repeated(key: str, bad: str, kind: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(environment={key.replace(":", "__"): bad})
    assert key in refusal.value.message
    assert kind in refusal.value.message
    assert len(bad) < 4 or bad not in refusal.value.message


def test_types_of_json(tmp_path: Path) -> None:
    content = {"DicomCast": {"Enabled": False, "Partitions": ["a", "b"]}, "Patient": {"PatientSystemId": None}}
    content |= {"DicomServer": {"Services": {"StoreServiceSettings": {"MaxAllowedDicomFileSize": 5}}}}
    settings, warnings = from_file(tmp_path, content)
    assert warnings == []
    assert settings.flag("DicomCast:Enabled") is False
    assert settings.strings("DicomCast:Partitions") == ["a", "b"]
    assert settings.text("Patient:PatientSystemId") == ""
    assert settings.number(LIMIT) == 5


def test_lists_merge_by_index_or_are_given_in_one(tmp_path: Path) -> None:
    content = {"DicomCast": {"Partitions": ["a", "b", "c"]}}
    settings, _ = from_file(tmp_path, content, {"DicomCast__Partitions__1": "x", "DicomCast__Partitions__10": "y"})
    assert settings.strings("DicomCast:Partitions") == ["a", "x", "c", "y"]
    assert load(environment={"DicomCast__Partitions": "a, b ,,c"})[0].strings("DicomCast:Partitions") == ["a", "b", "c"]


def test_comments_and_trailing_commas_as_dotnet_allows_them(tmp_path: Path) -> None:
    content = """// the whole
    {
      /* several
         lines */
      "Patient": {
        "PatientSystemId": "http://example.com//x/*y*/,}", // not a comment inside
      },
      "DicomCast": {"Partitions": ["a", "b", /* last */ ]},
    }
    """
    settings, warnings = from_file(tmp_path, "\ufeff" + content)
    assert warnings == []
    assert settings.text("Patient:PatientSystemId") == "http://example.com//x/*y*/,}"
    assert settings.strings("DicomCast:Partitions") == ["a", "b"]


@pytest.mark.parametrize("content", ["", "[1]", '"text"', '{"a": }', '{"Patient": {"PatientSystemId": "x"', "{'a': 1}"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SettingsError, match=r"appsettings\.json"):
        from_file(tmp_path, content)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes('{"Patient": {"PatientSystemId": "Köln"}}'.encode("latin-1"))
    for name in ("missing.json", ".", "latin"):
        with pytest.raises(SettingsError, match="settings file"):
            load(tmp_path / name, environment={})


def test_unknown_keys_of_known_sections_are_told_and_others_passed_over(tmp_path: Path) -> None:
    content = {
        "DicomServer": {"Features": {"EnableFullDicomItemValidaton": True, "EnableLatestApiVersion": True}},
        "ServerIdentity": {"x": 1},
        "Kestrel": {"Limits": 1},
    }
    environment = {"PATH": "/bin", "Patient__Oops": "1", "HOME__x": "1", "FHIR": "x"}
    settings, warnings = from_file(tmp_path, content, environment)
    assert sorted(warnings) == [
        "Unknown setting dicomserver:features:enablefulldicomitemvalidaton.",
        "Unknown setting patient:oops.",
    ]
    assert not settings.flag(FULL)


def test_surrounding_blanks_are_no_part_of_a_value() -> None:
    settings, _ = load(environment={"Fhir__Endpoint": "  http://fhir  ", "DicomCast__Enabled": " false "})
    assert settings.text("Fhir:Endpoint") == "http://fhir"
    assert not settings.flag("DicomCast:Enabled")


VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(blacklist_categories=["Cs"]), max_size=20).map(str.strip),
    bool: st.booleans(),
    int: st.integers(-(10**17), 10**17),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=4000)),
    list: st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=8), max_size=4),
}


@given(st.data())
def test_a_child_process_gets_the_same_settings(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(TABLE), unique_by=lambda row: row.key, max_size=8))
    given_values = {row.key.lower(): data.draw(VALUES[row.type]) for row in rows}
    settings = Settings({row.key.lower(): given_values.get(row.key.lower(), row.default) for row in TABLE})
    printed = settings.to_environment()
    child = from_environment(printed)
    for row in TABLE:
        assert value(child, row) == value(settings, row), row.key
        if row.key.lower() not in given_values:
            assert row.key not in json.loads(printed)
