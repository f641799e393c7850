"""From a feed entry to what has to be done about it (dicom-cast.md §4.1): pure, before FHIR is asked anything."""

from collections.abc import Iterable
from dataclasses import dataclass

from hounsfield.cast import document, extended_mapping, imaging_study, observation, patient, person
from hounsfield.cast.extended_mapping import ExtendedValues
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
    extended: ExtendedValues | None = None
    """Only with the extended mapping."""


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
            person.further_names(values, patient.PATIENT_NAME) if options.extended_mapping else None,
        ),
        image=image,
        observations=(
            observation.read(values, entry.study_uid, entry.sop_uid) if options.generate_observations else ()
        ),
        invalid=tuple(invalid),
        extended=(
            extended_mapping.read(
                values,
                (entry.study_uid, entry.series_uid, entry.sop_uid),
                document.api_root(options.root_url, entry.partition),
                utc,
            )
            if options.extended_mapping
            else None
        ),
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


def keys(step: Step) -> tuple[object, ...]:
    """What a step changes: its study, and the Patient it names. Steps without a common key go in any order."""
    study = ("study", step.study_uid)
    return (study, step.patient.identity) if isinstance(step, Upsert) else (study,)


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
        study, *others = keys(step)
        for other in others:
            owner[root(other)] = root(study)
    by_chain: dict[object, list[Step]] = {}
    for step in ordered:
        by_chain.setdefault(root(keys(step)[0]), []).append(step)
    return [_runs(chain) for chain in by_chain.values()]


def _runs(steps: list[Step]) -> list[Run]:
    """One run a study, as far as that gives what one step after the other would.

    A step may go with the last run of its study, and so before what other studies say in between, unless that is
    something else about the same Patient: what is said last of a Patient is written last.
    """
    runs: list[list[Step]] = []
    newest: dict[str, int] = {}
    # By Patient: what is said of it, and since which run nothing else.
    said: dict[PatientIdentity, tuple[int, PatientValues]] = {}
    named: list[PatientIdentity | None] = []
    for step in steps:
        place = newest.get(step.study_uid)
        if isinstance(step, Upsert):
            identity = step.patient.identity
            since, values = said.setdefault(identity, (0, step.patient))
            is_said_before = values == step.patient
            if place is not None:
                goes_back = place < len(runs) - 1
                if named[place] not in (None, identity) or (goes_back and not (is_said_before and since <= place)):
                    place = None
        if place is None:
            place = newest[step.study_uid] = len(runs)
            runs.append([])
            named.append(None)
        runs[place].append(step)
        if isinstance(step, Upsert):
            named[place] = identity
            if not is_said_before:
                said[identity] = (place, step.patient)
    return [Run(tuple(run)) for run in runs]
