"""Benchmarks of DICOMweb servers, side by side in one run: see README.md.

``studies`` makes instances, ``wire`` and ``clients`` send and ask, ``answers`` decides what is right, ``load`` keeps
the clock, ``processes`` the costs, ``disk`` and ``nginx`` are the limits, ``servers`` and ``orthanc`` the contestants,
``workloads`` the rows, ``cast`` the FHIR side, ``report`` the tables.
"""
