"""DICOM Cast put together: inside ``serve`` on our own feed, or alone between two servers."""
