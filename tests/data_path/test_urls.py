"""Files behind http and s3: the same rows as on disk, whatever the suffix."""

from __future__ import annotations

import functools
import gzip
import json
import logging
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from nlpkit.cli.main import main
from nlpkit.contracts import Row
from nlpkit.data.opening import path_of
from nlpkit.errors import DataError
from nlpkit.run.evaluate import evaluate
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import READERS, Files, reader
from tests.bundle.bundles import ROWS, make_run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("aiohttp")

PACKED = [".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz"]
KINDS = [*(suffix for suffix in READERS if suffix not in (".conll", ".bio", ".txt")), *PACKED]
SIGNED = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=3.f"
CONFIG = "name: x\nmodel: {{name: transformer, layers: 1, hidden: 16, heads: 2}}\ndevice: cpu\n"
CONFIG += "data: {{train: '{url}', validation: 0.3}}\ntrain: {{max_steps: 1}}\nobservers: []\n"


def write(folder: Path) -> None:
    """The same rows as files of all kinds, `rows.csv` and so on."""
    rows = ROWS * 5
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        lines = [delimiter.join(row.values()) for row in rows]
        (folder / f"rows{suffix}").write_text("\n".join([f"text{delimiter}label", *lines]))
    for suffix in (".jsonl", ".ndjson"):
        (folder / f"rows{suffix}").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
    book = openpyxl.Workbook()
    for row in [["text", "label"], *(list(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(folder / "rows.xlsx")
    for suffix in PACKED:
        content = (folder / f"rows{suffix}").with_suffix("").read_bytes()
        (folder / f"rows{suffix}").write_bytes(gzip.compress(content))
    (folder / "rows.txt").write_text("".join(row["text"] + "\n" for row in rows))


class Served(SimpleHTTPRequestHandler):
    """Files, in one piece; no signed address without the signature, and one that breaks off."""

    def do_GET(self) -> None:
        if "signed" in self.path and not self.path.endswith(SIGNED):
            self.send_error(403)
        elif "broken" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"text,label\nx,y\n")
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has the files."""
    folder = tmp_path_factory.mktemp("web")
    write(folder)
    (folder / "signed.csv.gz").write_bytes((folder / "rows.csv.gz").read_bytes())
    handler = functools.partial(Served, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def values(location: str) -> list[Any]:
    return [row.values for row in Files(FilesConfig()).rows(location) if isinstance(row, Row)]


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_of_file_is_read_over_http(web: str, suffix: str) -> None:
    url = f"{web}/rows{suffix}"
    assert values(url) == ROWS * 5
    first = next(iter(Files(FilesConfig()).rows(url)))
    assert first.address.startswith(f"{url}:")


def test_a_signed_address_takes_its_suffix_from_its_path(web: str) -> None:
    url = f"{web}/signed.csv.gz{SIGNED}"
    assert values(url) == ROWS * 5
    source = Files(FilesConfig())
    assert source.fingerprint(url) == source.fingerprint(f"{web}/rows.csv.gz")


def test_a_signed_address_is_one_in_whatever_letters_and_caches(web: str) -> None:
    for url in (web.replace("http", "HTTP"), f"simplecache::{web}"):
        assert values(f"{url}/signed.csv.gz{SIGNED}") == ROWS * 5


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("HTTPS://a/r.csv.gz?sig=x.y#z", "HTTPS://a/r.csv.gz"),
        ("simplecache::http://a/r.csv#z", "simplecache::http://a/r.csv"),
        ("abfs://c/r#1.csv?sig=x.y", "abfs://c/r#1.csv"),
        ("what?/r.csv", "what?/r.csv"),
    ],
)
def test_what_follows_the_path_of_a_url_is_no_part_of_it(location: str, path: str) -> None:
    assert path_of(location) == path


def test_a_signature_is_no_suffix(tmp_path: Path) -> None:
    (tmp_path / "r.doc?sig=secret").touch()
    for location in ("abfs://c/r.doc?sig=secret", str(tmp_path / "r.doc?sig=secret")):
        with pytest.raises(DataError, match=r'has the suffix "\.doc…?", which names') as raised:
            reader(location)
        assert "secret" not in raised.value.problem


@pytest.mark.parametrize("location", ["s3://b/folder/", "https://h/download?id=5"])
def test_what_no_suffix_says_how_to_read_is_to_be_downloaded(location: str) -> None:
    with pytest.raises(DataError, match="download a folder, or what has a link without suffix"):
        reader(location)


def test_a_pattern_is_no_name(web: str, tmp_path: Path) -> None:
    for place in (web, str(tmp_path)):
        with pytest.raises(DataError, match=r"no such file.*\* stands for itself: name one"):
            list(Files(FilesConfig()).rows(f"{place}/part-*.csv"))


def test_what_a_server_does_not_give_is_named(web: str) -> None:
    source = Files(FilesConfig())
    for query in ("", SIGNED):
        with pytest.raises(DataError, match=r"nothing.csv[?*…]*: there is no such file$"):
            source.fingerprint(f"{web}/nothing.csv{query}")
    with pytest.raises(DataError, match=r"signed.csv.gz: cannot be read \(403 Forbidden\)$"):
        source.fingerprint(f"{web}/signed.csv.gz")
    with pytest.raises(DataError, match=r"broken.csv: cannot be read \(.*payload is not compl"):
        source.fingerprint(f"{web}/broken.csv")


def test_a_host_that_cannot_be_reached_is_no_missing_file() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        url = f"http://127.0.0.1:{server.server_port}/a.csv"
    for query in ("", SIGNED):
        with pytest.raises(DataError, match=r"^http://127.* cannot be reached .*127.0.0.1'"):
            Files(FilesConfig()).fingerprint(f"{url}{query}")


def check_commands(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """check, evaluate and predict, on a location without its suffix."""
    monkeypatch.chdir(folder)
    run = make_run(folder / "run")
    Path("c.yaml").write_text(CONFIG.format(url=f"{url}.csv.gz"))
    assert main(["check", "c.yaml"]) == 0
    assert 0 <= evaluate(run, f"{url}.tsv")["accuracy"] <= 1
    for suffix in (".jsonl", ".txt"):
        arguments = ["--input", f"{url}{suffix}", "--output", "out.jsonl"]
        assert main(["predict", str(run), *arguments]) == 0
        lines = map(json.loads, Path("out.jsonl").read_text().splitlines())
        assert [line["text"] for line in lines] == [row["text"] for row in ROWS] * 5


def test_commands_read_over_http(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_commands(f"{web}/rows", tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_run_trains_on_a_signed_address(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG.format(url=f"{web}/signed.csv.gz{SIGNED}"))
    assert main(["train", "c.yaml", "--out", "run"]) == 0


@pytest.mark.slow
def test_everything_is_read_from_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()  # it remembers another endpoint
        client = boto3.client("s3")
        client.create_bucket(Bucket="texts")
        write(tmp_path)
        for path in tmp_path.glob("rows.*"):
            client.upload_file(str(path), "texts", path.name)
        client.close()
        for suffix in KINDS:
            assert values(f"s3://texts/rows{suffix}") == ROWS * 5
        check_commands("s3://texts/rows", tmp_path, monkeypatch)
        assert main(["train", "c.yaml", "--out", "trained"]) == 0
        with pytest.raises(DataError, match=r"^s3://texts/no.csv: there is no such file"):
            values("s3://texts/no.csv")
    finally:
        server.stop()
