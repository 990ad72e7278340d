"""Images by address: which hosts may be asked, and every way in which a transfer fails."""

from __future__ import annotations

import gzip
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mnergraph
from mnergraph.inference import image_urls
from mnergraph.inference.image_urls import ImageURLError, fetch_image, is_public, is_url
from mnergraph.models import UMGF

BODY = b"x" * 1000
RESOLVE = socket.getaddrinfo


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path; see the tests."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requests.append((self.path, self.headers["Host"]))
        name, _, rest = self.path[1:].partition("/")
        self.close_connection = True
        getattr(self, name)(rest)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def image(self, rest: str) -> None:
        self.answer(200, BODY)

    def to(self, rest: str) -> None:
        """A redirect to the rest of the path, percent-encoded."""
        self.answer(302, b"", Location=bytes.fromhex(rest).decode())

    def loop(self, rest: str) -> None:
        self.answer(301, b"", Location=f"/loop/{int(rest or 0) + 1}")

    def hops(self, rest: str) -> None:
        self.answer(307, b"", Location=f"/hops/{int(rest) - 1}" if int(rest) > 1 else "/image")

    def nowhere(self, rest: str) -> None:
        self.answer(302, b"")

    def status(self, rest: str) -> None:
        self.answer(int(rest), b"no")

    def short(self, rest: str) -> None:
        self.answer(200, BODY[:300], Content_Length="1000")

    def without_length(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BODY)

    def chunked(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3e8\r\n" + (BODY if rest == "whole" else BODY[:200]))
        if rest == "whole":
            self.wfile.write(b"\r\n0\r\n\r\n")

    def large(self, rest: str) -> None:
        self.answer(200, b"", Content_Length=str(10**12))

    def endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(BODY * 100)
        except OSError:
            return

    def packed(self, rest: str) -> None:
        self.answer(200, gzip.compress(BODY), Content_Encoding="gzip")

    def garbage(self, rest: str) -> None:
        self.wfile.write(b"this is no answer\r\n\r\n")

    def nothing(self, rest: str) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def drip(self, rest: str) -> None:
        """A byte every twentieth of a second: of the header, or of the body."""
        header = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
        self.wfile.write(header + (b"\r\n" if rest == "body" else b"X-Slow: "))
        try:
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            return

    def stall(self, rest: str) -> None:
        time.sleep(3)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a local server, without a slash."""
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    Handler.requests.clear()
    threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()
        served.server_close()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``resolve(host=[addresses, ...])``: what names stand for, one after another; returns the names looked up."""
    looked_up: list[str] = []

    def names(**hosts: list[list[str]]) -> list[str]:
        def look_up(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
            looked_up.append(host)
            if host not in hosts:
                return RESOLVE(host, port, *args, **options)
            answers = hosts[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [entry for address in addresses for entry in RESOLVE(address, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return looked_up

    return names


def local(url: str) -> bytes:
    return fetch_image(url, allow_private_addresses=True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("93.184.216.34", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("2606:4700::1111", True),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("2001::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:7f00:1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("2002:808:808::1", True),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_what_is_an_address() -> None:
    assert is_url("http://x/1.png")
    assert is_url("HTTPS://x/1.png")
    assert not any(map(is_url, ("1.png", "file:///etc/passwd", "http:1.png", "ftp://x/1.png", b"http://x", None)))


@pytest.mark.parametrize(
    "path", ["image", "hops/5", "without_length", "chunked/whole", "image/%C3%A9?a=b&c", "image/é ü"]
)
def test_an_image_is_fetched(path: str, server: str) -> None:
    assert local(f"{server}/{path}") == BODY


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("hops/6", "more than 5 redirects"),
        ("loop", "more than 5 redirects"),
        ("nowhere", "status 302 without an address to go to"),
        ("status/404", "status 404 Not Found"),
        ("status/500", "status 500 Internal Server Error"),
        ("status/204", "status 204 No Content"),
        ("short", "the body ends after 300 of 1,000 bytes"),
        ("chunked/cut", "the body ends before it is complete"),
        ("large", "the image has 1,000,000,000,000 bytes, more than 100,000"),
        ("endless", "the image has more than 100,000 bytes"),
        ("packed", "the body is in 'gzip', which was not asked for"),
        ("garbage", "127.0.0.1: this is no answer"),
        ("nothing", "Remote end closed connection without response"),
        ("to/" + b"file:///etc/passwd".hex(), "'file:///etc/passwd' is neither http nor https"),
        ("to/" + b"ftp://127.0.0.1/x".hex(), "'ftp://127.0.0.1/x' is neither http nor https"),
        ("to/" + b"http://:80/".hex(), "'http://:80/' names no host"),
        ("to/" + b"http://[::1".hex(), "is no address: Invalid IPv6 URL"),
        ("to/" + b"http://a:b@127.0.0.1/".hex(), "it holds a user's name, and none is sent"),
        ("to/" + b"http://127.0.0.1:1/".hex(), "127.0.0.1: Connection refused"),
    ],
)
def test_every_fault_is_one_error(path: str, reason: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "MAX_BYTES", 100_000)
    with pytest.raises(ImageURLError) as caught:
        local(f"{server}/{path}")
    assert str(caught.value).startswith(f"'{server}/{path}' can't be fetched: ")
    assert str(caught.value).endswith(reason)


@pytest.mark.parametrize("path", ["drip/header", "drip/body", "stall"])
def test_one_deadline_for_the_whole_transfer(path: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "TIMEOUT", 0.4)
    begin = time.monotonic()
    with pytest.raises(ImageURLError, match=r"is not there within 0\.4 seconds"):
        local(f"{server}/{path}")
    assert time.monotonic() - begin < 2
    for thread in threading.enumerate():
        if thread.name.startswith("mnergraph-image"):
            thread.join(2)
            assert not thread.is_alive(), "the thread ends with the transfer"


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(image_urls, "TIMEOUT", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: done.wait(10) and [])
    with pytest.raises(ImageURLError, match=r"is not there within 0\.2 seconds"):
        fetch_image("http://images.example/1.png")
    done.set()


#: Forms of 127.0.0.1 and other addresses of the own machine and network.
PRIVATE = (
    "127.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.1",
    "127.1",
    "0",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fe80::1]",
    "169.254.169.254",
    "10.0.0.1",
    "192.168.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "\uff11\uff12\uff17.0.0.1",
)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused(host: str, server: str) -> None:
    port = server.rpartition(":")[2]
    with pytest.raises(ImageURLError, match=r"which is no public address; allow_private_addresses=True allows it"):
        fetch_image(f"http://{host}:{port}/image")
    assert Handler.requests == []


@pytest.mark.parametrize("host", [host for host in PRIVATE if host.isascii()])
def test_redirects_to_private_addresses_are_refused(
    host: str, server: str, resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a host that is public, as far as its address says."""
    port = server.rpartition(":")[2]
    connect(monkeypatch, int(port))
    resolve(**{"images.example": [["93.184.216.34"]]})
    path = f"to/{f'http://{host}:{port}/image'.encode().hex()}"
    with pytest.raises(
        ImageURLError, match=r"images\.example.* can't be fetched: .* is .*, which is no public address"
    ):
        fetch_image(f"http://images.example:{port}/{path}")
    assert [path for path, _ in Handler.requests] == [f"/{path}"]


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> list[str]:
    """Let every connection go to the local server; returns the addresses that were asked for."""
    asked: list[str] = []
    real = socket.create_connection

    def create_connection(address: tuple[str, int], **options: Any) -> socket.socket:
        asked.append(address[0])
        return real(("127.0.0.1", port), **options)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return asked


def test_a_name_of_a_private_address(server: str, resolve: Callable[..., list[str]]) -> None:
    port = server.rpartition(":")[2]
    resolve(**{"images.example": [["127.0.0.1"]], "both.example": [["93.184.216.34", "127.0.0.1"]]})
    for host in ("images.example", "both.example"):
        with pytest.raises(ImageURLError, match=rf"{host} is 127\.0\.0\.1, which is no public address"):
            fetch_image(f"http://{host}:{port}/image")
    assert Handler.requests == []
    assert local(f"http://images.example:{port}/image") == BODY
    assert Handler.requests == [("/image", f"images.example:{port}")]


def test_a_name_is_looked_up_once(
    server: str, resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stands for a private address when it is looked up again (DNS rebinding)."""
    port = int(server.rpartition(":")[2])
    asked = connect(monkeypatch, port)
    looked_up = resolve(**{"images.example": [["93.184.216.34"], ["127.0.0.1"]]})
    assert fetch_image(f"http://images.example:{port}/image") == BODY
    assert looked_up.count("images.example") == 1
    assert asked == ["93.184.216.34"]
    # the next connection is to what the name stands for by then
    with pytest.raises(ImageURLError, match=r"images\.example is 127\.0\.0\.1"):
        fetch_image(f"http://images.example:{port}/image")


def test_rebinding_between_redirects(
    server: str, resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.rpartition(":")[2])
    asked = connect(monkeypatch, port)
    resolve(**{"images.example": [["93.184.216.34"], ["10.0.0.1"]]})
    with pytest.raises(ImageURLError, match=r"images\.example is 10\.0\.0\.1, which is no public address"):
        fetch_image(f"http://images.example:{port}/hops/1")
    assert asked == ["93.184.216.34"]


def test_the_next_address_of_a_host(server: str, resolve: Callable[..., list[str]]) -> None:
    port = server.rpartition(":")[2]
    resolve(**{"images.example": [["::1", "127.0.0.1"]]})
    assert local(f"http://images.example:{port}/image") == BODY


def test_proxies_of_the_environment_are_not_used(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert local(f"{server}/image") == BODY


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid/1.png", "http://a..b/1.png", f"http://{'a' * 300}.example/", "http://é..x/"]
)
def test_a_name_that_is_none(url: str) -> None:
    with pytest.raises(ImageURLError, match=r"there is no host|is no name of a host"):
        fetch_image(url)


@pytest.mark.parametrize(
    "url", ["http://x:99999/", "http://x:0/", "http://a b/", "http://x\n.example/", "http:///1.png"]
)
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(ImageURLError, match="can't be fetched") as caught:
        fetch_image(url)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl, which makes a certificate")
def test_certificates(tmp_path: Path, resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.example"
    names = ["-addext", "subjectAltName=DNS:images.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        [*command.split(), *names], check=True, capture_output=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    served.socket = context.wrap_socket(served.socket, server_side=True)
    threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
    Handler.requests.clear()
    resolve(**{host: [["127.0.0.1"]] for host in ("images.example", "other.example")})
    try:
        with pytest.raises(ImageURLError, match=r"the certificate of images\.example is not valid: self"):
            local(f"https://images.example:{served.server_port}/image")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert local(f"https://images.example:{served.server_port}/image") == BODY
        assert Handler.requests == [("/image", f"images.example:{served.server_port}")]
        with pytest.raises(ImageURLError, match=r"the certificate of other\.example is not valid: Hostname mismatch"):
            local(f"https://other.example:{served.server_port}/image")
        with pytest.raises(ImageURLError, match=r"images\.example is 127\.0\.0\.1, which is no public address"):
            fetch_image(f"https://images.example:{served.server_port}/image")
    finally:
        served.shutdown()
        served.server_close()


@pytest.mark.filterwarnings("ignore:. of . posts has no:UserWarning", "ignore:. of . posts have no:UserWarning")
def test_one_of_many_posts(umgf: Callable[[], UMGF], server: str) -> None:
    model = umgf()
    ner = mnergraph.pipeline(model, allow_urls=True, allow_private_addresses=True, batch_pieces=32)
    texts = ["Paris in the rain", "the rain in Paris", "rain", "in the rain"]
    images = [None, f"{server}/status/404", None, f"{server}/short"]
    with pytest.warns(
        UserWarning, match=r"2 of 4 posts have an error in the place of entities; the first: .*status 404"
    ):
        found = ner(texts, image=images)
    assert [result.text for result in found] == texts
    assert [result.error is None for result in found] == [True, False, True, False]
    assert found[3].error == f"'{server}/short' can't be fetched: the body ends after 300 of 1,000 bytes"
    assert found[1] == []
    assert (found[0], found[2]) == (ner(texts[0]), ner(texts[2]))
    assert "status 404" in found[1]._repr_html_()
    with pytest.raises(ValueError, match="status 404"):
        found[1].explain()
    with pytest.raises(ImageURLError, match="status 404 Not Found"):
        ner("Paris", image=f"{server}/status/404")
    with pytest.raises(ImageURLError, match=r"127\.0\.0\.1, which is no public address"):
        mnergraph.pipeline(model, allow_urls=True)("Paris", image=f"{server}/image")
