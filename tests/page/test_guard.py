"""Another site, open in the same browser, must not get an answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

import ndrnn.app.page.site
from ndrnn.app.page.guard import Guard, is_local, names_of

STATIC = Path(ndrnn.app.page.site.__file__).parent / "static"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:8765", True),
        ("localhost:8765", True),
        ("LOCALHOST", True),
        ("localhost:9000", True),  # through a tunnel
        ("[::1]:8765", True),
        ("127.8.8.8", True),
        ("evil.example", False),
        ("evil.example:8765", False),
        ("localhost.evil.example", False),
        ("192.168.0.7:8765", False),
        ("[::2]:8765", False),
        ("", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_only_names_of_this_machine_are_answered(client, host, answered):
    for path in ("/", "/api/models", "/static/main.js"):
        found = client.get(path, headers={"host": host})
        assert found.status_code == (200 if answered else 403)
        assert answered or "models" not in found.json()


def test_an_address_for_others_is_answered_by_number_and_by_its_own_names():
    guard = Guard(None, names_of("0.0.0.0"), is_local("0.0.0.0"))
    assert guard._is_ours("192.168.0.7:8765")
    assert guard._is_ours("[fe80::1]:8765")
    assert guard._is_ours("localhost:8765")
    assert not guard._is_ours("evil.example:8765")
    assert Guard(None, names_of("box.lan"), False)._is_ours("Box.lan:80")
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "box.lan")] == [
        *[True] * 3,
        *[False] * 3,
    ]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8765", "http://127.0.0.1:80"]
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/models"), ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x")]
)
def test_other_origins_are_refused(client, method, path, origin):
    found = client.request(method, path, headers={"origin": origin})
    assert found.status_code == 403
    assert found.json() == {"error": f"requests from {origin} are not answered"}
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_the_own_origin_is_answered(client):
    assert client.get("/api/models", headers={"origin": "http://127.0.0.1:8765"}).status_code == 200


def test_what_a_foreign_page_includes_is_refused_and_a_link_is_not(client):
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site}
        assert client.get("/api/models", headers=headers).status_code == 403
        assert client.get("/static/main.js", headers=headers).status_code == 403
        assert client.get("/", headers=headers).status_code == 200


def test_a_form_cannot_change_anything(client):
    """A form of another site can be sent without a question before, but not with a header of ours."""
    del client.headers["x-ndrnn"]
    for method, path in (("POST", "/api/pictures"), ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x")):
        found = client.request(method, path, content=b"x", headers={"content-type": "text/plain"})
        assert found.status_code == 403
        assert "x-ndrnn" in found.json()["error"]
    asked = client.options("/api/jobs", headers={"access-control-request-method": "POST"})
    assert asked.status_code in (403, 405)
    assert "access-control-allow-origin" not in asked.headers
    assert not list(client.site.pictures.folder.iterdir())


def test_every_answer_keeps_the_page_by_itself(client):
    for path in ("/", "/static/page.css", "/api/models", "/nothing", "/api/jobs/none"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_the_page_asks_nobody_else():
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".css", ".js", ".svg"}
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path
        assert "innerHTML" not in text, path


def test_every_file_that_the_page_names_is_there(client):
    named = set(re.findall(r'(?:src|href)="([^"]+)"', (STATIC / "index.html").read_text()))
    for script in STATIC.glob("*.js"):
        named |= {f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert len(named) > 5
    for path in named:
        assert client.get(path).status_code == 200, path
    assert client.get("/static/../site.py").status_code in (403, 404)
    assert client.get("/static/%2e%2e/site.py").status_code == 404
