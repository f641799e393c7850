"""PS3.4 Table CC.2.5-3 as this server enforces it: what a create and an update must, may and must not give.

Each line is an attribute with its code for create and for update; ``>`` marks attributes of the items of the sequence
above, ``[name]`` a macro that the items follow. The codes:

====  ==========================================================
1     must be present with a value
2     must be present, may be empty
2+    must be present, and not be empty: a 2 of this table that another module makes stricter
3     may be absent, must not be empty when present; conditional codes count as this
2C    may be absent or empty
0     must be present and empty
-     must be absent
.     is not looked at
====  ==========================================================
"""

TABLE = """
TransactionUID                                      0   .
SpecificCharacterSet                                3   3
SOPClassUID                                         1   -
SOPInstanceUID                                      1   -
InstanceCreationDate                                3   3
InstanceCreationTime                                3   3
InstanceCoercionDateTime                            3   3
InstanceCreatorUID                                  3   3
RelatedGeneralSOPClassUID                           3   3
OriginalSpecializedSOPClassUID                      3   3
CodingSchemeIdentificationSequence                  3   3
ContextGroupIdentificationSequence                  3   3
MappingResourceIdentificationSequence               3   3
TimezoneOffsetFromUTC                               3   3
ContributingEquipmentSequence                       3   3
InstanceNumber                                      3   3
SOPInstanceStatus                                   3   3
SOPAuthorizationDateTime                            3   3
SOPAuthorizationComment                             3   3
AuthorizationEquipmentCertificationNumber           3   3
MACParametersSequence                               3   3
DigitalSignaturesSequence                           3   3
EncryptedAttributesSequence                         3   3
OriginalAttributesSequence                          3   3
HL7StructuredDocumentReferenceSequence              3   3
LongitudinalTemporalInformationModified             3   3
QueryRetrieveView                                   3   3
ConversionSourceAttributesSequence                  3   3
ContentQualification                                3   3
PrivateDataElementCharacteristicsSequence           3   3
InstanceOriginStatus                                3   3
BarcodeValue                                        3   3
ReferencedDefinedProtocolSequence                   3   3
ReferencedPerformedProtocolSequence                 3   3

ScheduledProcedureStepPriority                      1   3
ScheduledProcedureStepModificationDateTime          1   1
ProcedureStepLabel                                  1   3
WorklistLabel                                       1   3
ScheduledProcessingParametersSequence [content]     2   3
ScheduledStationNameCodeSequence [codes]            2   3
ScheduledStationClassCodeSequence [codes]           2   3
ScheduledStationGeographicLocationCodeSequence [codes]  2   3
ScheduledHumanPerformersSequence                    2C  3
> HumanPerformerCodeSequence [codes]                1   1
> HumanPerformerName                                1   1
> HumanPerformerOrganization                        1   1
ScheduledProcedureStepStartDateTime                 1   3
ExpectedCompletionDateTime                          3   3
ScheduledProcedureStepExpirationDateTime            3   3
ScheduledWorkitemCodeSequence [codes]               2   3
CommentsOnTheScheduledProcedureStep                 2   3
InputReadinessState                                 1   3
InputInformationSequence [instances]                2   3
StudyInstanceUID                                    3   3
OutputDestinationSequence                           3   3

PatientName                                         2   -
PatientID                                           3   -
IssuerOfPatientID                                   2   -
IssuerOfPatientIDQualifiersSequence                 2   -
OtherPatientIDsSequence                             2   3
> PatientID                                         1   1
> IssuerOfPatientID                                 2   -
> IssuerOfPatientIDQualifiersSequence               2   -
PatientBirthDate                                    2+  -
PatientSex                                          2+  -
ReferencedPatientPhotoSequence [instances]          3   3
AdmissionID                                         2+  -
IssuerOfAdmissionIDSequence                         2+  -
AdmittingDiagnosesDescription                       2+  -
AdmittingDiagnosesCodeSequence [codes]              2+  -
ReferencedRequestSequence                           2   -
> StudyInstanceUID                                  1   .
> AccessionNumber                                   2   .
> IssuerOfAccessionNumberSequence                   2   .
> OrderPlacerIdentifierSequence                     2   .
> OrderFillerIdentifierSequence                     2   .
> RequestedProcedureID                              2   .
> RequestedProcedureDescription                     2   .
> RequestedProcedureCodeSequence                    2   .
ReplacedProcedureStepSequence                       3   -
> ReferencedSOPClassUID                             1   .
> ReferencedSOPInstanceUID                          1   .

PatientAge                                          3   3
Occupation                                          3   3
ConfidentialityConstraintOnPatientDataDescription   3   3
PatientBirthTime                                    3   3
QualityControlSubject                               3   3
PatientInsurancePlanCodeSequence                    3   3
PatientPrimaryLanguageCodeSequence                  3   3
PatientSize                                         3   3
PatientWeight                                       3   3
PatientSizeCodeSequence                             3   3
PatientAddress                                      3   3
MilitaryRank                                        3   3
BranchOfService                                     3   3
CountryOfResidence                                  3   3
RegionOfResidence                                   3   3
PatientTelephoneNumbers                             3   3
PatientTelecomInformation                           3   3
EthnicGroup                                         3   3
PatientReligiousPreference                          3   3
PatientComments                                     3   3
ResponsiblePerson                                   3   3
ResponsiblePersonRole                               3   3
ResponsibleOrganization                             3   3
PatientSpeciesDescription                           3   3
PatientSpeciesCodeSequence                          3   3
PatientBreedDescription                             3   3
PatientBreedCodeSequence                            3   3
BreedRegistrationSequence                           3   3
StrainDescription                                   3   3
StrainNomenclature                                  3   3
StrainCodeSequence                                  3   3
StrainAdditionalInformation                         3   3
StrainStockSequence                                 3   3
GeneticModificationsSequence                        3   3

MedicalAlerts                                       3   3
PregnancyStatus                                     3   3
SpecialNeeds                                        3   3
Allergies                                           3   3
SmokingStatus                                       3   3
AdditionalPatientHistory                            3   3
LastMenstrualDate                                   3   3
PatientSexNeutered                                  3   3
PatientBodyMassIndex                                3   3
MeasuredAPDimension                                 3   3
MeasuredLateralDimension                            3   3
PatientState                                        3   3
PertinentDocumentsSequence                          3   3
PertinentResourcesSequence                          3   3
PatientClinicalTrialParticipationSequence           3   3

InstitutionName                                     3   3
InstitutionAddress                                  3   3
InstitutionCodeSequence                             3   3
InstitutionalDepartmentName                         3   3
InstitutionalDepartmentTypeCodeSequence             3   3
ReasonForVisit                                      3   3
ReasonForVisitCodeSequence                          3   3
ServiceEpisodeID                                    3   3
IssuerOfServiceEpisodeIDSequence                    3   3
ServiceEpisodeDescription                           3   3
VisitStatusID                                       3   3
CurrentPatientLocation                              3   3
PatientInstitutionResidence                         3   3
VisitComments                                       3   3
ReferringPhysicianName                              3   3
ReferringPhysicianAddress                           3   3
ReferringPhysicianTelephoneNumbers                  3   3
ReferringPhysicianIdentificationSequence            3   3
ConsultingPhysicianName                             3   3
ConsultingPhysicianIdentificationSequence           3   3
RouteOfAdmissions                                   3   3
AdmittingDate                                       3   3
AdmittingTime                                       3   3

ProcedureStepState                                  1   -
ProcedureStepProgressInformationSequence            2   3
> ProcedureStepProgress                             -   3
> ProcedureStepProgressDescription                  -   3
> ProcedureStepProgressParametersSequence           -   3
> ProcedureStepCommunicationsURISequence            -   3
> > ContactURI                                      -   1
> > ContactDisplayName                              -   3
> ProcedureStepCancellationDateTime                 -   3
> ReasonForCancellation                             -   3
> ProcedureStepDiscontinuationReasonCodeSequence [codes]  -   3

UnifiedProcedureStepPerformedProcedureSequence      2   3
> ActualHumanPerformersSequence                     -   3
> PerformedStationNameCodeSequence                  -   3
> PerformedStationClassCodeSequence                 -   3
> PerformedStationGeographicLocationCodeSequence    -   3
> PerformedProcedureStepStartDateTime               -   3
> PerformedProcedureStepDescription                 -   3
> CommentsOnThePerformedProcedureStep               -   3
> PerformedWorkitemCodeSequence                     -   3
> PerformedProcessingParametersSequence             -   3
> PerformedProcedureStepEndDateTime                 -   3
> OutputInformationSequence [instances]             -   2
"""

MACROS = {
    "codes": """
CodeValue                                           3   3
CodingSchemeDesignator                              3   3
CodingSchemeVersion                                 3   3
CodeMeaning                                         1   1
LongCodeValue                                       3   3
URNCodeValue                                        3   3
MappingResource                                     3   3
MappingResourceUID                                  3   3
ContextGroupVersion                                 3   3
ContextGroupExtensionFlag                           3   3
ContextGroupLocalVersion                            3   3
ContextGroupExtensionCreatorUID                     3   3
""",
    "content": """
ValueType                                           1   1
ConceptNameCodeSequence [codes]                     1   1
DateTime                                            3   3
Date                                                3   3
Time                                                3   3
PersonName                                          3   3
UID                                                 3   3
TextValue                                           3   3
ConceptCodeSequence [codes]                         3   3
NumericValue                                        3   3
MeasurementUnitsCodeSequence [codes]                3   3
""",
    "instances": """
TypeOfInstances                                     1   1
StudyInstanceUID                                    3   3
SeriesInstanceUID                                   3   3
ReferencedSOPSequence                               1   1
> ReferencedSOPClassUID                             1   1
> ReferencedSOPInstanceUID                          1   1
> HL7InstanceIdentifier                             3   3
> ReferencedFrameNumber                             3   3
> ReferencedSegmentNumber                           3   3
DICOMRetrievalSequence                              3   3
> RetrieveAETitle                                   1   1
DICOMMediaRetrievalSequence                         3   3
> StorageMediaFileSetUID                            1   1
WADORetrievalSequence                               3   3
> RetrieveURI                                       1   1
XDSRetrievalSequence                                3   3
> RepositoryUniqueID                                1   1
WADORSRetrievalSequence                             3   3
> RetrieveURL                                       1   1
""",
}

COMPLETED = """
SOPClassUID                                         1
SOPInstanceUID                                      1
ScheduledProcedureStepPriority                      1
ScheduledProcedureStepModificationDateTime          1
ScheduledProcedureStepStartDateTime                 1
InputReadinessState                                 1
ProcedureStepState                                  1
UnifiedProcedureStepPerformedProcedureSequence      1
> PerformedStationNameCodeSequence                  1
> PerformedProcedureStepStartDateTime               1
> PerformedWorkitemCodeSequence                     1
> PerformedProcedureStepEndDateTime                 1
> OutputInformationSequence                         1
"""
"""What a workitem must have to be completed."""

CANCELED = """
SOPClassUID                                         1
SOPInstanceUID                                      1
ScheduledProcedureStepPriority                      1
ScheduledProcedureStepModificationDateTime          1
ScheduledProcedureStepStartDateTime                 1
InputReadinessState                                 1
ProcedureStepState                                  1
ProcedureStepProgressInformationSequence            1
> ProcedureStepCancellationDateTime                 1
> ProcedureStepDiscontinuationReasonCodeSequence    1
"""
"""What a workitem must have to be canceled by its owner."""
