"""An S3 store on loopback that fails now and then, as the real ones do."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "sweeps"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@final
class Faulty:
    """Answers in the place of an application, for a share of the requests, that it cannot."""

    def __init__(self, application: Any, share: float, seed: int) -> None:
        self._application, self._share = application, share
        self._draws, self._lock = random.Random(seed), threading.Lock()
        self.requests = self.failed = self.slow = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self.requests += 1
            fails, is_slow = self._draws.random() < self._share, self._draws.random() < self._share
            status = self._draws.choice(["503 Slow Down", "500 Internal Server Error"])
            self.failed += fails
            self.slow += is_slow
            # Half of them after the work is done: the answer is what gets lost.
            is_done = self._draws.random() < 0.5
        if is_slow:
            time.sleep(0.2)
        if not fails:
            return self._application(environ, start_response)  # type: ignore[no-any-return]
        if is_done:
            b"".join(self._application(environ, lambda *_: lambda _: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))])
        return [SLOW_DOWN]


@contextmanager
def object_store(*, share: float, seed: int) -> Iterator[tuple[str, Faulty]]:
    """Run the store, with an empty bucket, and return the URI of a folder in it.

    Args:
        share: of the requests that fail; as many again are slow.
        seed: draws which.
    """
    faulty = Faulty(DomainDispatcherApplication(create_backend_app), 0.0, seed)
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        where = f"127.0.0.1:{server.server_port}"
        boto3.client(
            "s3",
            endpoint_url=f"http://{where}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="y",  # noqa: S106 - anyone may
        ).create_bucket(Bucket=BUCKET)
        faulty._share = share
        yield f"s3://{BUCKET}/runs?endpoint_override={where}&scheme=http&region=us-east-1", faulty
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
