"""Keys of instances."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.storage.errors import InvalidKey
from hounsfield.storage.layout import DEFAULT_PARTITION, file_key, new_token, parse_key
from hounsfield.storage.object_store import check_key, check_keys

UID = st.from_regex(r"\A[0-9.]{0,63}[0-9]\Z")
PARTITION = st.from_regex(r"\A[A-Za-z0-9_.-]{1,64}\Z")


def test_a_person_can_read_a_key() -> None:
    key = file_key(DEFAULT_PARTITION, "1.2", "1.3", "1.4")
    assert key.startswith("1.2/1.3/1.4_")
    assert key.endswith(".dcm")
    assert file_key("clinic", "1.2", "1.3", "1.4").startswith("partitions/clinic/1.2/1.3/1.4_")


@given(st.one_of(st.sampled_from([DEFAULT_PARTITION, ".", "..", "...", "~"[:0] or "-"]), PARTITION), UID, UID, UID)
def test_a_key_tells_where_it_comes_from(partition: str, study: str, series: str, sop: str) -> None:
    key = file_key(partition, study, series, sop)
    check_key(key)
    parsed = parse_key(key)
    assert parsed is not None
    assert parsed[:4] == (partition, study, series, sop)
    assert key.endswith(f"_{parsed.token}.dcm")


@pytest.mark.parametrize("uid", ["", "..", "1.", "1/2", "a", "1 ", "1\n", "1" * 65, "../1"])
def test_only_uids_make_a_key(uid: str) -> None:
    for uids in ((uid, "1", "1"), ("1", uid, "1"), ("1", "1", uid)):
        with pytest.raises(InvalidKey):
            file_key(DEFAULT_PARTITION, *uids)


def is_refused(keys: list[str]) -> bool:
    try:
        check_keys(keys)
    except InvalidKey:
        return True
    return False


@given(
    st.lists(
        st.text("a./\0-tmp", max_size=8) | st.sampled_from(["a/.tmp-1", ".tmp-1/a", ".tmp-", "a.tmp-"]), max_size=4
    )
)
def test_many_keys_are_refused_for_any_of_them(keys: list[str]) -> None:
    assert is_refused(keys) == any(is_refused([key]) for key in keys)
    for key in keys:
        if is_refused([key]):
            with pytest.raises(InvalidKey):
                check_key(key)
        else:
            check_key(key)


@pytest.mark.parametrize("partition", ["", "a/b", "ä", "a" * 65, "~"])
def test_only_partition_names_make_a_key(partition: str) -> None:
    with pytest.raises(InvalidKey):
        file_key(partition, "1", "1", "1")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "health/0123",
        "1.2/1.3/1.4.dcm",
        "1.2/1.3/1.4_.dcm",
        "1.2/1.3/1.4_abc",
        "1.2/1.4_abc.dcm",
        "x/1.2/1.3/1.4_abc.dcm",
        "partitions/1.2/1.3/1.4_abc.dcm",
        "partitions/a/b/1.2/1.3/1.4_abc.dcm",
        "1.2/1.3/1.4_abc.dcm/x",
        "1.2/1.3/1.4_abc.dcm\n",
    ],
)
def test_other_objects_are_not_taken_for_instances(key: str) -> None:
    assert parse_key(key) is None


def test_tokens_are_unique_and_sort_by_time() -> None:
    tokens = {new_token() for _ in range(5000)}
    assert len(tokens) == 5000
    first = new_token()
    time.sleep(0.002)
    assert first < new_token()
    assert {len(token) for token in tokens} == {16}
