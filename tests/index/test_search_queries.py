"""Every query finds what a plain loop over the datasets finds, in that order, however it is paged (both engines)."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from hounsfield.archive.archive import Archive
from hounsfield.archive.index_values import instance_number, series_values, sop_class_uid, study_values
from hounsfield.archive.search import find, total
from hounsfield.database.connect import open_database
from hounsfield.dicom import dictionary
from hounsfield.errors import BadRequest
from hounsfield.index import search as searching
from hounsfield.index.fragments import pack
from hounsfield.index.instances import InstancePath, Level
from hounsfield.web.search_parameters import Parameters, parse
from hounsfield.web.versions import ApiVersion
from tests.index.make import add, instance
from tests.index.naive_search import DATES, INSTANCE, NAMES, OWN_UID, SERIES, STUDY, TIMES, NaiveArchive

LEVELS = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
PREFIX = "1.2.826.0.1.3680043.10.999.78"
_partitions = iter(range(2_000, 1_000_000))

TEXTS = st.sampled_from(["a", "A b", "ab", "ä", "a_b", "100%", "b!", "a b c"])
PEOPLE = st.sampled_from(
    ["Doe^John", "doe^jo", "Do^John Doe", "Ärzte^Anna", "Wang^Xiao=王^小东", "=山田^太郎=やまだ", "Doe ^ J", "山田"]
)
DAYS = st.sampled_from(["20240101", "20240131", "20240201"])
CLOCKS = st.sampled_from(["10", "1000", "100000.5", "2359", "0000"])
CODES = st.sampled_from(["CT", "MR", "SR"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["PatientID", "AccessionNumber", "StudyDescription", "StudyID", "SeriesDescription"], TEXTS),
    **dict.fromkeys(["ManufacturerModelName"], TEXTS),
    **dict.fromkeys(NAMES, PEOPLE),
    **dict.fromkeys(DATES, DAYS),
    **dict.fromkeys(TIMES, CLOCKS),
    "PatientSex": st.sampled_from(["M", "F"]),
    "Modality": CODES,
    "SeriesNumber": st.integers(-1, 3),
    "InstanceNumber": st.integers(-1, 3),
    "SOPClassUID": st.sampled_from(["1.2.3", "1.2.4"]),
}


def sometimes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


ITEMS = st.lists(
    st.fixed_dictionaries({"ScheduledProcedureStepID": sometimes(TEXTS), "RequestedProcedureID": sometimes(TEXTS)}),
    max_size=2,
)
DATASETS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(1, 2),
        st.fixed_dictionaries(
            {**{name: sometimes(values) for name, values in VALUES.items()}, "RequestAttributesSequence": ITEMS}
        ),
    ),
    min_size=1,
    max_size=8,
)


def wild(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Values with pieces of them replaced by wild cards."""

    def cut(value: str, start: int, length: int, mark: str) -> str:
        return value[:start] + mark + value[start + length :]

    return st.builds(cut, values, st.integers(0, 4), st.integers(0, 3), st.sampled_from(["*", "?", "**"]))


def ranges(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        values,
        values.map("{}-".format),
        values.map("-{}".format),
        st.tuples(values, values).map(lambda pair: "-".join(sorted(pair))),
        st.just("*"),
    )


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(str.join, st.sampled_from([",", "\\"]), st.lists(values, min_size=1, max_size=3))


ASKED: dict[str, st.SearchStrategy[str]] = {}
for _name, _values in VALUES.items():
    if _name in DATES or _name in TIMES:
        ASKED[_name] = ranges(_values)
    elif _name in NAMES:
        ASKED[_name] = st.one_of(
            _values,
            wild(_values),
            st.sampled_from(["do", "jo", "doe jo", "=山田*", "*^John", "Doe^J*", "==や*", "*=王*"]),
        )
    elif _name.endswith("Number") and _name != "AccessionNumber":
        ASKED[_name] = _values.map(str)
    elif _name == "SOPClassUID":
        ASKED[_name] = listed(_values)
    else:
        ASKED[_name] = st.one_of(_values, wild(_values), st.just('""'))
ASKED["ModalitiesInStudy"] = st.one_of(listed(CODES), wild(CODES))
for _name in ("ScheduledProcedureStepID", "RequestedProcedureID"):
    ASKED[f"RequestAttributesSequence.{_name}"] = st.one_of(TEXTS, wild(TEXTS))
_SERIES_LEVEL = [name for name in ASKED if name.partition(".")[0] in SERIES]
_STUDY_LEVEL = [name for name in ASKED if name in STUDY or name == "ModalitiesInStudy"]
SEARCHED = {
    "studies": _STUDY_LEVEL,
    "series": _STUDY_LEVEL + _SERIES_LEVEL,
    "instances": _STUDY_LEVEL + _SERIES_LEVEL + ["SOPClassUID", "InstanceNumber"],
}
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={name: st.just("true") for name in ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")},
)


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, dict[str, str], dict[str, str]]:
    level = draw(st.sampled_from(sorted(SEARCHED)))
    names = draw(st.lists(st.sampled_from(SEARCHED[level]), max_size=3, unique=True))
    return level, {name: draw(ASKED[name]) for name in names}, draw(PARAMETERS)


def request(level: str, pairs: Mapping[str, str] | list[tuple[str, str]], partition: int, **path: str) -> Parameters:
    """What the server makes of a request."""
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": f"/{level}",
        "headers": [(b"host", b"pacs")],
        "query_string": urlencode(pairs if isinstance(pairs, list) else list(pairs.items())).encode(),
        "path_params": path,
        "hounsfield.version": ApiVersion(2, "v2"),
        "hounsfield.partition": SimpleNamespace(key=partition),
        "hounsfield.partition_name": None,
    }
    return parse(Request(scope), LEVELS[level])


def dicom_json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by keyword in the DICOM JSON model."""
    dataset = {}
    for keyword, value in attributes.items():
        if value is None or value == []:
            continue
        tag = dictionary.key_of(keyword)
        known = dictionary.attribute(int(tag, 16))
        assert known is not None
        values = value if known.vr == "SQ" else [value]
        if known.vr == "SQ":
            values = [dicom_json(item) for item in value]
        elif known.vr == "PN":
            names = ("Alphabetic", "Ideographic", "Phonetic")
            values = [{name: group for name, group in zip(names, value.split("="), strict=False) if group}]
        dataset[tag] = {"vr": known.vr, "Value": values}
    return dataset


def uids(datasets: list[Any], level: str) -> list[str]:
    tag = dictionary.key_of(OWN_UID[level])
    return [dataset[tag]["Value"][0] for dataset in msgspec.json.decode(msgspec.json.encode(datasets))]


@given(
    DATASETS,
    st.lists(queries(), min_size=1, max_size=8),
    st.sampled_from([1, 2, 1_000]),
    st.sampled_from([1, 2, 2_000]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_searches_find_what_a_plain_loop_would(
    url: str,
    stored: list[tuple[int, int, dict[str, Any]]],
    queries: list[tuple[str, dict[str, str], dict[str, str]]],
    walk: int,
    few: int,
) -> None:
    partition = next(_partitions)
    datasets: list[Mapping[str, Any]] = []
    for number, (study, series, attributes) in enumerate(stored):
        where = (f"{PREFIX}.{study}", f"{PREFIX}.{study}.{series}", f"{PREFIX}.9.{number}")
        datasets.append(
            {**attributes, **dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), where, strict=True))}
        )

    async def run() -> None:
        database = open_database(url)
        archive = cast(Archive, SimpleNamespace(database=database))
        for dataset in datasets:
            content = dicom_json(dataset)
            path = InstancePath(
                partition, dataset["StudyInstanceUID"], dataset["SeriesInstanceUID"], dataset["SOPInstanceUID"]
            )
            new = instance(path, study_values(content), series_values(content))
            await add(
                database,
                replace(
                    new,
                    metadata=pack(msgspec.json.encode(content)),
                    sop_class_uid=sop_class_uid(content),
                    instance_number=instance_number(content),
                ),
            )
        naive = NaiveArchive(datasets)
        for level, filters, parameters in queries:
            try:
                asked = request(level, {**filters, **parameters}, partition).search
            except BadRequest:
                continue
            expected = naive.find(level, filters, parameters)
            for offset, limit in ((0, 100), (1, 2), (len(expected), 5)):
                page = await find(archive, replace(asked, offset=offset, limit=limit))
                assert uids(page.datasets, level) == expected[offset : offset + limit], (level, filters, parameters)
            assert await total(archive, asked, 10) == len(expected)
            paged: list[str] = []
            following: int | None = None
            while not paged or following is not None:
                page = await find(archive, replace(asked, limit=2, before=following))
                paged += uids(page.datasets, level)
                following = page.next
                if not page.datasets:
                    break
            assert paged == expected, (level, filters, parameters)
        await database.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "WALK", walk)
        patch.setattr(searching, "FEW", few)
        asyncio.run(run())


NAMES_OF_PARAMETERS = st.one_of(
    st.sampled_from(["limit", "offset", "cursor", "count", "includefield", "fuzzymatching", "emptyvaluematching"]),
    st.sampled_from(sorted(ASKED)),
    st.sampled_from([*STUDY, *SERIES, *INSTANCE]),
    st.text(max_size=20),
)


@given(st.sampled_from(sorted(LEVELS)), st.lists(st.tuples(NAMES_OF_PARAMETERS, st.text(max_size=40)), max_size=4))
@example("studies", [("PatientName", "=" * 5 + "*")])
@example("studies", [("StudyDate", "20240101-"), ("StudyTime", "-x")])
@example("series", [("RequestAttributesSequence." * 9, "1")])
@example("studies", [("cursor", "é")])
@example("studies", [("cursor", "AAAA")])
def test_reading_a_query_raises_nothing_but_bad_request(level: str, pairs: list[tuple[str, str]]) -> None:
    try:
        request(level, pairs, 1)
    except BadRequest as error:
        assert "query parameter" in error.message
