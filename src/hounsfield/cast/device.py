"""Device: the equipment a series comes from, with ``DicomCast:Features:ExtendedMapping``.

A Device is made once and never changed: all it says is in its key. So studies that are written at the same time need
not agree on it, and equipment with another station name is another Device.
"""

import uuid
from dataclasses import astuple, dataclass

from hounsfield.cast.reference import Parameters, escape
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource

MANUFACTURER = "00080070"
STATION_NAME = "00081010"
MANUFACTURER_MODEL_NAME = "00081090"
DEVICE_SERIAL_NUMBER = "00181000"

KEY_SYSTEM = "urn:hounsfield:device"
"""System of the identifier by which a Device is found again."""
_KEYS = uuid.UUID("5b0f1c1e-6f0b-5c55-9d0c-6a8d1c0f7a11")


@dataclass(frozen=True, slots=True)
class Equipment:
    """What an instance says about the equipment that made it."""

    manufacturer: str | None
    model: str | None
    serial_number: str | None
    station_name: str | None

    @property
    def key(self) -> str:
        """The same for the same four values."""
        return str(uuid.uuid5(_KEYS, "\n".join(part or "" for part in astuple(self))))

    def identifier(self) -> Resource:
        """The identifier of the Device."""
        return {"system": KEY_SYSTEM, "value": self.key}

    def reference(self, name: str) -> Resource:
        """A Reference to the Device of that name (``Device/id`` or a URN)."""
        parts = (self.manufacturer, self.model, self.station_name or self.serial_number)
        return {"reference": name, "identifier": self.identifier(), "display": " ".join(part for part in parts if part)}


def read(values: Values) -> Equipment | None:
    """The equipment; None without serial number and station name, as a mere model is no device."""
    equipment = Equipment(
        values.text(MANUFACTURER),
        values.text(MANUFACTURER_MODEL_NAME),
        values.text(DEVICE_SERIAL_NUMBER),
        values.text(STATION_NAME),
    )
    return equipment if equipment.serial_number or equipment.station_name else None


def search(keys: list[str]) -> Parameters:
    """How the Devices of these keys are found."""
    return [("identifier", ",".join(f"{KEY_SYSTEM}|{escape(key)}" for key in keys))]


def key(device: Resource) -> str | None:
    """The key of a Device cast made."""
    for identifier in device.get("identifier", []):
        if identifier.get("system") == KEY_SYSTEM:
            return str(identifier.get("value", ""))
    return None


def create(equipment: Equipment) -> Resource:
    """A new Device."""
    device: Resource = {"resourceType": "Device", "identifier": [equipment.identifier()], "status": "active"}
    if equipment.manufacturer:
        device["manufacturer"] = equipment.manufacturer
    if equipment.serial_number:
        device["serialNumber"] = equipment.serial_number
    if equipment.station_name:
        device["deviceName"] = [{"name": equipment.station_name, "type": "user-friendly-name"}]
    if equipment.model:
        device["modelNumber"] = equipment.model
    return device
