"""A target that fails when told to, between cast and a real one."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from hounsfield.fhir.target import FhirError, FhirTarget, FhirUnreachable, Match, Resource

Failure = Callable[[], Exception]


def status(code: int, retry_after: float | None = None) -> Failure:
    """An answer with that status."""
    return lambda: FhirError(f"diagnostics of a {code}", status=code, retry_after=retry_after)


def unreachable() -> Exception:
    """No answer."""
    return FhirUnreachable("POST failed: ConnectError.")


@dataclass
class FaultyTarget:
    """``failures`` are used up one by one, by the requests whose line starts with ``match``.

    ``after``: the request does its work, only the answer is lost. ``is_down``: nothing answers.
    ``poison`` fails every transaction whose text contains it, ``requests`` are the lines so far.
    """

    inner: FhirTarget
    failures: list[Failure] = field(default_factory=list)
    match: str = "POST"
    after: bool = False
    is_down: bool = False
    poison: dict[str, Failure] = field(default_factory=dict)
    answer: Callable[[Resource], Resource] | None = None
    before_transaction: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bundles: list[Resource] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return self.inner.endpoint

    async def capabilities(self) -> Resource:
        failure = self._next("GET metadata")
        if failure:
            raise failure
        return await self.inner.capabilities()

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        failure = self._next(f"GET {resource_type}")
        if failure:
            raise failure
        return await self.inner.search(resource_type, parameters)

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        failure = self._next(f"GET {resource_type}")
        if failure:
            raise failure
        async for page in self.inner.pages(resource_type, parameters):
            yield page

    async def transaction(self, bundle: Resource) -> Resource:
        failure = self._next("POST")
        self.bundles.append(bundle)
        for text, poisoned in self.poison.items():
            if text in str(bundle):
                raise poisoned()
        if failure and not self.after:
            raise failure
        if self.before_transaction:
            await self.before_transaction.pop(0)()
        answer = await self.inner.transaction(bundle)
        if failure:
            raise failure
        return self.answer(answer) if self.answer else answer

    async def close(self) -> None:
        await self.inner.close()

    def _next(self, line: str) -> Exception | None:
        self.requests.append(line)
        if self.is_down:
            return unreachable()
        if self.failures and line.startswith(self.match):
            return self.failures.pop(0)()
        return None
