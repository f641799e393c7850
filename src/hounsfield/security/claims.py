"""What a token says, and its refusal. Light, for those who need no cryptography."""

from collections.abc import Mapping
from typing import Any

Claims = Mapping[str, Any]
"""The claims of a verified token by name (RFC 7519 §4)."""


class InvalidToken(Exception):
    """A token that is refused; the text is safe to tell its bearer and quotes nothing of it but times."""
