"""Tokens, roles and the audit log through HTTP, with a real OpenID Connect provider (server.md §§9, 10)."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import running, serve_fails
from tests.peers.oidc_provider import AUDIENCE, OidcProvider
from tests.security.provider import OTHER_RSA_KEY, FakeProvider, fake_provider
from tests.server import Server, free_port

SECTION = "DicomServer__Security__"
ROLES = json.dumps(
    {
        "roles": [
            {"name": name, "dataActions": actions, "notDataActions": taken, "scopes": ["/"]}
            for name, actions, taken in (
                ("globalReader", ["read"], []),
                ("globalWriter", ["write"], []),
                ("globalDeleter", ["delete"], []),
                ("globalAdmin", ["*"], ["none"]),
            )
        ]
    }
)


def security(authority: str, more: Mapping[str, str] | None = None, *, roles: bool = False) -> dict[str, str]:
    """Environment of a server that takes tokens of ``authority``."""
    return {
        f"{SECTION}Enabled": "true",
        f"{SECTION}Authentication__Authority": authority,
        f"{SECTION}Authentication__Audience": AUDIENCE,
        f"{SECTION}Authorization__Enabled": str(roles).lower(),
        f"{SECTION}PrincipalClaims__0": "sub",
        **(more or {}),
    }


@pytest.fixture(scope="module")
def provider(oidc_provider_process: OidcProvider) -> OidcProvider:
    return oidc_provider_process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Server]:
    """A server with roles, two API processes, cast and FHIR."""
    data_dir = tmp_path_factory.mktemp("guarded") / "data"
    data_dir.mkdir()
    (data_dir / "roles.json").write_text(ROLES)
    server = Server(data_dir, ["--workers", "2"], security(provider.authority, roles=True))
    try:
        yield server.start()
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


@pytest.fixture
def api(guarded: Server) -> Iterator[httpx.Client]:
    with guarded.client() as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def tokens(provider: OidcProvider, guarded: Server) -> dict[str, dict[str, str]]:
    """The header of each client of the provider."""
    return {
        name: bearer(provider.token(name)) for name in ("nobody", "reader", "writer", "deleter", "admin", "several")
    }


def audit_entries(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


# --- authentication ---

TOKEN_WANTED = [
    ("GET", "/v2/studies"),
    ("GET", "/v1/series"),
    ("GET", "/v1-prerelease/instances"),
    ("GET", "/v2/studies/1.2"),
    ("GET", "/v2/studies/1.2/metadata"),
    ("GET", "/v2/studies/1.2/series/1.3/instances/1.4/frames/1"),
    ("DELETE", "/v2/studies/1.2"),
    ("GET", "/v2/changefeed"),
    ("GET", "/v1/changefeed/latest"),
    ("GET", "/v2/partitions"),
    ("GET", "/v2/partitions/x/studies"),
    ("GET", "/fhir/metadata"),
    ("GET", "/fhir/Patient"),
    ("POST", "/fhir"),
    ("DELETE", "/fhir/Patient/1"),
    ("GET", "/cast/status"),
    ("GET", "/cast/errors?table=FhirRetryExceptionTable"),
    ("DELETE", "/cast/errors?table=FhirRetryExceptionTable"),
    ("POST", "/cast/retry"),
    ("GET", "/statistics"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), TOKEN_WANTED)
def test_without_a_token(api: httpx.Client, provider: OidcProvider, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == (
        f'Bearer authorization_uri="{provider.authority}", resource_id="health-api", realm="health-api"'
    )
    assert "api-supported-versions" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/health/check", "/v1/api.json", "/v2/api.yaml", "/v1-prerelease/api.json"])
def test_what_needs_none(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/vx/studies", 404),
        ("PUT", "/v2/studies", 405),
        ("DELETE", "/cast/status", 405),
        ("GET", "/v3/studies", 400),
    ],
)
def test_routing_comes_before_the_token(api: httpx.Client, method: str, path: str, status: int) -> None:
    assert api.request(method, path).status_code == status


def test_order_of_refusals_at_store(api: httpx.Client, tokens: dict[str, dict[str, str]]) -> None:
    """Content type, token, Accept, permission, UID (store.md §1)."""
    wrong = {"content-type": "text/plain", "accept": "text/plain"}
    right = {"content-type": "application/dicom", "accept": "text/plain"}
    accepted = {"content-type": "application/dicom", "accept": "application/dicom+json"}
    path = "/v2/studies/not-a-uid"
    assert api.post(path, content=b"x", headers=wrong).status_code == 415
    assert api.post(path, content=b"x", headers=right).status_code == 401
    assert api.post(path, content=b"x", headers={**right, **tokens["reader"]}).status_code == 406
    assert api.post(path, content=b"x", headers={**accepted, **tokens["reader"]}).status_code == 403
    assert api.post(path, content=b"x", headers={**accepted, **tokens["writer"]}).status_code == 400


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_good_token(api: httpx.Client, provider: OidcProvider, scheme: str) -> None:
    token = provider.token("reader")
    assert api.get("/v2/studies", headers={"authorization": f"{scheme} {token}"}).status_code in (200, 204)


@pytest.mark.parametrize("place", ["basic", "query", "cookie", "bare"])
def test_a_token_anywhere_else_does_not_count(api: httpx.Client, provider: OidcProvider, place: str) -> None:
    token = provider.token("reader")
    answer = {
        "basic": lambda: api.get("/v2/studies", headers={"authorization": f"Basic {token}"}),
        "query": lambda: api.get("/v2/studies", params={"access_token": token}),
        "cookie": lambda: api.get("/v2/studies", headers={"cookie": f"access_token={token}"}),
        "bare": lambda: api.get("/v2/studies", headers={"authorization": token}),
    }[place]()
    assert answer.status_code == 401
    assert "invalid_token" not in answer.headers["www-authenticate"]


def test_tokens_for_somebody_else(api: httpx.Client, provider: OidcProvider) -> None:
    answer = api.get("/v2/studies", headers=bearer(provider.token("reader", audience="another-api")))
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"].endswith(
        ', error="invalid_token", error_description="The audience is invalid"'
    )


@pytest.mark.parametrize("token", ["x", "a.b.c", "a b", "é", "a" * 20_000, "..", "eyJhbGciOiJub25lIn0.e30."])
def test_texts_that_are_no_tokens(api: httpx.Client, guarded: Server, token: str) -> None:
    headers = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
    answer = api.get("/v2/studies", headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert len(answer.headers["www-authenticate"]) < 300
    assert "aaaaaaaa" not in guarded.log()


def test_a_large_upload_without_a_token_hears_the_answer(api: httpx.Client) -> None:
    body, headers = factories.multipart([factories.part10(factories.dataset()) + bytes(4_000_000)])
    answer = api.post("/v2/studies", content=body, headers={**headers, "accept": "application/dicom+json"})
    assert answer.status_code == 401


@pytest.fixture
def forger() -> Iterator[FakeProvider]:
    with fake_provider() as found:
        yield found


def test_forged_tokens(tmp_path: Path, forger: FakeProvider) -> None:
    now = int(time.time())
    bad = [
        forger.token(OTHER_RSA_KEY),
        forger.token(OTHER_RSA_KEY, key_id="unknown"),
        forger.token(OTHER_RSA_KEY, header={"jku": f"{forger.authority}/mine"}),
        forger.token(exp=now - 400),
        forger.token(nbf=now + 400),
        forger.token(iss="https://other.example"),
        forger.token(aud="other"),
        forger.token(x="y" * 17_000),
        forger.token("a secret that is long enough for every check", "HS256"),
    ]
    with running(tmp_path / "data", environment=security(forger.authority)) as server, server.client() as client:
        for token in bad:
            answer = client.get("/v2/studies", headers=bearer(token))
            assert (answer.status_code, answer.content) == (401, b""), token
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert client.get("/v2/studies", headers=bearer(forger.token())).status_code == 204
        assert "/mine" not in forger.requests
        # None of them got as far as an action.
        assert [entry["ActionType"] for entry in audit_entries(server)] == ["Executing", "Executed"]


def test_keys_that_change_and_a_provider_that_goes_away(tmp_path: Path, changing_provider: OidcProvider) -> None:
    with (
        running(tmp_path / "data", environment=security(changing_provider.authority)) as server,
        server.client() as client,
    ):
        first = changing_provider.token("reader")
        assert client.get("/v2/studies", headers=bearer(first)).status_code == 204
        for how, algorithm in (("add", "ES256"), ("replace", "PS256")):
            changing_provider.rotate(how, algorithm)
            token = changing_provider.token("reader")
            deadline = time.monotonic() + 15
            while client.get("/v2/studies", headers=bearer(token)).status_code == 401:
                assert time.monotonic() < deadline, "the new key is looked for again after ten seconds"
                time.sleep(0.5)
            still = client.get("/v2/studies", headers=bearer(first)).status_code
            assert still == (204 if how == "add" else 401), how
        changing_provider.stop_answering()
        try:
            assert client.get("/v2/studies", headers=bearer(token)).status_code == 204
            assert client.get("/health/check").status_code == 200
        finally:
            changing_provider.answer_again()


def test_a_server_that_starts_while_the_provider_is_away(tmp_path: Path, changing_provider: OidcProvider) -> None:
    token = changing_provider.token("reader")
    changing_provider.stop_answering()
    try:
        with (
            running(tmp_path / "data", environment=security(changing_provider.authority)) as server,
            server.client() as client,
        ):
            assert client.get("/health/check").status_code == 200
            assert client.get("/v2/studies", headers=bearer(token)).status_code == 401
            changing_provider.answer_again()
            deadline = time.monotonic() + 15
            while client.get("/v2/studies", headers=bearer(token)).status_code == 401:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    finally:
        changing_provider.answer_again()


def test_several_audiences_replace_the_single_one(tmp_path: Path, provider: OidcProvider) -> None:
    environment = security(
        provider.authority,
        {f"{SECTION}Authentication__Audiences__0": "first", f"{SECTION}Authentication__Audiences__1": "second"},
    )
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        for audience, status in (("first", 204), ("second", 204), (AUDIENCE, 401)):
            answer = client.get("/v2/studies", headers=bearer(provider.token("reader", audience=audience)))
            assert answer.status_code == status, audience
        assert 'resource_id="first", realm="first"' in client.get("/v2/studies").headers["www-authenticate"]


def test_a_preflight_needs_no_token(tmp_path: Path, provider: OidcProvider) -> None:
    cors = {"DicomServer__Cors__Origins__0": "https://viewer.example", "DicomServer__Cors__Methods__0": "GET"}
    origin = {"origin": "https://viewer.example"}
    with (
        running(tmp_path / "data", environment=security(provider.authority, cors)) as server,
        server.client() as client,
    ):
        preflight = client.options("/v2/studies", headers={**origin, "access-control-request-method": "GET"})
        assert preflight.status_code == 204
        refused = client.get("/v2/studies", headers=origin)
        assert refused.status_code == 401
        # Without it the page could not even read that it needs a token.
        assert refused.headers["access-control-allow-origin"] == "https://viewer.example"


# --- authorization ---


def test_roles_on_dicomweb(api: httpx.Client, tokens: dict[str, dict[str, str]]) -> None:
    ds = factories.dataset()
    body, content = factories.multipart([factories.part10(ds)])
    content["accept"] = "application/dicom+json"
    study = dicomweb.study_path(ds)
    allowed = {
        "write": ("writer", "admin"),
        "read": ("reader", "several", "admin"),
        "delete": ("deleter", "several", "admin"),
    }
    for name, headers in tokens.items():
        stored = api.post("/v2/studies", content=body, headers={**content, **headers}).status_code
        assert (stored in (200, 409)) if name in allowed["write"] else stored == 403, name
        for path in (
            "/v2/studies",
            study,
            f"{study}/metadata",
            f"{dicomweb.instance_path(ds)}/frames/1",
            "/v2/changefeed",
        ):
            answer = api.get(path, headers=headers)
            assert (answer.status_code != 403) == (name in allowed["read"]), (name, path)
            if answer.status_code == 403:
                assert answer.text == "Authorization failed."
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    for name, headers in tokens.items():
        gone = api.delete(study, headers=headers).status_code
        assert (gone in (204, 404)) if name in allowed["delete"] else gone == 403, name
    assert api.get(study, headers=tokens["reader"]).status_code == 404


def test_roles_on_fhir(api: httpx.Client, tokens: dict[str, dict[str, str]]) -> None:
    patient = {"resourceType": "Patient", "id": "roles"}

    def status(name: str, method: str, path: str, content: object = None) -> int:
        answer = api.request(method, path, json=content, headers=tokens[name])
        if answer.status_code == 403:
            assert answer.json()["issue"][0]["code"] == "forbidden"
        return answer.status_code

    assert status("reader", "PUT", "/fhir/Patient/roles", patient) == 403
    assert status("writer", "PUT", "/fhir/Patient/roles", patient) == 201
    assert status("writer", "GET", "/fhir/Patient/roles") == 403
    assert status("reader", "GET", "/fhir/Patient/roles") == 200
    assert status("nobody", "GET", "/fhir/metadata") == 403
    assert status("reader", "DELETE", "/fhir/Patient/roles") == 403
    found = api.post("/fhir/Patient/_search", data={"_id": "roles"}, headers=tokens["reader"])
    assert found.json()["total"] == 1

    def bundle(*methods: str) -> dict[str, object]:
        requests = {
            "GET": {"request": {"method": "GET", "url": "Patient/roles"}},
            "PUT": {"request": {"method": "PUT", "url": "Patient/roles"}, "resource": patient},
            "DELETE": {"request": {"method": "DELETE", "url": "Patient/roles"}},
        }
        return {"resourceType": "Bundle", "type": "batch", "entry": [requests[method] for method in methods]}

    assert status("reader", "POST", "/fhir", bundle("GET")) == 200
    assert status("reader", "POST", "/fhir", bundle("GET", "PUT")) == 403
    assert status("writer", "POST", "/fhir", bundle("PUT")) == 200
    assert status("writer", "POST", "/fhir", bundle("PUT", "DELETE")) == 403
    assert status("several", "POST", "/fhir", bundle("GET", "DELETE")) == 200
    assert status("reader", "GET", "/fhir/Patient/roles") == 410


def test_roles_on_the_rest(api: httpx.Client, tokens: dict[str, dict[str, str]]) -> None:
    for path in ("/cast/status", "/cast/errors?table=FhirRetryExceptionTable", "/statistics", "/metrics"):
        assert api.get(path, headers=tokens["writer"]).status_code == 403
        answer = api.get(path, headers=tokens["reader"])
        assert answer.status_code in (200, 400), path
    for method, path in (("POST", "/cast/retry"), ("DELETE", "/cast/errors?table=TransientRetryExceptionTable")):
        assert api.request(method, path, headers=tokens["reader"]).status_code == 403
        assert api.request(method, path, headers=tokens["writer"]).status_code in (202, 204)


def test_partitions_need_more(tmp_path: Path, provider: OidcProvider) -> None:
    """Reading the partition first, or writing where it may be made (server.md §9)."""
    more = {"DicomServer__Features__EnableDataPartitions": "true", f"{SECTION}Authorization__RolesClaim": "role"}
    environment = security(provider.authority, more, roles=True)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "roles.json").write_text(ROLES)
    body, content = factories.multipart([factories.part10(factories.dataset())])
    content["accept"] = "application/dicom+json"
    with running(data_dir, environment=environment) as server, server.client() as client:
        token = {name: bearer(provider.token(name)) for name in ("reader", "writer", "deleter", "admin")}
        path = "/v2/partitions/new/studies"
        assert client.post(path, content=body, headers={**content, **token["reader"]}).status_code == 403
        assert [item["partitionName"] for item in client.get("/v2/partitions", headers=token["reader"]).json()] == [
            "Microsoft.Default"
        ]
        assert client.post(path, content=body, headers={**content, **token["writer"]}).status_code == 200
        assert client.delete(f"{path}/1.2", headers=token["deleter"]).status_code == 403
        assert client.delete(f"{path}/1.2", headers=token["admin"]).status_code == 404
        assert client.get("/v2/partitions/other/studies", headers=token["writer"]).status_code == 403
        assert client.get("/v2/partitions/b@d/studies", headers=token["writer"]).status_code == 400
        assert client.get(path, headers=token["writer"]).status_code == 403
        assert client.get(path, headers=token["reader"]).status_code == 200


def test_without_authorization_a_token_permits_everything(tmp_path: Path, provider: OidcProvider) -> None:
    with running(tmp_path / "data", environment=security(provider.authority)) as server, server.client() as client:
        nobody = bearer(provider.token("nobody"))
        assert client.delete("/v2/studies/1.2", headers=nobody).status_code == 404


def test_the_default_roles(tmp_path: Path, provider: OidcProvider) -> None:
    environment = security(provider.authority, roles=True)
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        assert client.delete("/v2/studies/1.2", headers=bearer(provider.token("reader"))).status_code == 403
        assert client.delete("/v2/studies/1.2", headers=bearer(provider.token("admin"))).status_code == 404


# --- audit ---


def test_two_entries_an_action(api: httpx.Client, guarded: Server, tokens: dict[str, dict[str, str]]) -> None:
    trace = "ab" * 16
    before = len(audit_entries(guarded))
    ds = factories.dataset()
    body, content = factories.multipart([factories.part10(ds)])
    content["accept"] = "application/dicom+json"
    instance = dicomweb.instance_path(ds)
    steps: list[tuple[str, str, str, int]] = [
        ("POST", "/v2/studies", "store", 200),
        ("POST", f"/v1/studies/{ds.StudyInstanceUID}", "store", 409),
        ("GET", "/v2/studies?PatientName=none&limit=1", "query", 204),
        ("GET", dicomweb.study_path(ds), "retrieve", 200),
        ("GET", f"{instance}/metadata", "retrieve-metadata", 200),
        ("GET", f"{instance}/frames/9", "retrieve", 404),
        ("GET", "/v2/changefeed/latest", "change-feed", 200),
        ("GET", "/v2/partitions", "partition", 400),
        ("GET", "/fhir/Patient/none", "fhir-read", 404),
        ("GET", "/fhir/Patient", "fhir-search", 200),
        ("GET", "/cast/status", "cast-status", 200),
        ("POST", "/cast/retry?study=1.2.3", "cast-retry", 202),
        ("DELETE", "/cast/errors?table=TransientRetryExceptionTable", "empty-cast-errors", 204),
        ("DELETE", dicomweb.study_path(ds), "delete", 204),
    ]
    for method, path, _, status in steps:
        headers = {**tokens["admin"], "traceparent": f"00-{trace}-{'1' * 16}-01", "X-Ms-AzureDicom-Audit-Site": "north"}
        if method == "POST":
            headers.update(content)
        answer = api.request(method, path, content=body if method == "POST" else None, headers=headers)
        assert answer.status_code == status, path
    for path in ("/health/check", "/v2/api.json", "/nothing"):
        api.get(path)
    api.get("/v2/studies")
    found = audit_entries(guarded)[before:]
    assert len(found) == 2 * len(steps)
    for (_, path, action, status), executing, executed in zip(steps, found[::2], found[1::2], strict=True):
        assert (executing["ActionType"], executed["ActionType"]) == ("Executing", "Executed")
        for entry in (executing, executed):
            assert entry["Action"] == action
            assert entry["RequestUri"] == f"{guarded.root}{path}"
            assert entry["EventType"] == "AuditEvent"
            assert entry["Audience"] == AUDIENCE
            assert entry["Authority"].startswith("http://127.0.0.1:")
            assert entry["Claims"] == "sub=admin"
            assert entry["CorrelationId"] == trace
            assert entry["CallerIpAddress"] == "127.0.0.1"
            assert entry["CustomHeaders"] == "x-ms-azuredicom-audit-site=north"
        assert "StatusCode" not in executing
        assert executed["StatusCode"] == status
    assert "eyJ" not in guarded.log(), "no token in any log"


def test_refusals_after_the_token_are_audited(
    api: httpx.Client, guarded: Server, tokens: dict[str, dict[str, str]]
) -> None:
    before = len(audit_entries(guarded))
    assert api.delete("/v2/studies/1.2", headers=tokens["reader"]).status_code == 403
    assert [entry.get("StatusCode") for entry in audit_entries(guarded)[before:]] == [None, 403]


def test_limits_of_audit_headers(client: httpx.Client) -> None:
    prefix = "x-ms-azuredicom-AUDIT-"
    assert client.get("/v2/studies", headers={f"{prefix}{n}": "v" * 2048 for n in range(10)}).status_code < 300
    for headers in ({f"{prefix}{n}": "v" for n in range(11)}, {f"{prefix}long": "v" * 2049}):
        answer = client.get("/v2/studies", headers=headers)
        assert answer.status_code == 400
        assert "audit" in answer.text


def test_another_prefix_and_no_entries(tmp_path: Path) -> None:
    environment = {"DicomServer__Audit__CustomAuditHeaderPrefix": "X-Site-"}
    with running(tmp_path / "one", environment=environment) as server, server.client() as client:
        client.get("/v2/studies", headers={"x-site-name": "north"})
        assert [entry["CustomHeaders"] for entry in audit_entries(server)] == ["x-site-name=north"] * 2
    with running(tmp_path / "two", environment={"Logging__LogLevel__AuditEvent": "None"}) as server:
        with server.client() as client:
            client.get("/v2/studies")
        assert audit_entries(server) == []


# --- start ---


def test_settings_that_could_not_protect(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    arguments = ("--data-dir", str(data_dir), "--port", str(free_port()))
    on = {f"{SECTION}Enabled": "true"}
    authority = f"{SECTION}Authentication__Authority"
    assert "Authentication:Authority" in serve_fails(*arguments, environment=on)
    assert "https" in serve_fails(*arguments, environment={**on, authority: "http://login.example"})
    assert "https" in serve_fails(*arguments, environment={**on, authority: "login.example"})
    empty = {"DicomServer__Audit__CustomAuditHeaderPrefix": ""}
    assert "CustomAuditHeaderPrefix" in serve_fails(*arguments, environment=empty)
    data_dir.mkdir(exist_ok=True)
    (data_dir / "roles.json").write_text(ROLES.replace("globalWriter", "globalreader"))
    with_roles = {**on, authority: "https://login.example", f"{SECTION}Authorization__Enabled": "true"}
    with_roles[f"{SECTION}Authentication__Audience"] = AUDIENCE
    assert "globalreader" in serve_fails(*arguments, environment=with_roles)


def test_with_tokens_the_network_may_reach_it(tmp_path: Path, provider: OidcProvider) -> None:
    with (
        running(tmp_path / "data", "--host", "0.0.0.0", environment=security(provider.authority)) as server,
        server.client() as client,
    ):
        assert client.get("/v2/studies").status_code == 401
