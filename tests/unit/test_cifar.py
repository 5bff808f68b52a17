"""torchvision's folder and its download, from an archive made here and served from this machine."""

import hashlib
import io
import pickle
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision

from trainables.data import DATASETS, open_dataset, register_dataset
from trainables.data.cifar import Cifar

pytestmark = pytest.mark.usefixtures("own_cache", "registries")

NAME, BASE = "tiny-cifar", "cifar-10-batches-py"
PER_BATCH = 4


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def batches() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": data, "labels": rng.integers(0, 10, PER_BATCH).tolist()})
    return files | {"batches.meta": pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})}


FILES = batches()


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in FILES.items():
            entry = tarfile.TarInfo(f"{BASE}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


ARCHIVE = archive()


@dataclass
class Server:
    """What the server on the loopback hands out, and how often it was asked."""

    url: str = ""
    body: bytes = ARCHIVE
    gets: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()

        def do_GET(self) -> None:
            state.gets.append(self.path)
            self.do_HEAD()
            self.wfile.write(state.body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/tiny.tar.gz"
        yield state
        http.shutdown()
        thread.join()


def register(url: str) -> Cifar:
    """Register a data set that torchvision reads as it reads CIFAR-10, from another address."""
    tiny = type(
        "Tiny",
        (torchvision.datasets.CIFAR10,),
        {
            "base_folder": BASE,
            "url": url,
            "filename": "tiny.tar.gz",
            "tgz_md5": md5(ARCHIVE),
            "train_list": [[f"data_batch_{i}", md5(FILES[f"data_batch_{i}"])] for i in range(1, 6)],
            "test_list": [["test_batch", md5(FILES["test_batch"])]],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5(FILES["batches.meta"])},
        },
    )
    source = Cifar(NAME, 10, "label", lambda: tiny)
    register_dataset(source)
    assert DATASETS[NAME] is source
    return source


def closed_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/tiny.tar.gz"


def unpack(root: Path) -> Path:
    (root / BASE).mkdir(parents=True)
    for name, data in FILES.items():
        (root / BASE / name).write_bytes(data)
    return root


def is_the_tiny_one(location: str | None) -> None:
    data = open_dataset(NAME, location)
    train = [pickle.loads(FILES[f"data_batch_{i}"]) for i in range(1, 6)]
    test = pickle.loads(FILES["test_batch"])
    assert np.array_equal(data.train.images, np.concatenate([b["data"] for b in train]).reshape(-1, 3, 32, 32))
    assert data.train.labels.tolist() == [label for batch in train for label in batch["labels"]]
    assert np.array_equal(data.test.images, test["data"].reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == test["labels"]


def test_torchvision_s_folder_is_read(tmp_path: Path) -> None:
    register(closed_url())
    is_the_tiny_one(str(unpack(tmp_path / "data")))


def test_torchvision_s_folder_is_read_by_uri(tmp_path: Path) -> None:
    register(closed_url())
    is_the_tiny_one(f"file://{unpack(tmp_path / 'data')}")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    register(closed_url())
    root = unpack(tmp_path / "data")
    file = root / BASE / name
    match damage:
        case "truncated":
            file.write_bytes(FILES[name][:-100])
        case "altered":
            file.write_bytes(FILES[name][:-200] + bytes(200))
        case "missing":
            file.unlink()
    message = f"The files of {root / BASE} must be whole and have the checksums that torchvision knows"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*Unpack the archive again"):
        open_dataset(NAME, str(root))


def test_the_download_is_made_once(server: Server, own_cache: Path) -> None:
    register(server.url)
    is_the_tiny_one(None)
    assert server.gets
    server.gets.clear()
    is_the_tiny_one(None)
    assert not server.gets
    assert (own_cache / "downloads" / BASE / "test_batch").is_file()


def test_what_was_downloaded_needs_no_server_afterwards(server: Server) -> None:
    source = register(server.url)
    first = open_dataset(NAME).checksum
    server.body = b"gone"
    source._torchvision_class.url = closed_url()
    assert open_dataset(NAME, train_size=5).checksum == first


def refused_download(url: str, reason: str = "") -> None:
    expected = (
        f"{NAME} must come from one of three places: --data PATH, the variable SWEEP_DATA, or a download from {url}, "
        f"which failed here ("
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}.*{reason}.*{NAME}/{{train,test}}-.*{BASE}") as caught:
        open_dataset(NAME)
    assert "\n" not in str(caught.value)


def test_without_network_one_error_names_the_three_places() -> None:
    url = closed_url()
    register(url)
    refused_download(url, "Connection refused")


@pytest.mark.parametrize("body", [ARCHIVE[:-50], bytes(500), b""], ids=["truncated", "altered", "empty"])
def test_a_damaged_download_is_refused_and_a_later_one_heals_it(server: Server, own_cache: Path, body: bytes) -> None:
    register(server.url)
    server.body = body
    refused_download(server.url)
    assert not list(own_cache.glob(f"{NAME}-*/"))
    server.body = ARCHIVE
    is_the_tiny_one(None)
