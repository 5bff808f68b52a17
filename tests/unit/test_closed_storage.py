"""Storage that takes no credentials of ours, for runs and for data."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sweep.run import main
from tests.refusals import TINY, refused

pytestmark = pytest.mark.usefixtures("no_ray")


class NoCredentials(BaseHTTPRequestHandler):
    """Answers as S3 does those who may not."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - the base class's names

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def closed_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the query of URIs of a store on this machine that takes no credentials of ours."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with ThreadingHTTPServer(("127.0.0.1", 0), NoCredentials) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"?scheme=http&endpoint_override=127.0.0.1:{server.server_port}&region=us-east-1"
        server.shutdown()
        thread.join()


CREDENTIALS = (
    "; this takes credentials: set the store's own variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on "
    "every node, or give the machines an instance profile)."
)


def test_a_store_without_credentials_is_refused(closed_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", *TINY, "--output", f"s3://bucket/runs{closed_store}", "--name", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: A run's location must be one that can be read, got 's3://bucket/runs/x{closed_store}"
    )
    assert said.endswith(f"{CREDENTIALS}\n")
    assert said.count("\n") == 1


def test_data_without_credentials_are_refused(
    closed_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(tmp_path, capsys, "cifar10", *TINY, "--data", f"s3://bucket/images{closed_store}")
    assert said.startswith("error: The data location must hold folders that can be read, got ")
    assert said.endswith(f"{CREDENTIALS}\n")
