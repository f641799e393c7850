"""An OpenID Connect provider (npm's oidc-provider behind oidc/server.mjs), with controls for its keys and outages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.process import node_server

PROGRAM = Path(__file__).parent / "oidc" / "server.mjs"
AUDIENCE = "health-api"


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """A running provider. ``authority`` is its base URL."""

    authority: str

    def token(self, client: str, *, audience: str = AUDIENCE) -> str:
        """An access token of one of the clients in oidc/server.mjs."""
        answer = httpx.post(
            f"{self.authority}/token",
            data={"grant_type": "client_credentials", "resource": f"urn:audience:{audience}"},
            auth=(client, client),
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def rotate(self, how: str = "replace", algorithm: str = "RS256") -> None:
        """A new signing key; the old ones go (``replace``) or stay (``add``)."""
        self._control(rotate=how, alg=algorithm)

    def stop_answering(self) -> None:
        """Close every connection without an answer."""
        self._control(down=True)

    def answer_again(self) -> None:
        """End of ``stop_answering``."""
        self._control(down=False)

    def live_for(self, seconds: int) -> None:
        """Tokens from now on live so long; 3600 to begin with."""
        self._control(ttl=seconds)

    def know(self, jwk: dict[str, Any]) -> None:
        """The public key of the client ``signer``."""
        self._control(jwk=jwk)

    def key_requests(self) -> int:
        """How often its keys have been fetched."""
        return self._count("keyRequests")

    def token_requests(self) -> int:
        """How often a token has been asked for."""
        return self._count("tokenRequests")

    def _count(self, name: str) -> int:
        count: int = httpx.get(f"{self.authority}/_control").raise_for_status().json()[name]
        return count

    def _control(self, **values: object) -> None:
        httpx.post(f"{self.authority}/_control", json=values).raise_for_status()


@contextmanager
def oidc_provider(directory: Path) -> Iterator[OidcProvider]:
    """The provider, with a key of its own."""
    with node_server(PROGRAM, "oidc-provider/package.json", directory / "oidc.log") as root:
        yield OidcProvider(root)
