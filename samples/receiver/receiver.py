#!/usr/bin/python3
"""A receiver of deliveries: checks who sends, that nothing was changed, and keeps the file.

Python's standard library only, and none of the engine's code, so that what it checks is checked by somebody else:

- who: `Authorization: Bearer` (RFC 6750), `Basic` (RFC 7617) or a header of your choosing, compared in constant time -> 401
- whole: `Content-Digest` with sha-256 (RFC 9530) -> 422
- signed: Standard Webhooks 1.0 (`webhook-id`, `webhook-timestamp`, `webhook-signature`), with a tolerance -> 403
- bounded: `Content-Length` is required (411) and no longer than `--bytes-max` (413); the body goes to disk in pieces
- once: the same `Idempotency-Key` with the same content answers 200 and `"duplicate": true`, with another content 422

A file appears under its name only when it is complete, and never replaces another one.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import mimetypes
import os
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE_BYTES = 64 * 1024
TOLERANCE_SECONDS = 300
KEY_CHARS_MAX = 255
SEGMENTS_MAX = 6
SEGMENT_CHARS_MAX = 60      # at most 240 bytes of UTF-8; a file name may have 255
NAMES_MAX = 1000
INCOMING = "incoming-"
EXTENSIONS = {
    "application/pdf": ".pdf", "application/postscript": ".ps", "audio/wav": ".wav", "text/plain": ".txt",
    "video/mp4": ".mp4",
}


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status, error):
        super().__init__(error)
        self.status = status


class Policy:
    """Who may send, how it is signed, and how much may be sent."""

    def __init__(self, authenticates=None, signing_key=None, bytes_max=1 << 30, now=time.time):
        self.authenticates = authenticates
        self.signing_key = signing_key
        self.bytes_max = bytes_max
        self.now = now

    def check_sender(self, headers):
        if self.authenticates is None:
            return
        header, expected = self.authenticates
        found = headers.get(header, "")
        if not hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode("utf-8")):
            raise Refused(401, f"`{header}` is missing or wrong")

    def signature(self, headers):
        """A running HMAC over `id.timestamp.body`, and the signatures that one of must match; None if nothing is signed."""
        if self.signing_key is None:
            return None
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        message, timestamp, signatures = (headers.get(name, "") for name in names)
        if not (message and signatures and re.fullmatch(r"[0-9]{1,12}", timestamp)):
            raise Refused(403, "the request is not signed: `webhook-id`, `-timestamp` and `-signature` are needed")
        if abs(self.now() - int(timestamp)) > TOLERANCE_SECONDS:
            raise Refused(403, "the timestamp is too far from now")
        running = hmac.new(self.signing_key, f"{message}.{timestamp}.".encode("utf-8"), hashlib.sha256)
        return running, signatures.split(" ")


def signing_key(text):
    """The bytes of a `whsec_...` key."""
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)


def check_signature(signature):
    if signature is None:
        return
    running, found = signature
    expected = "v1," + base64.b64encode(running.digest()).decode("ascii")
    # All of them are compared, so that the time does not tell which one matched.
    matches = [hmac.compare_digest(expected.encode(), one.encode("utf-8", "replace")) for one in found]
    if not any(matches):
        raise Refused(403, "no signature matches")


def check_digest(header, digest):
    """`Content-Digest: sha-256=:...:` must be there and be right; other algorithms are passed over."""
    found = re.search(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):", header or "")
    if found is None:
        raise Refused(422, "`Content-Digest` with sha-256 is missing")
    try:
        stated = base64.b64decode(found.group(1), validate=True)
    except binascii.Error:
        raise Refused(422, "`Content-Digest` is not base64") from None
    if not hmac.compare_digest(stated, digest):
        raise Refused(422, "the content is not what `Content-Digest` says")


def safe_name(path, media_type):
    """A relative file name made of the address's path: nothing in it can leave the folder or hide."""
    segments = [urllib.parse.unquote(part) for part in urllib.parse.urlsplit(path).path.split("/")]
    clean = [re.sub(r"[^\w.-]+", "-", part).strip("-.")[:SEGMENT_CHARS_MAX] for part in segments]
    clean = [part for part in clean if part][:SEGMENTS_MAX] or ["artifact"]
    media_type = media_type.split(";")[0].strip().lower()
    extension = EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
    if not clean[-1].lower().endswith(extension):
        clean[-1] += extension
    return "/".join(clean)


class Shelf:
    """The folder: files, and one receipt a key."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.receipts = os.path.join(self.folder, ".receipts")
        self.lock = threading.Lock()
        os.makedirs(self.receipts, exist_ok=True)
        for name in os.listdir(self.receipts):
            if name.startswith(INCOMING):
                os.unlink(os.path.join(self.receipts, name))    # left behind by a crash

    def receipt_path(self, key):
        return os.path.join(self.receipts, hashlib.sha256(key.encode("utf-8")).hexdigest() + ".json")

    def keep(self, key, temporary, name, facts):
        """Gives the file its name and the key its receipt; `(status, receipt)`."""
        with self.lock:
            known = self.known(key)
            if known is not None:
                if known["sha256"] != facts["sha256"]:
                    raise Refused(422, "the `Idempotency-Key` was used for another content")
                return 200, {**known, "duplicate": True}
            receipt = {"path": self.place(temporary, name), **facts}
            self.write_receipt(key, receipt)
            return 201, {**receipt, "duplicate": False}

    def known(self, key):
        try:
            with open(self.receipt_path(key), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def place(self, temporary, name):
        """Links the complete file under the first free name, which fails rather than replace one."""
        stem, extension = os.path.splitext(name)
        os.makedirs(os.path.join(self.folder, os.path.dirname(name)), exist_ok=True)
        for number in range(1, NAMES_MAX):
            candidate = name if number == 1 else f"{stem}-{number}{extension}"
            try:
                os.link(temporary, os.path.join(self.folder, candidate))
                return candidate
            except FileExistsError:
                continue
        raise Refused(409, "every name for this file is taken")

    def write_receipt(self, key, receipt):
        descriptor, temporary = tempfile.mkstemp(dir=self.receipts)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(receipt, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.receipt_path(key))


class Log:
    """One JSON line a request."""

    def __init__(self, path=None):
        self.file = open(path, "a", encoding="utf-8") if path else None
        self.lock = threading.Lock()

    def write(self, entry):
        if self.file is None:
            return
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()

    def close(self):
        if self.file is not None:
            self.file.close()


class Handler(BaseHTTPRequestHandler):
    """Takes POST, PUT and PATCH alike."""

    protocol_version = "HTTP/1.1"
    server_version = "receiver"
    sys_version = ""
    timeout = 60

    def do_PUT(self):
        self.left = None
        try:
            status, answer = self.receive()
        except Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        except OSError as error:
            status, answer = 507, {"error": f"cannot keep it: {error.strerror or error}"}
        self.answer(status, answer)

    do_POST = do_PUT
    do_PATCH = do_PUT

    def receive(self):
        policy, shelf = self.server.policy, self.server.shelf
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length) or "Transfer-Encoding" in self.headers:
            raise Refused(411, "`Content-Length` is needed")
        self.left = int(length)
        if self.left > policy.bytes_max:
            raise Refused(413, f"at most {policy.bytes_max} bytes are taken")
        policy.check_sender(self.headers)
        key = self.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= KEY_CHARS_MAX:
            raise Refused(400, "`Idempotency-Key` is needed")
        signature = policy.signature(self.headers)
        media_type = self.headers.get("Content-Type", "application/octet-stream")
        descriptor, temporary = tempfile.mkstemp(prefix=INCOMING, dir=shelf.receipts)
        try:
            with os.fdopen(descriptor, "wb") as file:
                digest, size = self.read_body(file, signature)
                file.flush()
                os.fsync(file.fileno())
            check_digest(self.headers.get("Content-Digest"), digest.digest())
            check_signature(signature)
            facts = {"bytes": size, "sha256": digest.hexdigest(), "media_type": media_type}
            return shelf.keep(key, temporary, safe_name(self.path, media_type), facts)
        finally:
            os.unlink(temporary)

    def read_body(self, file, signature):
        """One pass: to disk, through the digest, and through the signature."""
        digest, size = hashlib.sha256(), 0
        while self.left > 0:
            piece = self.rfile.read(min(PIECE_BYTES, self.left))
            if not piece:
                self.close_connection = True
                raise Refused(400, "the body ended early")
            self.left -= len(piece)
            size += len(piece)
            digest.update(piece)
            if signature is not None:
                signature[0].update(piece)
            file.write(piece)
        return digest, size

    def answer(self, status, answer):
        self.server.log.write({
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "method": self.command, "target": self.path,
            "status": status, "idempotency_key": self.headers.get("Idempotency-Key"),
            "webhook_id": self.headers.get("webhook-id"), "traceparent": self.headers.get("traceparent"), **answer,
        })
        body = (json.dumps(answer) + "\n").encode("utf-8")
        unread = self.left is None or self.left > 0
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if unread:
            # What was not read would be taken for the next request.
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if unread:
            self.let_go()

    def let_go(self):
        """Reads on for a little, so that the sender sees the answer before the connection is reset."""
        self.wfile.flush()
        left = min(self.left or 0, self.server.policy.bytes_max)
        self.connection.settimeout(2)
        try:
            while left > 0:
                piece = self.rfile.read(min(PIECE_BYTES, left))
                if not piece:
                    break
                left -= len(piece)
        except OSError:
            pass

    def log_message(self, format, *args):
        """Requests are logged by `answer`."""


class Receiver(ThreadingHTTPServer):
    """See the module."""

    daemon_threads = True

    def __init__(self, address, folder, policy, log=None):
        super().__init__(address, Handler)
        self.policy, self.shelf, self.log = policy, Shelf(folder), log or Log()

    def server_close(self):
        super().server_close()
        self.log.close()


def secret(name):
    """The value of this environment variable: secrets are never arguments, which everybody may see."""
    value = os.environ.get(name, "")
    if not value:
        sys.exit(f"receiver: the environment variable `{name}` is empty or missing")
    return value


def sender(options):
    """The header that proves the sender, and what it must hold."""
    if options.token_env:
        return "Authorization", "Bearer " + secret(options.token_env)
    if options.password_env:
        pair = f"{options.user}:{secret(options.password_env)}".encode("utf-8")
        return "Authorization", "Basic " + base64.b64encode(pair).decode("ascii")
    if options.header_env:
        return options.header, secret(options.header_env)
    return None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", help="where delivered files are kept")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one and prints it")
    parser.add_argument("--port-file", help="write the port to this file once requests are taken")
    parser.add_argument("--log", help="append one JSON line a request to this file")
    parser.add_argument("--bytes-max", type=int, default=1 << 30, help="longest body (default: %(default)s)")
    parser.add_argument("--token-env", metavar="NAME", help="variable that holds the bearer token")
    parser.add_argument("--user", default="orbit", help="user for --password-env (default: %(default)s)")
    parser.add_argument("--password-env", metavar="NAME", help="variable that holds the password of basic auth")
    parser.add_argument("--header", default="X-Api-Key", help="header for --header-env (default: %(default)s)")
    parser.add_argument("--header-env", metavar="NAME", help="variable that holds the value of that header")
    parser.add_argument("--key-env", metavar="NAME", help="variable that holds the signing key, `whsec_...`")
    return parser.parse_args()


def main():
    options = arguments()
    try:
        key = signing_key(secret(options.key_env)) if options.key_env else None
    except binascii.Error:
        sys.exit(f"receiver: `{options.key_env}` does not hold a key of the form `whsec_<base64>`")
    policy = Policy(sender(options), key, options.bytes_max)
    try:
        receiver = Receiver((options.address, options.port), options.folder, policy, Log(options.log))
    except OSError as error:
        sys.exit(f"receiver: cannot listen on {options.address}:{options.port}: {error.strerror}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = receiver.server_address[1]
    print(port, flush=True)
    if options.port_file:
        with open(options.port_file + ".new", "w", encoding="ascii") as file:
            file.write(f"{port}\n")
        os.replace(options.port_file + ".new", options.port_file)
    try:
        receiver.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        receiver.server_close()


if __name__ == "__main__":
    main()
