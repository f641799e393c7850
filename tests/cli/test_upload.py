import datetime
import ipaddress
import json
import os
import re
import signal
import ssl
import threading
import time
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import CONTROL, Hounsfield, Start, peak_memory, wait_until
from tests.cli.dicom_files import folder_of, instance
from tests.cli.dicomweb_server import DicomWebServer, Handler


def test_folder_reaches_the_server_unchanged(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    paths = folder_of(tmp_path / "in" / "deep", 30) + folder_of(tmp_path / "in", 3, series="1.2.9", pixels=700_000)
    (tmp_path / "in" / "readme.txt").write_text("not DICOM")
    (tmp_path / "in" / "DICOMDIR").write_bytes(paths[0].read_bytes())
    run = start("upload", tmp_path / "in", "--to", server.url + "/")
    out, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (0, "")
    assert not CONTROL.search(out)
    assert re.search(r"^stored: +33$", out, re.M)
    assert re.search(r"^ignored: +2 not DICOM$", out, re.M)
    assert re.search(r"^sent: .* files/s, .*B/s$", out, re.M)
    assert sorted(server.instances.values()) == sorted(path.read_bytes() for path in paths)
    assert server.counted("POST") < 33, "small files travel together"


def test_second_run_sends_nothing_and_restart_everything(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    folder_of(tmp_path / "in", 5)
    assert hounsfield("upload", tmp_path, "--to", server.url).code == 0
    asked = server.counted("POST")
    again = hounsfield("upload", tmp_path, "--to", server.url)
    assert again.code == 0
    assert "skipped:          5 acknowledged earlier" in again.out
    assert server.counted("POST") == asked
    (tmp_path / "in" / "0001.dcm").write_bytes(instance(99))
    changed = hounsfield("upload", tmp_path, "--to", server.url)
    assert "stored:           1" in changed.out
    restarted = hounsfield("upload", tmp_path, "--to", server.url, "--restart")
    assert restarted.code == 0
    assert "already there:    5" in restarted.out


def test_each_server_has_its_own_journal_entries(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    folder_of(tmp_path / "in", 2)
    journal = tmp_path / "journal.sqlite"
    hounsfield("upload", tmp_path / "in", "--to", server.url, "--journal", journal)
    other = DicomWebServer()
    try:
        run = hounsfield("upload", tmp_path / "in", "--to", other.url, "--journal", journal)
        assert run.code == 0
        assert len(other.instances) == 2
    finally:
        other.stop()


def test_rejections_are_named_and_reported(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    paths = folder_of(tmp_path / "in", 6)
    server.rejected["1.2.3.4.2"] = 43264
    server.warned.add("1.2.3.4.3")
    (tmp_path / "in" / "broken.dcm").write_bytes(paths[0].read_bytes()[:140] + b"\0" * 50)
    (tmp_path / "in" / "same again.dcm").write_bytes(paths[4].read_bytes())
    run = hounsfield("upload", tmp_path / "in", "--to", server.url, "--jobs", 1, "--report", tmp_path / "report.json")
    assert run.code == 1
    assert "stored:           5, 1 file with warnings" in run.out
    assert "already there:    1" in run.out
    assert re.search(r"0002\.dcm: rejected: .*\(43264\): DICOM100: \(0010,0020\) - missing", run.out)
    assert re.search(r"broken\.dcm: rejected: .*\(43264\)$", run.out, re.M)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [report[key] for key in ("stored", "storedWithWarning", "alreadyStored", "rejected", "ended")] == [
        5, 1, 1, 2, "finished",
    ]  # fmt: skip
    assert {Path(problem["file"]).name for problem in report["problems"]} == {"0002.dcm", "broken.dcm"}
    again = hounsfield("upload", tmp_path / "in", "--to", server.url)
    assert again.code == 1, "what was rejected is tried again"
    assert "rejected:         2" in again.out


def test_zip_is_read_in_place(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(500):
            archive.writestr(f"folder/{number}.dcm", instance(number, pixels=3000))
        archive.writestr("folder/notes.txt", "not DICOM")
        archive.writestr("folder/DICOMDIR", instance(1))
    before = sorted(tmp_path.iterdir())
    run = hounsfield("upload", tmp_path / "many.zip", "--to", server.url)
    assert run.code == 0, run
    assert len(server.instances) == 500
    assert "ignored:          2 not DICOM" in run.out
    assert sorted(tmp_path.iterdir()) == before
    assert "skipped:          500" in hounsfield("upload", tmp_path / "many.zip", "--to", server.url).out


def test_hostile_zip_names_touch_nothing(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    names = ["../../escaped.dcm", "/etc/escaped.dcm", "C:\\escaped.dcm", "a\x1b[31mred\n.dcm", "..", "aux", "x" * 300]
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "evil.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, instance(number))
    server.rejected["1.2.3.4.3"] = 272
    before = sorted(tmp_path.rglob("*"))
    run = hounsfield("upload", tmp_path / "in", "--to", server.url)
    assert run.code == 1
    assert len(server.instances) == len(names) - 1
    assert sorted(tmp_path.rglob("*")) == before
    assert not CONTROL.search(run.out)
    assert "red" in run.out


def test_busy_server_is_asked_again(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    folder_of(tmp_path / "in", 3)
    times: list[float] = []

    def busy_twice(handler: Handler) -> bool:
        handler.rfile.read(int(handler.headers["Content-Length"])) if len(times) < 2 else None
        times.append(time.monotonic())
        if len(times) == 1:
            handler.answer(503, b"Later.", Retry_After="2")
        elif len(times) == 2:
            handler.answer(429, b"Later.")
        return len(times) <= 2

    server.interfere = busy_twice
    run = hounsfield("upload", tmp_path / "in", "--to", server.url)
    assert run.code == 0
    assert len(server.instances) == 3
    assert times[1] - times[0] >= 2, "Retry-After is honoured"


def test_server_busy_for_ever_fails_the_files(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    folder_of(tmp_path / "in", 1)

    def busy(handler: Handler) -> bool:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(503, b"The data store operation failed.")
        return True

    server.interfere = busy
    run = hounsfield("upload", tmp_path / "in", "--to", server.url, "--retries", 1)
    assert run.code == 1
    assert "failed: HTTP 503. The data store operation failed." in run.out


def test_broken_connection_is_tried_again(server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield) -> None:
    folder_of(tmp_path / "in", 3, pixels=600_000)
    broken: list[str] = []

    def break_first(handler: Handler) -> bool:
        broken.append(handler.path)
        if len(broken) > 2:
            return False
        handler.rfile.read(100_000)
        handler.connection.close()
        handler.close_connection = True
        return True

    server.interfere = break_first
    run = hounsfield("upload", tmp_path / "in", "--to", server.url, "--batch-bytes", 0)
    assert run.code == 0
    assert len(broken) == 5
    assert len(server.instances) == 3


def test_answer_lost_after_storing_counts_as_already_there(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    (path,) = folder_of(tmp_path / "in", 1)
    lost: list[bool] = []

    def lose_first_answer(handler: Handler) -> bool:
        if not lost:
            lost.append(True)
            handler.rfile.read(int(handler.headers["Content-Length"]))
            server.instances[("1.2.3", "1.2.3.4", "1.2.3.4.1")] = path.read_bytes()
            handler.connection.shutdown(2)
            handler.close_connection = True
            return True
        return False

    server.interfere = lose_first_answer
    run = hounsfield("upload", path, "--to", server.url)
    assert run.code == 0
    assert "already there:    1" in run.out


def test_batch_refused_as_a_whole_is_sent_one_by_one(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    folder_of(tmp_path / "in", 5)
    (tmp_path / "in" / "big.dcm").write_bytes(instance(77, pixels=100_000))

    def limit(handler: Handler) -> bool:
        size = int(handler.headers["Content-Length"])
        if size > 50_000:
            handler.rfile.read(size)
            handler.answer(413, b"The request exceeded the allowed limit of 50000 bytes.")
        return size > 50_000

    server.interfere = limit
    run = hounsfield("upload", tmp_path / "in", "--to", server.url)
    assert run.code == 1
    assert len(server.instances) == 5
    assert "big.dcm: rejected: HTTP 413. The request exceeded the allowed limit of 50000 bytes." in run.out


def test_refusal_before_the_body_is_read_is_understood(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    path = tmp_path / "huge.dcm"
    path.write_bytes(instance(1))
    os.truncate(path, 200_000_000)

    def refuse(handler: Handler) -> bool:
        handler.answer(413, b"Too much.")
        handler.close_connection = True
        time.sleep(0.3)
        return True

    server.interfere = refuse
    run = hounsfield("upload", path, "--to", server.url, "--retries", 0)
    assert run.code == 1
    assert "rejected: HTTP 413. Too much." in run.out


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "--token"), (403, "administrator"), (404, "base URL"), (308, "https://elsewhere/")]
)
def test_what_every_file_would_meet_stops_the_run(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield, status: int, advice: str
) -> None:
    folder_of(tmp_path / "in", 30)

    def refuse(handler: Handler) -> bool:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(status, b"", Location="https://elsewhere/")
        return True

    server.interfere = refuse
    run = hounsfield("upload", tmp_path / "in", "--to", server.url, "--batch-bytes", 0, "--jobs", 2)
    assert run.code == 2
    assert advice in run.err
    assert server.counted("POST") <= 4


def test_token_is_sent_and_never_shown(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "in", 1)
    monkeypatch.setenv("HOUNSFIELD_TOKEN", "secret-token")
    monkeypatch.setenv("HOUNSFIELD_URL", server.url)
    run = hounsfield("upload", tmp_path / "in")
    assert run.code == 0
    assert server.requests[0][2]["Authorization"] == "Bearer secret-token"
    assert "secret-token" not in run.out + run.err + hounsfield("upload", "--help").out


def test_unreachable_server(tmp_path: Path, hounsfield: Hounsfield) -> None:
    folder_of(tmp_path / "in", 1)
    run = hounsfield("upload", tmp_path / "in", "--to", "http://127.0.0.1:1/v2")
    assert run.code == 2
    assert "cannot be reached" in run.err
    assert "Check that the server is running" in run.err


def test_server_that_dies_stops_the_run_which_can_go_on_later(tmp_path: Path, hounsfield: Hounsfield) -> None:
    folder_of(tmp_path / "in", 40)
    server = DicomWebServer()
    port = server.server_address[1]

    def die(handler: Handler) -> bool:
        if len(server.instances) >= 10:
            threading.Thread(target=server.stop).start()
            time.sleep(0.2)
            handler.close_connection = True
            return True
        return False

    server.interfere = die
    arguments = ("upload", tmp_path / "in", "--to", f"http://127.0.0.1:{port}/v2", "--batch-bytes", 0, "--jobs", 2)
    run = hounsfield(*arguments, "--retries", 1)
    assert run.code == 2
    assert "cannot be reached" in run.err
    revived = DicomWebServer(port)
    try:
        revived.instances = server.instances
        resumed = hounsfield(*arguments)
        assert resumed.code == 0
        assert len(revived.instances) == 40
        skipped = re.search(r"skipped: +(\d+)", resumed.out)
        assert skipped is not None
        assert int(skipped[1]) >= 8
    finally:
        revived.stop()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_upload_goes_on_where_it_stopped(
    server: DicomWebServer, tmp_path: Path, kill: signal.Signals, start: Start
) -> None:
    folder_of(tmp_path / "in", 60)

    def slowly(handler: Handler) -> bool:
        time.sleep(0.05)
        return False

    server.interfere = slowly
    arguments = ("upload", tmp_path / "in", "--to", server.url, "--batch-bytes", "0", "--jobs", "2")
    run = start(*arguments)
    wait_until(lambda: len(server.instances) >= 10)
    run.send_signal(kill)
    out, err = run.communicate(timeout=10)
    if kill == signal.SIGINT:
        assert run.returncode == 130
        assert "The same command goes on where it stopped." in out
        assert err == ""
    else:
        assert run.returncode == -signal.SIGKILL
    reached = len(server.instances)
    assert 10 <= reached < 60
    again = start(*arguments)
    out, err = again.communicate(timeout=30)
    assert (again.returncode, err) == (0, "")
    assert len(server.instances) == 60
    skipped = re.search(r"skipped: +(\d+)", out)
    assert skipped is not None
    assert reached - 2 <= int(skipped[1]) <= reached, "only what was under way may be sent again"
    stored = [(method, path) for method, path, _ in server.requests if method == "POST"]
    assert len(stored) <= 60 + 4


def test_interrupt_while_the_server_hangs_ends_soon(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    folder_of(tmp_path / "in", 4)
    release = threading.Event()
    server.interfere = lambda handler: release.wait(60)
    run = start("upload", tmp_path / "in", "--to", server.url, "--batch-bytes", "0")
    wait_until(lambda: server.counted("POST") == 4)
    begun = time.monotonic()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=12)
    release.set()
    assert run.returncode == 130
    assert time.monotonic() - begun < 9


def test_memory_stays_flat(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    path = tmp_path / "huge.dcm"
    path.write_bytes(instance(1))
    os.truncate(path, 300_000_000)
    with zipfile.ZipFile(tmp_path / "huge.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(path, "member.dcm")
    received: list[int] = []

    def swallow(handler: Handler) -> bool:
        left = int(handler.headers["Content-Length"])
        received.append(left)
        while left:
            left -= len(handler.rfile.read(min(left, 1 << 20)))
        handler.answer(200, b"")
        return True

    server.interfere = swallow
    run = start("upload", path, tmp_path / "huge.zip", "--to", server.url)
    peak = peak_memory(run)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert [size > 300_000_000 for size in received] == [True, True]
    assert 10_000 < peak < 200_000, "kB"


def test_unreadable_things_are_counted_and_named(
    server: DicomWebServer, tmp_path: Path, hounsfield: Hounsfield
) -> None:
    folder_of(tmp_path / "in", 2)
    (tmp_path / "in" / "cut.zip").write_bytes(b"PK\x03\x04 no zip at all")
    archive_path = tmp_path / "in" / "damaged.zip"
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("fine.dcm", instance(10))
        archive.writestr("damaged.dcm", instance(11, pixels=5000))
    content = bytearray(archive_path.read_bytes())
    content[content.rindex(b"\r\n--\r\n--")] ^= 1
    archive_path.write_bytes(content)
    run = hounsfield("upload", tmp_path / "in", "--to", server.url)
    assert run.code == 1
    assert len(server.instances) == 3
    assert "not sent:         2" in run.out
    assert re.search(r"cut\.zip: failed: cannot be read: File is not a zip file", run.out)
    assert re.search(r"damaged\.zip!damaged\.dcm: failed: cannot be read: Bad CRC-32", run.out)


def test_file_name_that_is_no_text(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    path = tmp_path / os.fsdecode(b"r\xe9jected.dcm")
    path.write_bytes(instance(1))
    server.rejected["1.2.3.4.1"] = 272
    for language in ("C.UTF-8", "C"):
        run = start("upload", tmp_path, "--to", server.url, "--report", tmp_path / "r.json", LC_ALL=language)
        out, err = run.communicate(timeout=20)
        assert (run.returncode, err) == (1, "")
        assert re.search(r"r.jected\.dcm: rejected: the server failed to store it \(272\)", out)
        assert json.loads((tmp_path / "r.json").read_text())["problems"][0]["file"] == str(path)


def test_encrypted_connection(server: DicomWebServer, tmp_path: Path, start: Start) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    folder_of(tmp_path / "in", 3, pixels=600_000)
    untrusted = start("upload", tmp_path / "in", "--to", url)
    _, err = untrusted.communicate(timeout=20)
    assert untrusted.returncode == 2
    assert "not trusted" in err
    assert "SSL_CERT_FILE" in err
    trusted = start("upload", tmp_path / "in", "--to", url, SSL_CERT_FILE=str(certificate))
    out, err = trusted.communicate(timeout=20)
    assert (trusted.returncode, err) == (0, ""), out
    assert len(server.instances) == 3


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for this machine, with its key in the same file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    no_password = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    "arguments",
    [("upload",), ("upload", "/no/such/path"), ("upload", "/", "--to", "ftp://x"), ("upload", "/", "--jobs", "0")],
)
def test_usage_errors(hounsfield: Hounsfield, arguments: tuple[str, ...]) -> None:
    assert hounsfield(*arguments).code == 2
