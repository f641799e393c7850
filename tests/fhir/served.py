"""The store by itself as an ASGI application, for a real HTTP server; HOUNSFIELD_TEST_DATABASE is the URL."""

import os

from hounsfield.database.connect import open_database
from hounsfield.fhir.store import FhirStore
from hounsfield.web.fhir import fhir_routes
from tests.web import anybody

database = open_database(os.environ["HOUNSFIELD_TEST_DATABASE"])
app = anybody.application(fhir_routes(FhirStore(database, "http://unused.example/fhir")))
