"""Tests of DICOM Cast."""
