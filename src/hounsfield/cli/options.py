"""Options that several client commands share."""

from typing import Annotated

import typer

Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HOUNSFIELD_TOKEN", help="Bearer token for the server.", show_default=False),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=1, help="Seconds to wait for a sign of life from the server during a request."),
]
Retries = Annotated[
    int,
    typer.Option("--retries", min=0, help="How often to try again when the connection breaks or the server is busy."),
]


def server_url(flag: str, direction: str) -> object:
    """The option for the server's base URL under the name that reads best with the command."""
    return typer.Option(
        flag, envvar="HOUNSFIELD_URL", help=f"Base URL of the DICOMweb server to {direction}, up to before /studies."
    )
