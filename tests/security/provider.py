"""An identity provider in this process: keys, discovery and JWKS over HTTP, and tokens of every kind, also false."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.answering import Answer, answering

AUDIENCE = "health-api"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}


def public_jwk(key: Any, key_id: str | None, **members: Any) -> dict[str, Any]:
    """The public half of a private key as a JWK."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    content: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    content.pop("key_ops", None)
    return {**content, **({} if key_id is None else {"kid": key_id}), **members}


class FakeProvider:
    """Serves ``discovery`` and ``keys`` (a JWKS) as they are at the moment; counts what is asked for."""

    def __init__(self) -> None:
        self.authority = ""
        self.keys: Any = {"keys": [public_jwk(RSA_KEY, "one")]}
        self.discovery: Any = None
        self.status = 200
        self.requests: list[str] = []
        self.answers = threading.Event()
        """Clear it to let every request hang."""
        self.answers.set()

    def token(
        self,
        key: Any = RSA_KEY,
        algorithm: str = "RS256",
        key_id: str | None = "one",
        *,
        header: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """A good token, but for what the arguments change."""
        now = int(time.time())
        content: dict[str, Any] = {"iss": self.authority, "aud": AUDIENCE, "exp": now + 600, "nbf": now, "iat": now}
        content.update(claims)
        for name in without:
            del content[name]
        headers = {**({} if key_id is None else {"kid": key_id}), **(header or {})}
        return jwt.encode(content, key, algorithm=algorithm, headers=headers)

    def answer(self, path: str, headers: Message) -> Answer:
        """What a GET is answered."""
        self.requests.append(path)
        self.answers.wait()
        content = self.keys
        if path == "/.well-known/openid-configuration":
            content = self.discovery or {"issuer": self.authority, "jwks_uri": f"{self.authority}/keys"}
        return self.status, {}, content if isinstance(content, bytes) else json.dumps(content).encode()


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """A provider on a free port of this machine."""
    provider = FakeProvider()
    with answering(provider.answer) as provider.authority:
        try:
            yield provider
        finally:
            provider.answers.set()
