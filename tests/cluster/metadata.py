"""EC2's metadata service, as much of it as spot instances need: IMDSv2's tokens and the notice. No other module here.

`python metadata.py FILE ADDRESS PORT` gives notice once FILE is there, with its text.
"""

import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN_PATH = "/latest/api/token"  # noqa: S105
NOTICE_PATH = "/latest/meta-data/spot/instance-action"
LONGEST_S = 21_600
"""The longest life of a token."""

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


class Ec2:
    """The service as it is documented: nothing without a token, and 404 while there is no notice."""

    def __init__(self, notice: Callable[[], str | None]) -> None:
        self._notice = notice
        self.valid = ""
        """The token that is taken."""
        self.given = 0
        """Number of tokens that were asked for."""

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        if method == "PUT" and path == TOKEN_PATH:
            life = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not life.isdecimal() or not 1 <= int(life) <= LONGEST_S:
                return 400, b"", {}
            self.given += 1
            self.valid = secrets.token_urlsafe(40) + "=="
            return 200, self.valid.encode(), {}
        if not self.valid or headers.get("x-aws-ec2-metadata-token") != self.valid:
            return 401, b"", {}
        notice = self._notice() if (method, path) == ("GET", NOTICE_PATH) else None
        return (404, b"<html>404 - Not Found</html>", {}) if notice is None else (200, notice.encode(), {})


def handler(answer: Callable[[str, str, dict[str, str]], Answer | None]) -> type[BaseHTTPRequestHandler]:
    """Return a handler of requests that asks `answer`; None hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = answer(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            if given is None:
                return
            status, body, headers = given
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET  # noqa: N815 - the library's name

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(answer: Callable[[str, str, dict[str, str]], Answer | None]) -> Iterator[str]:
    """Serve `answer`, which takes a method, a path and headers and returns None to hang up; yield HOST:PORT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(answer))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    service = Ec2(lambda: file.read_text() if file.is_file() else None)
    ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), handler(service)).serve_forever()
