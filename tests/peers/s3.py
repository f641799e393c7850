"""An S3 server (moto)."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.peers.process import accepts, running
from tests.server import free_port


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; it lets any key in."""

    url: str
    region: str = "us-east-1"
    access_key_id: str = "testing"
    secret_access_key: str = "testing"

    def create_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"test-{secrets.token_hex(6)}"
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return name


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """moto's server, which keeps everything in memory."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, directory / "moto.log", lambda: accepts(port)):
        yield S3Server(f"http://127.0.0.1:{port}")
