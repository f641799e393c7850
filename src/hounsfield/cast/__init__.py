"""DICOM Cast: reads the change feed and keeps Patient, Endpoint, ImagingStudy and Observation true to it.

The way of an entry: ``feed`` (a page of entries) → ``step`` (what each asks for, and which may go together) →
``transaction`` (one run against what FHIR holds, as one bundle) → ``synchroniser`` (sends, retries, finds the entry to
blame) → ``journal`` and ``state`` (position, error tables, status). ``worker`` is the loop around it, one per database.

Beside it, study by study instead of entry by entry: ``feed_digest`` (what the whole feed says), ``clean_pass`` and
``expected`` (what FHIR should hold, and what it does), ``rebuild`` and ``verify``.

Mapping is pure (values in, resources out): ``values`` reads DICOM JSON; ``patient``, ``endpoint``, ``imaging_study``
and ``observation`` are the rows of dicom-cast.md §6. The synchroniser talks to one FHIR target and one feed; no HTTP
routes, no settings and no reading of the index here.
"""
