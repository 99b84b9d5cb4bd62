"""Downloads are checked, resumed and never half-kept. Everything against a server on this machine."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from simserve.errors import TraceError
from simserve.workload.fetch import PUBLISHED, RemoteFile, fetch_trace

CONTENT = bytes(range(256)) * 8000


class Server:
    """Serves CONTENT with ranges; `cut_after` makes it hang up early, `honour_ranges` may be switched off."""

    def __init__(self) -> None:
        self.cut_after: int | None = None
        self.honour_ranges = True
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                first = int(re.match(r"bytes=(\d+)-", asked).group(1)) if asked and outer.honour_ranges else 0
                if first >= len(CONTENT):
                    self.send_error(416)
                    return
                body = CONTENT[first:]
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if outer.cut_after is None else body[: outer.cut_after])

            def log_message(self, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()


@pytest.fixture
def server() -> Iterator[Server]:
    s = Server()
    yield s
    s.http.shutdown()
    s.thread.join()
    s.http.server_close()


def file(sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> tuple[RemoteFile, ...]:
    return (RemoteFile("http://127.0.0.1:9/publisher/t.csv", "t.csv", sha256),)


def test_a_whole_download_with_progress(server, tmp_path):
    seen = []
    (path,) = fetch_trace("x", tmp_path / "new", mirror=server.url, files=file(), progress=lambda *a: seen.append(a))
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["t.csv"]
    assert seen[-1] == ("t.csv", len(CONTENT), len(CONTENT)) and len(seen) > 3
    fetch_trace("x", tmp_path / "new", mirror=server.url, files=file())
    assert len(server.ranges) == 1  # the file is there and right: nothing is asked again


def test_an_interrupted_download_resumes_where_it_stopped(server, tmp_path):
    server.cut_after = 700_000
    with pytest.raises(TraceError, match="bytes are kept, run the same command again"):
        fetch_trace("x", tmp_path, mirror=server.url, files=file())
    assert not (tmp_path / "t.csv").exists()
    kept = (tmp_path / "t.csv.part").stat().st_size
    assert 0 < kept <= 700_000
    server.cut_after = None
    (path,) = fetch_trace("x", tmp_path, mirror=server.url, files=file())
    assert server.ranges == [None, f"bytes={kept}-"] and path.read_bytes() == CONTENT
    assert not (tmp_path / "t.csv.part").exists()


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    (tmp_path / "t.csv.part").write_bytes(b"old")
    server.honour_ranges = False
    (path,) = fetch_trace("x", tmp_path, mirror=server.url, files=file())
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    (tmp_path / "t.csv.part").write_bytes(CONTENT)
    (path,) = fetch_trace("x", tmp_path, mirror=server.url, files=file())
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [None, b"not the beginning of this file"])
def test_a_wrong_hash_leaves_nothing(server, tmp_path, stale):
    if stale:
        (tmp_path / "t.csv.part").write_bytes(stale)
    with pytest.raises(TraceError, match="sha256 is not the pinned"):
        fetch_trace("x", tmp_path, mirror=server.url, files=file() if stale else file("0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_different_file_in_place_is_not_touched(server, tmp_path):
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(TraceError, match="move it away"):
        fetch_trace("x", tmp_path, mirror=server.url, files=file())
    assert (tmp_path / "t.csv").read_text() == "mine"


def test_no_server_and_no_such_trace(tmp_path):
    with pytest.raises(TraceError, match="download failed"):
        fetch_trace("x", tmp_path, files=file())
    with pytest.raises(TraceError, match="did you mean 'mooncake'"):
        fetch_trace("moncake", tmp_path)


def test_pinned_files_are_public_https_with_a_sha256():
    assert set(PUBLISHED) == {"burstgpt", "azure", "mooncake"}
    for files in PUBLISHED.values():
        for f in files:
            assert re.fullmatch(r"https://(github|raw\.githubusercontent)\.com/\S+", f.url) and f.url.endswith(f.name)
            assert re.fullmatch(r"[0-9a-f]{64}", f.sha256)
