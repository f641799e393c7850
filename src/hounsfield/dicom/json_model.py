"""DICOM JSON bytes (PS3.18 annex F) of a dataset."""

import msgspec

from hounsfield.dicom.dataset_reader import Dataset

_encoder = msgspec.json.Encoder()


def metadata_json(dataset: Dataset) -> bytes:
    """The dataset as one UTF-8 JSON object without white space, keys in the dataset's order."""
    return _encoder.encode(dataset)
