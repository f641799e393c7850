"""Settings: sources, types, spellings, and what a child process gets (server.md §14)."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield import settings
from hounsfield.errors import SettingsError
from hounsfield.setting_values import printed
from hounsfield.settings import (
    SECRETS,
    TABLE,
    WITHOUT_EFFECT,
    Setting,
    Settings,
    from_environment,
    load,
    why_without_effect,
)

DELAY = "DicomServer:Services:DeletedInstanceCleanup:DeleteDelay"
FULL = "DicomServer:Features:EnableFullDicomItemValidation"
LIMIT = "DicomServer:Services:StoreServiceSettings:MaxAllowedDicomFileSize"


REFERENCE = Path(__file__).parent / "data" / "appsettings.json"


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
    if row.default is None and row.key != "DicomCastWorker:PollInterval":
        return settings.optional_duration(row.key)
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
        absent = timedelta(seconds=1) if row.key == "DicomCastWorker:PollInterval" else None
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
    settings, _ = from_file(tmp_path, content, {"DicomCast__Partitions": "z"})
    assert settings.strings("DicomCast:Partitions") == ["z"]
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
        "SQLSERVER": {"Retry": {"Mode": "x"}},
        "KeyVault": {"VaultUri": "https://secrets.example"},
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
    assert settings.without_effect.keys() == {
        "dicomserver:features:enablelatestapiversion",
        "keyvault:vaulturi",
        "sqlserver:retry:mode",
    }
    assert load(environment={}, overrides={"Kestrel:Limits": "1"})[1] == ["Unknown setting kestrel:limits."]


def given_keys(content: Any, above: str = "") -> dict[str, Any]:
    """Every key of a settings file with its value; a list is one value, null none."""
    found: dict[str, Any] = {}
    for name, item in content.items():
        if isinstance(item, dict):
            found |= given_keys(item, f"{above}{name}:")
        elif item not in (None, []):
            found[f"{above}{name}"] = item
    return found


def test_a_settings_file_of_the_reference_works_as_it_is() -> None:
    settings, warnings = load(REFERENCE, environment={})
    assert warnings == []
    text = "\n".join(line for line in REFERENCE.read_text().splitlines() if not line.lstrip().startswith("//"))
    rows = {row.key: row for row in TABLE}
    idle = set()
    for key, item in given_keys(json.loads(text.rstrip()[:-3] + "}")).items():
        if key in rows:
            kept = printed(settings.value(key))
            assert str(item).lower() in (str(kept).lower(), str(kept).lower()[:-7], str(kept).lower()[2:-7]), key
        elif key.startswith("Logging:LogLevel:"):
            assert settings.log_levels()[key.removeprefix("Logging:LogLevel:").lower()] == item.lower()
        elif not key.startswith(("DicomServer:Security:", "DicomServer:Audit:")):
            idle.add(key.lower())
    assert settings.without_effect.keys() == idle
    assert settings.duration(DELAY) == timedelta(days=2)
    assert settings.strings("DicomServer:Cors:Methods") == ["GET", "DELETE"]
    assert settings.flag("DicomServer:Features:EnableDataPartitions")


def test_every_key_without_effect_says_why_and_has_none() -> None:
    keys = {row.key.lower() for row in TABLE}
    for key, reason in WITHOUT_EFFECT.items():
        assert key.lower() not in keys
        assert reason and not reason.endswith(".")
        assert why_without_effect(f"{key}x" if key.endswith(":") else key.upper()) == reason
    working = {"sqlserver:schemaoptions:automaticupdatesenabled"}
    working |= {f"dicomfunctions:export:batching:{name}" for name in ("size", "maxparallelcount")}
    assert all(why_without_effect(key) is None for key in keys - working)


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({"SqlServer__ConnectionString": "server=db;password=geheim"}, True),
        ({"SqlServer__ConnectionString": "server=db;password=geheim", "Database__Url": "sqlite:////x"}, False),
        ({"SqlServer__ConnectionString": ""}, False),
    ],
)
def test_a_database_that_cannot_be_used_is_told(environment: dict[str, str], warned: bool) -> None:
    _, warnings = load(environment=environment)
    assert [("Database:Url" in warning, "geheim" in warning) for warning in warnings] == [(True, False)] * warned


def test_the_file_of_the_environment_is_read_after_the_other(tmp_path: Path) -> None:
    def write(name: str, title: str, **more: str) -> None:
        content = {"DicomServer": {"Swagger": {"Title": title, **more}}}
        (tmp_path / name).write_text(json.dumps(content))

    write("settings.json", "one", ServerUri="one")
    write("settings.Development.json", "two")
    write("settings.Production.json", "three")
    key = "DicomServer:Swagger:Title"

    def title(environment: dict[str, str], **overrides: str) -> tuple[str, str]:
        settings, warnings = load(tmp_path / "settings.json", environment=environment, overrides=overrides)
        assert warnings == []
        assert settings.text("DicomServer:Swagger:ServerUri") == "one"
        return settings.text(key), settings.origin(key)

    assert title({}) == ("three", "environment's file")
    assert title({"aspnetcore_environment": "Development"}) == ("two", "environment's file")
    assert title({"ASPNETCORE_ENVIRONMENT": "Development"}, aspnetcore_environment="Production")[0] == "three"
    assert title({"ASPNETCORE_ENVIRONMENT": "Staging"}) == ("one", "file")
    assert title({"DicomServer__Swagger__Title": "four"}) == ("four", "environment")
    for name in ("../x", "a/b", "", "."):
        if name:
            with pytest.raises(SettingsError, match="ASPNETCORE_ENVIRONMENT"):
                load(tmp_path / "settings.json", environment={"ASPNETCORE_ENVIRONMENT": name})


@pytest.mark.parametrize("row", [row for row in TABLE if row.minimum is not None], ids=lambda row: row.key)
def test_numbers_too_small_are_refused(row: Setting) -> None:
    assert row.minimum is not None
    with pytest.raises(SettingsError, match=f"{row.key} must be at least {row.minimum}"):
        load(environment={}, overrides={row.key: str(row.minimum - 1)})
    assert load(environment={}, overrides={row.key: str(row.minimum)})[0].number(row.key) == row.minimum


def test_log_levels_of_categories(tmp_path: Path) -> None:
    content = {"Logging": {"LogLevel": {"Default": "error", "Microsoft.Health.Dicom": "Debug"}}}
    settings, warnings = from_file(tmp_path, content, {"Logging__LogLevel__hounsfield.cast": "None"})
    assert warnings == []
    expected = {"default": "error", "microsoft.health.dicom": "debug", "hounsfield.cast": "none"}
    expected["auditevent"] = "information"
    assert settings.log_levels() == expected
    assert from_environment(settings.to_environment()).log_levels() == expected
    with pytest.raises(SettingsError, match="Trace, Debug"):
        load(environment={"Logging__LogLevel__Default": "loud"})
    with pytest.raises(SettingsError, match="Trace, Debug"):
        load(environment={"Logging__LogLevel__Microsoft": "loud"})


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


def values_of(row: Setting) -> st.SearchStrategy[Any]:
    if row.key.startswith("Logging:LogLevel:"):
        return st.sampled_from(["Debug", "none"])
    return st.integers(row.minimum, 10**17) if row.minimum is not None else VALUES[row.type]


@given(st.data())
def test_a_child_process_gets_the_same_settings(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(TABLE), unique_by=lambda row: row.key, max_size=8))
    given_values = {row.key.lower(): data.draw(values_of(row)) for row in rows}
    settings = Settings({row.key.lower(): given_values.get(row.key.lower(), row.default) for row in TABLE})
    text = settings.to_environment()
    child = from_environment(text)
    for row in TABLE:
        assert value(child, row) == value(settings, row), row.key
        if row.key.lower() not in given_values:
            assert row.key.lower() not in json.loads(text)


def test_secrets_mounted_as_files(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "BlobStore__ConnectionString").write_text("from a file\n")
    (folder / "DICOMSERVER__CORS__ORIGINS__0").write_text("https://one.example")
    (folder / "DicomServer__Swagger__Title").write_text("file")
    (folder / "unrelated").write_text("x")
    (folder / "DicomServer__Directory").mkdir()
    (folder / "..data").symlink_to(folder)
    environment = {"Secrets__Directory": str(folder), "DicomServer__Swagger__Title": "environment"}
    loaded, warnings = settings.load(environment=environment)
    assert warnings == []
    assert loaded.text("BlobStore:ConnectionString") == "from a file"
    assert loaded.strings("DicomServer:Cors:Origins") == ["https://one.example"]
    assert loaded.text("DicomServer:Swagger:Title") == "file"
    assert loaded.origin("DicomServer:Swagger:Title") == settings.MOUNTED_FILE
    loaded, _ = settings.load(environment=environment, overrides={"DicomServer:Swagger:Title": "command line"})
    assert loaded.text("DicomServer:Swagger:Title") == "command line"


def test_a_folder_of_secrets_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Secrets:Directory"):
        settings.load(environment={"Secrets__Directory": str(tmp_path / "none")})


def test_a_vault_is_asked_for_what_is_ours() -> None:
    asked: list[str] = []

    def read(vault: str, is_wanted: Callable[[str], bool]) -> dict[str, str]:
        asked.append(vault)
        assert is_wanted("DicomServer:Security:Enabled")
        assert is_wanted("allowedhosts")
        assert not is_wanted("Other:Thing")
        return {"AllowedHosts": "vault.example", "DicomServer:Swagger:Title": "vault"}

    loaded, _ = settings.load(environment={"AllowedHosts": "a.example"}, read_vault=read)
    assert asked == []
    assert loaded.text("AllowedHosts") == "a.example"
    environment = {"AllowedHosts": "a.example", "KeyVault__Endpoint": "https://v.example"}
    loaded, _ = settings.load(environment=environment, overrides={"DicomServer:Swagger:Title": "x"}, read_vault=read)
    assert asked == ["https://v.example"]
    assert loaded.text("AllowedHosts") == "vault.example"
    assert loaded.origin("AllowedHosts") == settings.KEY_VAULT
    assert loaded.text("DicomServer:Swagger:Title") == "x"
