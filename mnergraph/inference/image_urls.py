"""Images by address: fetched from public hosts alone, within one limit of time and one of bytes."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import string
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from importlib.metadata import version
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from mnergraph.quoting import quoted

#: Seconds for all of a transfer: names, connections, redirects and the body.
TIMEOUT = 20.0
#: Bytes of an image, and redirects on the way to it, at most.
MAX_BYTES, MAX_REDIRECTS = 50_000_000, 5

_SCHEMES = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 65_536
#: IPv6 addresses that stand for an IPv4 address in their last four bytes (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: The IPv6 addresses that are assigned to hosts of the internet.
_UNICAST = ipaddress.IPv6Network("2000::/3")


class ImageURLError(ValueError):
    """An image that can't be fetched from its address; the message names the address and the reason."""


def is_url(image: object) -> bool:
    """Return whether an image is given as an address of the web."""
    return isinstance(image, str) and image[:8].lower().startswith(("http://", "https://"))


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet.

    Private, shared, loopback, link-local, multicast, reserved and unspecified addresses are not, nor are IPv6 addresses
    that stand for such an IPv4 address.

    Raises:
        ValueError: for a text that is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip not in _UNICAST or (ip.sixtofour is not None and not is_public(str(ip.sixtofour))):
            return False
    return ip.is_global and not (ip.is_private or ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def fetch_image(url: str, *, allow_private_addresses: bool = False) -> bytes:
    """Return the bytes at an address.

    A host must resolve to public addresses alone, at first and after each redirect; the connection goes to the very
    address that was checked, so that a name can't stand for another one by then. Proxies of the environment are not
    used, as they would resolve the name themselves.

    Args:
        url: the address, http or https.
        allow_private_addresses: whether hosts of the own machine and network may be asked, too.

    Raises:
        ImageURLError: for another scheme, a host that is not allowed or does not answer, a certificate of another host,
            too many redirects, any status but 200, more than `MAX_BYTES`, a body that ends early, and a transfer that
            is not done within `TIMEOUT` seconds.
    """
    transfer = _Transfer(allow_private_addresses)
    # in a thread, as neither the look-up of a name nor reading a header can be limited in time
    pool = ThreadPoolExecutor(1, thread_name_prefix="mnergraph-image")
    try:
        return pool.submit(transfer.run, url).result(transfer.remaining())
    except TimeoutError:
        raise ImageURLError(f"{quoted(url)} is not there within {TIMEOUT:g} seconds") from None
    except ImageURLError as error:
        raise ImageURLError(f"{quoted(url)} can't be fetched: {error}") from error.__cause__
    finally:
        transfer.stop()
        pool.shutdown(wait=False)


class _Transfer:
    """One transfer with its deadline and the connection that is open, which another thread may end."""

    def __init__(self, allow_private_addresses: bool) -> None:
        self.allow_private_addresses = allow_private_addresses
        self.deadline = time.monotonic() + TIMEOUT
        self.connection: _CheckedConnection | None = None
        self.stopped = False

    def remaining(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: when there are none.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0 or self.stopped:
            raise TimeoutError
        return seconds

    def stop(self) -> None:
        """End the connection, so that a thread that waits for it goes on at once."""
        self.stopped = True
        if self.connection is not None:
            self.connection.abort()

    def run(self, url: str) -> bytes:
        """Return the bytes at an address, redirects followed."""
        for _ in range(MAX_REDIRECTS + 1):
            parts = _split(url)
            try:
                self.connection = _CheckedConnection(parts, self)
                found = self._get(self.connection, parts)
            except TimeoutError:
                raise
            except ssl.SSLCertVerificationError as error:
                raise ImageURLError(
                    f"the certificate of {parts.hostname} is not valid: {error.verify_message}"
                ) from error
            except (OSError, HTTPException) as error:
                self.remaining()
                raise ImageURLError(f"{parts.hostname}: {_reason(error)}") from error
            finally:
                if self.connection is not None:
                    self.connection.close()
            if isinstance(found, bytes):
                return found
            try:
                url = urljoin(url, found)
            except ValueError as error:
                raise ImageURLError(f"{quoted(found)} is no address: {error}") from None
        raise ImageURLError(f"more than {MAX_REDIRECTS} redirects")

    def addresses(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host, in the order in which they are to be tried.

        Raises:
            ImageURLError: when it has none, or one that is not allowed.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ImageURLError(f"there is no host {quoted(host)} ({error})") from error
        self.remaining()
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        private = [address for address in addresses if not is_public(address)]
        if private and not self.allow_private_addresses:
            raise ImageURLError(
                f"{host} is {private[0]}, which is no public address; allow_private_addresses=True allows it"
            )
        return addresses

    def _get(self, connection: _CheckedConnection, parts: SplitResult) -> bytes | str:
        """Return the body of the answer, or the address that it redirects to."""
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        headers = {"User-Agent": f"mnergraph/{version('mnergraph')}", "Accept": "image/*"}
        connection.request("GET", quote(target, safe=string.punctuation), headers=headers)
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                location = response.headers.get("Location")
                if not location:
                    raise ImageURLError(f"status {response.status} without an address to go to")
                return location
            if response.status != 200:
                raise ImageURLError(f"status {response.status} {response.reason}".rstrip())
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                raise ImageURLError(f"the body is in {quoted(encoding)}, which was not asked for")
            return self._body(response)

    def _body(self, response: HTTPResponse) -> bytes:
        length = response.length
        if length is not None and length > MAX_BYTES:
            raise ImageURLError(f"the image has {length:,} bytes, more than {MAX_BYTES:,}")
        body = bytearray()
        while chunk := response.read(_CHUNK):
            self.remaining()
            body += chunk
            if len(body) > MAX_BYTES:
                raise ImageURLError(f"the image has more than {MAX_BYTES:,} bytes")
        if length is not None and len(body) < length:
            raise ImageURLError(f"the body ends after {len(body):,} of {length:,} bytes")
        return bytes(body)


class _CheckedConnection(HTTPConnection):
    """A connection to one of the addresses that were checked, with TLS for the host's name."""

    def __init__(self, parts: SplitResult, transfer: _Transfer) -> None:
        assert parts.hostname is not None
        self.transfer = transfer
        self.context = ssl.create_default_context() if parts.scheme == "https" else None
        self.default_port = _SCHEMES[parts.scheme]
        super().__init__(_ascii(parts.hostname), parts.port or self.default_port)

    def connect(self) -> None:
        """Connect to the first address of the host that answers.

        Raises:
            OSError: when none does.
        """
        fault: OSError | None = None
        for address in self.transfer.addresses(self.host, self.port):
            try:
                self.sock = socket.create_connection((address, self.port), timeout=self.transfer.remaining())
                break
            except OSError as error:
                self.transfer.remaining()
                fault = error
        else:
            raise fault or OSError("it has no address")
        if self.context is not None:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """End the connection from another thread."""
        try:
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already


def _split(url: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        ImageURLError: for one that is malformed, or has another scheme than http and https, or a user's name.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ImageURLError(f"{quoted(url)} is no address: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise ImageURLError(f"{quoted(url)} is neither http nor https")
    if not parts.hostname or port == 0:
        raise ImageURLError(f"{quoted(url)} names no host")
    if parts.username is not None or parts.password is not None:
        raise ImageURLError("it holds a user's name, and none is sent")
    _ascii(parts.hostname)
    return parts


def _ascii(host: str) -> str:
    """Return a host's name as it is looked up and sent."""
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise ImageURLError(f"{quoted(host)} is no name of a host: {error}") from None


def _reason(error: OSError | HTTPException) -> str:
    if isinstance(error, IncompleteRead):
        return "the body ends before it is complete"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
