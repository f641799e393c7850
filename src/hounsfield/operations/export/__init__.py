"""Export: files of the archive copied to somewhere else (operations.md §3, and beyond it).

``request`` says what is exported and how, ``destinations`` where to: an Azure container (``azure_container``), a bucket
(``bucket``) or a folder of this machine (``folder``). ``job`` works it off, a page of files at a time, in one of the
``formats``; ``nifti`` converts series. No HTTP of ours here: web/export.py reads the requests.
"""
