"""From a feed entry to what has to be done about it (dicom-cast.md §4.1): pure, before FHIR is asked anything."""

from collections.abc import Iterable
from dataclasses import dataclass

from hounsfield.cast import imaging_study, observation, patient
from hounsfield.cast.failure import EntryRefused, Table
from hounsfield.cast.feed import Action, FeedEntry, State
from hounsfield.cast.imaging_study import ImageValues
from hounsfield.cast.options import CastOptions
from hounsfield.cast.patient import PatientIdentity, PatientValues
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write an instance. ``invalid`` are the optional values it is written without."""

    sequence: int
    study_uid: str
    series_uid: str
    sop_uid: str
    is_update: bool
    patient: PatientValues
    image: ImageValues
    observations: tuple[Resource, ...]
    invalid: tuple[EntryRefused, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """Take an instance out."""

    sequence: int
    study_uid: str
    series_uid: str
    sop_uid: str


Step = Upsert | Remove


def prepare(entry: FeedEntry, options: CastOptions) -> Step | None:
    """What ``entry`` asks for; None for nothing. Raises EntryRefused if its metadata does not allow it."""
    if entry.partition not in options.partitions:
        return None
    if entry.action is Action.DELETE:
        return Remove(entry.sequence, entry.study_uid, entry.series_uid, entry.sop_uid)
    if entry.state is State.DELETED or entry.metadata is None:
        return None  # deleted since; its own entry follows
    values = Values(entry.metadata)
    identity = patient.identity(values, system=options.patient_system_id, is_issuer_id_used=options.is_issuer_id_used)
    invalid: list[EntryRefused] = []
    gender = utc = None
    try:
        utc = imaging_study.offset(values)
    except EntryRefused as error:
        invalid.append(error)
    try:
        gender = patient.gender(values)
    except EntryRefused as error:
        invalid.append(error)
    image = imaging_study.read(values, utc)
    if invalid and options.enforce_validation:
        raise EntryRefused(Table.DICOM_FAIL, invalid[0].name, invalid[0].message, invalid[0].public)
    return Upsert(
        sequence=entry.sequence,
        study_uid=entry.study_uid,
        series_uid=entry.series_uid,
        sop_uid=entry.sop_uid,
        is_update=entry.action is Action.UPDATE,
        patient=PatientValues(
            identity,
            patient.human_name(values.person_name(patient.PATIENT_NAME)),
            gender,
            patient.birth_date(values),
        ),
        image=image,
        observations=(
            observation.read(values, entry.study_uid, entry.sop_uid) if options.generate_observations else ()
        ),
        invalid=tuple(invalid),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """Steps of one study that name at most one Patient: what one transaction writes. Never empty."""

    steps: tuple[Step, ...]

    @property
    def study_uid(self) -> str:
        """The study all steps are about."""
        return self.steps[0].study_uid

    @property
    def patient(self) -> PatientIdentity | None:
        """The Patient the upserts name; None if all steps are removals."""
        return next((step.patient.identity for step in self.steps if isinstance(step, Upsert)), None)

    def halves(self) -> tuple["Run", "Run"]:
        """The run in two, in order; only for more than one step."""
        middle = len(self.steps) // 2
        return Run(self.steps[:middle]), Run(self.steps[middle:])


def chains(steps: Iterable[Step]) -> list[list[Run]]:
    """Steps in feed order as chains of runs.

    The runs of a chain must be written one after the other; different chains share neither a study nor a Patient, so
    their order does not matter (dicom-cast.md §3).
    """
    ordered = list(steps)
    owner: dict[object, object] = {}

    def root(key: object) -> object:
        while (parent := owner.setdefault(key, key)) != key:
            owner[key] = key = owner.setdefault(parent, parent)
        return key

    for step in ordered:
        if isinstance(step, Upsert):
            owner[root(step.patient.identity)] = root(("study", step.study_uid))
    by_chain: dict[object, list[Step]] = {}
    for step in ordered:
        by_chain.setdefault(root(("study", step.study_uid)), []).append(step)
    return [_runs(chain) for chain in by_chain.values()]


def _runs(steps: list[Step]) -> list[Run]:
    runs: list[Run] = []
    current: list[Step] = []
    patient_identity: PatientIdentity | None = None
    for step in steps:
        identity = step.patient.identity if isinstance(step, Upsert) else None
        other_patient = identity is not None and patient_identity is not None and identity != patient_identity
        if current and (step.study_uid != current[0].study_uid or other_patient):
            runs.append(Run(tuple(current)))
            current, patient_identity = [], None
        current.append(step)
        patient_identity = identity or patient_identity
    if current:
        runs.append(Run(tuple(current)))
    return runs
