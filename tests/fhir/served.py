"""The store by itself, served over HTTP at the port given; HOUNSFIELD_TEST_DATABASE is the URL of its database."""

import os
import sys

from hounsfield.database.connect import open_database
from hounsfield.fhir.store import FhirStore
from hounsfield.serving import process
from hounsfield.serving.process import Application
from hounsfield.serving.supervisor import listen
from hounsfield.web.fhir import fhir_routes
from tests.web import anybody


def create() -> Application:
    """The application, made in the process that serves it."""
    database = open_database(os.environ["HOUNSFIELD_TEST_DATABASE"])
    return anybody.application(fhir_routes(FhirStore(database, "http://unused.example/fhir")))


if __name__ == "__main__":
    process.serve(create, listen("127.0.0.1", int(sys.argv[1])), [0], 0, 5)
