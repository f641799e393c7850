"""Log levels by the reference's categories and by our own."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from hounsfield.cli.logs import CATEGORIES, configure_logging
from hounsfield.settings import load


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    names = [*CATEGORIES, "hounsfield.cast.worker", "httpx", "httpcore", "granian.access"]
    before = {name: logging.getLogger(name).level for name in names}
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name, old in before.items():
        logging.getLogger(name).setLevel(old)


def configure(**levels: str) -> None:
    configure_logging(
        load(environment={}, overrides={f"Logging:LogLevel:{name}": level for name, level in levels.items()})[0]
    )


def level(name: str) -> str:
    return logging.getLevelName(logging.getLogger(name).getEffectiveLevel())


def test_the_default() -> None:
    configure()
    assert {level(name) for name in CATEGORIES} == {"WARNING"}
    configure(Default="Trace")
    assert level("hounsfield.web.health") == "DEBUG"
    assert level("httpx") == level("httpcore") == "WARNING"


def test_the_longest_category_counts() -> None:
    configure(
        **{
            "Default": "Critical",
            "Microsoft": "Warning",
            "Microsoft.Health": "Information",
            "microsoft.health.dicom.sqlserver": "Debug",
            "Microsoft.Health.DicomCast": "Error",
            "System": "None",
        }
    )
    assert level("hounsfield.index.feed") == level("hounsfield.database") == "DEBUG"
    assert level("hounsfield.web") == level("hounsfield.storage") == "INFO"
    assert level("hounsfield.cast.worker") == "ERROR"
    assert level("hounsfield") == "CRITICAL"


def test_our_own_names_go_first() -> None:
    configure(**{"Microsoft.Health.DicomCast": "Error", "hounsfield": "Information", "hounsfield.cast.worker": "Debug"})
    assert level("hounsfield.cast") == level("hounsfield.web") == "INFO"
    assert level("hounsfield.cast.worker") == "DEBUG"


def test_nothing_makes_urls_show() -> None:
    configure(Default="Debug", httpx="Debug", httpcore="Error")
    assert level("httpx") == "WARNING"
    assert level("httpcore") == "ERROR"


def test_texts_of_exceptions_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """They may quote values, and so patients; class and place do."""
    configure()

    async def fails() -> None:
        raise ValueError("^".join(("Doe", "Jane")))

    async def forgets() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    try:
        asyncio.run(fails())
    except ValueError as error:
        logging.getLogger("hounsfield.web.fhir").error("Unexpected error: %s", type(error).__name__, exc_info=error)
    asyncio.run(forgets())
    said = capsys.readouterr().err
    assert said.count("ValueError") >= 2
    assert "never retrieved" in said
    assert "in fails" in said
    assert "Doe^" not in said
