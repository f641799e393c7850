"""A document of the Native DICOM Model (PS3.19 §A.1) with everything it has, and the dataset it says."""

from typing import Any

EXAMPLE = """<?xml version="1.0" encoding="UTF-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">
  <!-- as others write it: with spaces between, some attributes in another order, and empty values -->
  <DicomAttribute keyword="SpecificCharacterSet" tag="00080005" vr="CS"><Value number="1">ISO_IR 192</Value>
  </DicomAttribute>
  <DicomAttribute tag="00080008" vr="CS" keyword="ImageType">
    <Value number="1">A</Value><Value number="2"/><Value number="4">B &amp; C</Value>
  </DicomAttribute>
  <DicomAttribute tag="00080050" vr="SH" keyword="AccessionNumber"/>
  <DicomAttribute tag="00100010" vr="PN" keyword="PatientName">
    <PersonName number="1">
      <Alphabetic><FamilyName>Yamada</FamilyName><GivenName>Tarou</GivenName><NamePrefix>Dr</NamePrefix></Alphabetic>
      <Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName></Ideographic>
      <Phonetic><FamilyName>やまだ</FamilyName><GivenName>たろう</GivenName></Phonetic>
    </PersonName>
    <PersonName number="2"/>
    <PersonName number="3"><Phonetic><NameSuffix>x</NameSuffix></Phonetic></PersonName>
  </DicomAttribute>
  <DicomAttribute tag="00101030" keyword="PatientWeight"><Value number="1">70.50</Value><Value number="2">70.5</Value>
  </DicomAttribute>
  <DicomAttribute tag="0040A370" vr="SQ" keyword="ReferencedRequestSequence">
    <Item number="1"><DicomAttribute tag="00321064" vr="SQ"><Item number="1"/></DicomAttribute></Item>
    <Item number="2"><DicomAttribute tag="00280010" vr="US"><Value number="1"> 7 </Value></DicomAttribute></Item>
  </DicomAttribute>
  <DicomAttribute tag="00400400" vr="LT"><Value number="1">  two
 lines&#13;</Value></DicomAttribute>
  <DicomAttribute tag="00290010" vr="LO"><Value number="1">ACME</Value></DicomAttribute>
  <DicomAttribute tag="00290010" vr="LO" privateCreator="ACME"><Value number="1">one of ACME</Value></DicomAttribute>
  <DicomAttribute tag="00291202" vr="OB" privateCreator="OTHER"><InlineBinary>AAEC
    AwQ=</InlineBinary></DicomAttribute>
  <DicomAttribute tag="00720060" vr="AT"><Value number="1">00100010</Value></DicomAttribute>
  <DicomAttribute tag="00720074" vr="FD">
    <Value number="1">-0.25</Value><Value number="2">1e-7</Value><Value number="3">-INF</Value>
    <Value number="4">NaN</Value>
  </DicomAttribute>
  <DicomAttribute tag="00720083" vr="UV"><Value number="1">18446744073709551615</Value></DicomAttribute>
  <DicomAttribute tag="7FE00010" vr="OW" keyword="PixelData"><BulkData uri="https://h/b?a=1&amp;c"/></DicomAttribute>
</NativeDicomModel>""".encode()

DATASET: dict[str, Any] = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
    "00080008": {"vr": "CS", "Value": ["A", None, None, "B & C"]},
    "00080050": {"vr": "SH"},
    "00100010": {
        "vr": "PN",
        "Value": [
            {"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
            None,
            {"Phonetic": "^^^^x"},
        ],
    },
    "00101030": {"vr": "DS", "Value": ["70.50", 70.5]},
    "00290010": {"vr": "LO", "Value": ["ACME"]},
    "00290012": {"vr": "LO", "Value": ["OTHER"]},
    "00291010": {"vr": "LO", "Value": ["one of ACME"]},
    "00291202": {"vr": "OB", "InlineBinary": "AAECAwQ="},
    "00400400": {"vr": "LT", "Value": ["  two\n lines\r"]},
    "0040A370": {
        "vr": "SQ",
        "Value": [{"00321064": {"vr": "SQ", "Value": [{}]}}, {"00280010": {"vr": "US", "Value": [7]}}],
    },
    "00720060": {"vr": "AT", "Value": ["00100010"]},
    "00720074": {"vr": "FD", "Value": [-0.25, 1e-7, "-Infinity", "NaN"]},
    "00720083": {"vr": "UV", "Value": ["18446744073709551615"]},
    "7FE00010": {"vr": "OW", "BulkDataURI": "https://h/b?a=1&c"},
}
