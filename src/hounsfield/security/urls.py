"""Which addresses can be asked, and which may be trusted with secrets."""

import ipaddress
from urllib.parse import urlsplit

from hounsfield.errors import SettingsError


def require_web_url(url: str, what: str) -> None:
    """Raise SettingsError unless ``url`` is an absolute http or https URL."""
    try:
        parts = urlsplit(url.strip())
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(f"{what} must be an absolute URL that begins with http:// or https://.")


def require_safe_url(url: str, what: str) -> None:
    """Raise SettingsError unless ``url`` is https, or http on this machine."""
    if not is_safe_url(url):
        raise SettingsError(f"{what} must be an https URL; plain http is for an address of this machine only.")


def is_safe_url(url: str) -> bool:
    """Whether what is sent to ``url`` is encrypted or stays on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or "")))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
