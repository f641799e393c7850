"""Objects in S3, Azure Blob or Google Cloud Storage, through obstore.

The stores themselves promise that an object appears whole or not at all and is durable once acknowledged. What is
added here: one set of errors, bounded memory for large objects whatever the speed of the reader, and deletions that
do not mind missing keys.
"""

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from hounsfield.errors import ExternalStoreRefused, SettingsError, StoreUnavailable
from hounsfield.storage.azure import AzureAccount, create_container, parse_connection_string
from hounsfield.storage.descriptor import FileRange
from hounsfield.storage.errors import ObjectMissing, ObjectTruncated
from hounsfield.storage.object_store import Buffer, Source, Splice, StoredObject, check_key, check_keys, probe
from hounsfield.storage.options import StoreOptions, Tuning
from hounsfield.storage.spool import Upload

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config

RETRIES = 4
RETRY_TIMEOUT = timedelta(seconds=20)
"""How long a request is tried again before the client hears 503; clients give up at 30 s or more."""
CONNECT_TIMEOUT = timedelta(seconds=5)
WINDOW = 4 << 20
"""Bytes of one read request. One reader holds two of them: the one it hands out and the next, under way. Short
requests, because a whole-object request to a slow reader would hit the time-out of requests."""
PART_SIZE = 5 << 20
"""Bytes of one part of a multipart upload; the least S3 allows. 10,000 parts: 50 GB."""
PARTS_AT_A_TIME = 4
REQUESTS_AT_A_TIME = 16
"""Requests under way for one call that names many keys."""
DELETED_AT_A_TIME = 256
"""Keys of one deletion; the smallest limit of the three (Azure)."""
LISTED_AT_A_TIME = 1000

Result = TypeVar("Result")


def open_cloud(scheme: str, container: str, prefix: str, options: StoreOptions) -> "CloudStore":
    """The store in a bucket or container; ``scheme`` is ``s3``, ``az`` or ``gs``. Raises SettingsError."""
    try:
        match scheme:
            case "s3":
                return CloudStore(_s3(container, prefix, options), options)
            case "az":
                account = _azure_account(options)
                made = None if options.external else account
                return CloudStore(_azure(container, prefix, account, options), options, made, container)
            case _:
                return CloudStore(_google(container, prefix, options), options)
    except BaseError:
        # The text could hold a credential.
        raise SettingsError(
            "ObjectStore:Url and its companions make no usable address: "
            "the account, its key or the endpoint is missing or malformed."
        ) from None


class CloudStore:
    """The object store over a bucket or container; see ObjectStore."""

    def __init__(
        self,
        store: S3Store | AzureStore | GCSStore,
        options: StoreOptions,
        account: AzureAccount | None = None,
        container: str = "",
    ) -> None:
        """With an ``account``, a missing ``container`` is created by the first put, as the reference does."""
        self._store = store
        self._refusal = ExternalStoreRefused if options.external else StoreUnavailable
        self._parts_at_a_time = options.tuning.parts_at_a_time or PARTS_AT_A_TIME
        self._requests_at_a_time = options.tuning.requests_at_a_time or REQUESTS_AT_A_TIME
        self._account = account
        self._container = container

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        """See ObjectStore. A bucket's objects are durable name and all."""
        check_key(key)
        if isinstance(source, Splice):
            await self._put_spliced(key, source)
        else:
            await self._put_whole(key, source)
        if written is not None:
            written()

    async def _put_whole(self, key: str, source: Buffer | Sequence[Buffer] | Upload) -> None:
        body = _body(source)
        try:
            await self._put(key, body)
        except ObjectMissing:
            # A put can miss nothing but the bucket.
            if self._account is None:
                raise self._refusal("The bucket or container of the object store does not exist.") from None
            await asyncio.to_thread(create_container, self._account, self._container)
            await self._put(key, body)

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore."""
        check_key(key)
        if length is None:
            length = await self.size(key) - offset
        windows = _windows(offset, length)
        ahead = self._begin(key, next(windows, None))
        try:
            while ahead is not None:
                chunk = await ahead
                ahead = self._begin(key, next(windows, None))
                yield chunk
        finally:
            if ahead is not None:
                ahead.cancel()

    async def get_many(self, keys: Sequence[str]) -> builtins.list[bytes]:
        """See ObjectStore."""
        return await self._together(self._get_whole, keys)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See ObjectStore."""
        check_key(key)
        if length == 0:
            return b""
        try:
            with self._errors():
                data = await obstore.get_range_async(self._store, key, start=offset, length=length)
        except StoreUnavailable:
            # A range behind the end is answered with an error that looks like any other.
            if await self.size(key) < offset + length:
                raise ObjectTruncated from None
            raise
        if len(data) < length:
            raise ObjectTruncated
        return data.to_bytes()

    def at_hand(self, key: str, offset: int, into: memoryview) -> bool:
        """See ObjectStore: never, it takes the network."""
        return False

    async def missing(self, keys: Sequence[str]) -> builtins.list[str]:
        """See ObjectStore."""
        there = await self._together(self._exists, keys)
        return [key for key, exists in zip(keys, there, strict=True) if not exists]

    async def size(self, key: str) -> int:
        """See ObjectStore."""
        check_key(key)
        with self._errors():
            return (await obstore.head_async(self._store, key))["size"]

    def local_path(self, key: str) -> Path | None:
        """See ObjectStore."""
        return None

    def open_range(self, key: str, offset: int, length: int) -> FileRange | None:
        """See ObjectStore."""
        check_key(key)
        return None

    def open_each(self, keys: Sequence[str]) -> None:
        """See ObjectStore."""
        check_keys(keys)
        return

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        listed = [*keys]
        for key in listed:
            check_key(key)
        for start in range(0, len(listed), DELETED_AT_A_TIME):
            batch = listed[start : start + DELETED_AT_A_TIME]
            try:
                with self._errors():
                    await obstore.delete_async(self._store, batch)
            except ObjectMissing:
                # What became of the others is not said, and deleting twice does no harm.
                await self._together(self._delete, batch)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[StoredObject]:
        """See ObjectStore."""
        found = obstore.list(
            self._store, prefix.rstrip("/") or None, offset=start_after or None, chunk_size=LISTED_AT_A_TIME
        ).__aiter__()
        while True:
            with self._errors():
                batch = await anext(found, None)
            if batch is None:
                return
            for entry in batch:
                # Not every store knows where to start (Azurite does not).
                if entry["path"] > start_after:
                    yield StoredObject(entry["path"], entry["size"], entry["last_modified"].timestamp())

    async def sweep_temporary(self, older_than: timedelta) -> int:
        """See ObjectStore: an upload that was not completed is no object, and the services end it by themselves."""
        return 0

    async def check(self) -> None:
        """See ObjectStore."""
        await probe(self)

    async def close(self) -> None:
        """See ObjectStore. Connections close with the process."""

    async def _put(self, key: str, body: bytes | bytearray | memoryview | Path) -> None:
        with self._errors():
            await obstore.put_async(self._store, key, body, chunk_size=PART_SIZE, max_concurrency=self._parts_at_a_time)

    async def _put_spliced(self, key: str, source: Splice) -> None:
        chunks = self._spliced(source)
        if source.size < source.small:
            await self._put(key, b"".join([chunk async for chunk in chunks]))
            return
        with self._errors():
            await obstore.put_async(
                self._store, key, chunks, chunk_size=PART_SIZE, max_concurrency=self._parts_at_a_time
            )

    async def _spliced(self, source: Splice) -> AsyncIterator[bytes]:
        """The bytes of an object made of another, as many at a time as its windows are wide."""
        for piece in source.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            offset, length = piece
            for start, size in _windows(offset, length, source.window):
                yield await self.get_range(source.key, start, size)

    def _begin(self, key: str, window: tuple[int, int] | None) -> asyncio.Task[bytes] | None:
        return None if window is None else asyncio.create_task(self.get_range(key, *window))

    async def _get_whole(self, key: str) -> bytes:
        check_key(key)
        with self._errors():
            found = await obstore.get_async(self._store, key)
            return (await found.bytes_async()).to_bytes()

    async def _exists(self, key: str) -> bool:
        try:
            await self.size(key)
        except ObjectMissing:
            return False
        return True

    async def _delete(self, key: str) -> None:
        try:
            with self._errors():
                await obstore.delete_async(self._store, key)
        except ObjectMissing:
            return

    async def _together(self, call: Callable[[str], Awaitable[Result]], keys: Sequence[str]) -> builtins.list[Result]:
        """``call`` for every key, so many at a time; results in order."""
        gate = asyncio.Semaphore(self._requests_at_a_time)

        async def one(key: str) -> Result:
            async with gate:
                return await call(key)

        return await asyncio.gather(*(one(key) for key in keys))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Our errors for obstore's."""
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._refusal("The object store refuses the configured credentials.") from error
        except BaseError as error:
            raise StoreUnavailable("The object store does not answer as it should.") from error


def _s3(bucket: str, prefix: str, options: StoreOptions) -> S3Store:
    given = {
        "endpoint": options.endpoint,
        "region": options.region,
        "access_key_id": options.access_key_id,
        "secret_access_key": options.secret_access_key,
    }
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=cast("S3Config", {name: value for name, value in given.items() if value}),
        client_options=_client(options.allow_http, options.tuning),
        retry_config=_retries(options.tuning),
    )


def _azure_account(options: StoreOptions) -> AzureAccount | None:
    return parse_connection_string(options.connection_string) if options.connection_string else None


def _azure(container: str, prefix: str, account: AzureAccount | None, options: StoreOptions) -> AzureStore:
    if account is None:
        account = AzureAccount(options.access_key_id, options.endpoint, key=options.secret_access_key)
        allow_http = options.allow_http
    else:
        # Who writes http into a connection string means it; the reference asks no further.
        allow_http = options.allow_http or account.endpoint.startswith("http://")
    given = {
        "account_name": account.name,
        "endpoint": account.endpoint,
        "account_key": account.key,
        "sas_key": account.sas,
    }
    return AzureStore(
        container,
        prefix=prefix or None,
        config=cast("AzureConfig", {name: value for name, value in given.items() if value}),
        client_options=_client(allow_http, options.tuning),
        retry_config=_retries(options.tuning),
    )


def _google(bucket: str, prefix: str, options: StoreOptions) -> GCSStore:
    client, retries = _client(False, options.tuning), _retries(options.tuning)
    return GCSStore(bucket, prefix=prefix or None, client_options=client, retry_config=retries)


def _client(allow_http: bool, tuning: Tuning) -> "ClientConfig":
    client: ClientConfig = {"allow_http": allow_http, "connect_timeout": tuning.connect_timeout or CONNECT_TIMEOUT}
    if tuning.request_timeout is not None:
        client["timeout"] = tuning.request_timeout
    return client


def _retries(tuning: Tuning) -> "RetryConfig":
    retries: RetryConfig = {
        "max_retries": RETRIES if tuning.max_retries is None else tuning.max_retries,
        "retry_timeout": RETRY_TIMEOUT,
    }
    if tuning.retry_delay is not None:
        retries["backoff"] = {
            "init_backoff": tuning.retry_delay,
            "max_backoff": tuning.retry_delay if tuning.fixed_delay else RETRY_TIMEOUT,
        }
    return retries


def _body(source: Buffer | Sequence[Buffer] | Upload) -> bytes | bytearray | memoryview | Path:
    if isinstance(source, Upload):
        if source.memory is not None:
            return source.memory
        assert source.path is not None, "a moved upload cannot be put again"
        return source.path
    if isinstance(source, (bytes, bytearray, memoryview)):
        return source
    return b"".join(source)


def _windows(offset: int, length: int, window: int = WINDOW) -> Iterator[tuple[int, int]]:
    end = offset + length
    return ((start, min(window, end - start)) for start in range(offset, end, window))
