"""A bucket of S3, or of what speaks its interface, as the destination of an export.

S3 cannot append: each step that skips something writes its lines to an object of its own below ``errors/``.
"""

import re
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, cast

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from hounsfield.operations.export.destinations import ERRORS, Content, DestinationRefused, FileRefused
from hounsfield.storage.cloud import CONNECT_TIMEOUT, RETRY_TIMEOUT

if TYPE_CHECKING:
    from obstore.store import S3Config

WHOLE_BYTES = 8 << 20
"""Larger files are uploaded in parts."""
PART_BYTES = 16 << 20
"""10,000 of them, the most there may be: 156 GB."""
RETRIES = 2

_FAILED = re.compile(r"status code: 5\d\d")


class BucketDestination:
    """The folder of one export in a bucket; see Destination."""

    def __init__(self, bucket: str, folder: str, options: "dict[str, str]", *, allow_http: bool) -> None:
        """``options`` are obstore's names: endpoint, region, access_key_id, … Raises DestinationRefused."""
        self._bucket = bucket
        self._folder = folder
        try:
            self._store = S3Store(
                bucket,
                config=cast("S3Config", options),
                client_options={"allow_http": allow_http, "connect_timeout": CONNECT_TIMEOUT},
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
            )
        except (BaseError, ValueError):
            # The text could hold a credential.
            raise DestinationRefused("The settings of the destination make no usable address.") from None

    @property
    def errors_href(self) -> str:
        """See Destination."""
        return f"s3://{self._bucket}/{self._folder}/{ERRORS}"

    async def begin(self) -> None:
        """See Destination."""
        try:
            await self._put(f"{self._folder}/{ERRORS}", b"")
        except FileRefused as error:
            raise DestinationRefused(f"The bucket '{self._bucket}' cannot be written to.") from error

    async def put(self, name: str, content: Content) -> None:
        """See Destination."""
        if content.size is not None and content.size <= WHOLE_BYTES:
            await self._put(f"{self._folder}/{name}", b"".join([chunk async for chunk in content.chunks()]))
            return
        broken: list[Exception] = []
        sent = obstore.put_async(
            self._store, f"{self._folder}/{name}", _bytes(content, broken), chunk_size=PART_BYTES, max_concurrency=2
        )
        try:
            await self._answered(sent)
        except Exception as error:
            # What went wrong on our side comes back in obstore's words.
            raise broken[0] if broken else error from None

    async def append(self, place: str, lines: bytes) -> None:
        """See Destination."""
        try:
            await self._put(f"{self._folder}/errors/{place}.log", lines)
        except FileRefused as error:
            raise DestinationRefused(error.message) from error

    async def settle(self) -> None:
        """See Destination: what was acknowledged is durable."""

    async def close(self) -> None:
        """See Destination: connections close with the process."""

    async def _put(self, key: str, body: bytes) -> None:
        await self._answered(obstore.put_async(self._store, key, body, use_multipart=False))

    async def _answered(self, request: Awaitable[object]) -> None:
        try:
            await request
        except (PermissionDeniedError, UnauthenticatedError):
            raise DestinationRefused(f"The bucket '{self._bucket}' refuses the credentials.") from None
        except (NotFoundError, FileNotFoundError):
            raise DestinationRefused(f"The bucket '{self._bucket}' does not exist.") from None
        except BaseError as error:
            # obstore tells statuses apart in its texts alone.
            if _FAILED.search(str(error)):
                raise FileRefused("The destination failed to take the file.") from None
            raise DestinationRefused(f"The bucket '{self._bucket}' cannot be reached or written to.") from None


async def _bytes(content: Content, broken: list[Exception]) -> AsyncIterator[bytes]:
    try:
        async for chunk in content.chunks():
            yield bytes(chunk)
    except Exception as error:
        broken.append(error)
        raise
