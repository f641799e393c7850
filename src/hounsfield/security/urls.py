"""Which addresses may be trusted with secrets, and what they answer."""

import ipaddress
from urllib.parse import urlsplit

from hounsfield.errors import SettingsError


def require_safe_url(url: str, what: str) -> None:
    """Raise SettingsError unless ``url`` is https, or http on this machine."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        return
    raise SettingsError(f"{what} must be an https URL; plain http is for an address of this machine only.")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
