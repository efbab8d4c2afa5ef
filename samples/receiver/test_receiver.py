"""Tests of the receiver over real connections on loopback."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import tempfile
import threading
import time
import unittest

from receiver import Log, Policy, Receiver, safe_name, signing_key

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = bytes(range(256)) * 1024
BYTES_MAX = 1 << 20


def sha256(data):
    return hashlib.sha256(data).digest()


def signed(body, identity="msg_1", timestamp=None, key=bytes(range(32))):
    timestamp = str(int(time.time() if timestamp is None else timestamp))
    mac = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, "sha256").digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"webhook-id": identity, "webhook-timestamp": timestamp, "webhook-signature": signature}


def good(body=BODY, key="key-1"):
    return {
        "Authorization": "Bearer right", "Idempotency-Key": key, "Content-Type": "video/mp4",
        "Content-Digest": "sha-256=:" + base64.b64encode(sha256(body)).decode() + ":", **signed(body),
    }


class OverLoopback(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.log_path = os.path.join(self.folder.name, "log.jsonl")
        self.kept = os.path.join(self.folder.name, "kept")
        policy = Policy(("Authorization", "Bearer right"), signing_key(SECRET), BYTES_MAX)
        self.receiver = Receiver(("127.0.0.1", 0), self.kept, policy, Log(self.log_path))
        self.addCleanup(self.receiver.server_close)
        thread = threading.Thread(target=self.receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.receiver.shutdown)

    def send(self, headers, body=BODY, path="/clips/a", method="PUT"):
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver.server_address[1], timeout=20)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def files(self):
        found = []
        for folder, folders, names in os.walk(self.kept):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.relpath(os.path.join(folder, name), self.kept) for name in names]
        return sorted(found)

    def left_behind(self):
        return [name for name in os.listdir(os.path.join(self.kept, ".receipts")) if not name.endswith(".json")]

    def test_keeps_what_is_right(self):
        status, receipt = self.send(good())
        self.assertEqual((status, receipt["path"], receipt["duplicate"]), (201, "clips/a.mp4", False))
        with open(os.path.join(self.kept, "clips/a.mp4"), "rb") as file:
            self.assertEqual(file.read(), BODY)
        self.assertEqual((receipt["bytes"], receipt["sha256"]), (len(BODY), sha256(BODY).hex()))
        self.assertEqual(self.left_behind(), [])

    def test_the_same_key_is_kept_once(self):
        self.send(good())
        status, receipt = self.send(good())
        self.assertEqual((status, receipt["duplicate"]), (200, True))
        other = b"x" * 100
        self.assertEqual(self.send(good(other), other)[0], 422)
        self.assertEqual(self.files(), ["clips/a.mp4"])
        self.assertEqual(self.left_behind(), [])

    def test_another_key_replaces_nothing(self):
        self.send(good())
        status, receipt = self.send(good(key="key-2"), method="POST")
        self.assertEqual((status, receipt["path"]), (201, "clips/a-2.mp4"))
        self.assertEqual(self.files(), ["clips/a-2.mp4", "clips/a.mp4"])

    def test_many_at_once_with_one_key_are_kept_once(self):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.send(good())[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(answers), [200] * 7 + [201])
        self.assertEqual(self.files(), ["clips/a.mp4"])

    def test_refusals(self):
        now = time.time()
        cases = [
            ("no token", {"Authorization": None}, 401),
            ("wrong token", {"Authorization": "Bearer wrong"}, 401),
            ("token that is not ASCII", {"Authorization": "Bearer r\u00efght"}, 401),
            ("no key", {"Idempotency-Key": None}, 400),
            ("no signature", {"webhook-signature": None}, 403),
            ("no timestamp", {"webhook-timestamp": None}, 403),
            ("timestamp in words", {"webhook-timestamp": "now"}, 403),
            ("too old", signed(BODY, timestamp=now - 600), 403),
            ("too new", signed(BODY, timestamp=now + 600), 403),
            ("another body signed", signed(BODY + b"x"), 403),
            ("another key", signed(BODY, key=b"wrong"), 403),
            ("another id", {"webhook-id": "msg_2"}, 403),
            ("no digest", {"Content-Digest": None}, 422),
            ("another digest", {"Content-Digest": good(b"x")["Content-Digest"]}, 422),
            ("digest that is not base64", {"Content-Digest": "sha-256=:a:"}, 422),
            ("another algorithm", {"Content-Digest": "sha-512=:AAAA:"}, 422),
        ]
        for name, change, expected in cases:
            headers = {**good(), **change}
            headers = {header: value for header, value in headers.items() if value is not None}
            with self.subTest(name):
                status, answer = self.send(headers)
                self.assertEqual(status, expected, answer)
                self.assertIn("error", answer)
        self.assertEqual((self.files(), self.left_behind()), ([], []))

    def test_one_of_several_signatures_is_enough(self):
        headers = good()
        headers["webhook-signature"] = "v1,AAAA " + headers["webhook-signature"] + " v1a,BBBB"
        self.assertEqual(self.send(headers)[0], 201)

    def test_bounds(self):
        long = b"x" * (BYTES_MAX + 1)
        self.assertEqual(self.send(good(long), long)[0], 413)
        self.assertEqual(self.send({**good(), "Transfer-Encoding": "chunked"}, iter([BODY]))[0], 411)
        full = b"x" * BYTES_MAX
        self.assertEqual(self.send(good(full), full)[0], 201)

    def test_a_body_that_ends_early_is_not_kept(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver.server_address[1], timeout=20)
        connection.putrequest("PUT", "/clips/a")
        for name, value in good().items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:1000])
        connection.sock.shutdown(1)
        self.assertEqual(connection.getresponse().status, 400)
        connection.close()
        self.assertEqual((self.files(), self.left_behind()), ([], []))

    def test_a_connection_serves_several_requests(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver.server_address[1], timeout=20)
        for key in ("key-1", "key-2"):
            connection.request("PUT", "/clips/a", BODY, good(key=key))
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.getheader("Connection")), (201, None))
            answer.read()
        connection.close()

    def test_every_request_is_logged(self):
        self.send(good())
        self.send({"Idempotency-Key": "key-9"})
        with open(self.log_path, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        self.assertEqual([entry["status"] for entry in entries], [201, 401])
        self.assertEqual([entry["idempotency_key"] for entry in entries], ["key-1", "key-9"])
        self.assertNotIn("right", json.dumps(entries[1]))


class Names(unittest.TestCase):
    def test_a_name_stays_in_the_folder(self):
        cases = [
            ("/clips/a", "video/mp4", "clips/a.mp4"),
            ("/clips/a.mp4", "video/mp4; x=y", "clips/a.mp4"),
            ("/Why%20is%20the%20sky%20blue%3F", "text/plain", "Why-is-the-sky-blue.txt"),
            ("/../../etc/passwd", "text/plain", "etc/passwd.txt"),
            ("/%2e%2e/%2E%2E%2Fetc%2fpasswd", "text/plain", "etc-passwd.txt"),
            ("/.hidden/.receipts/x", "application/pdf", "hidden/receipts/x.pdf"),
            ("/%E6%97%A5%E6%9C%AC%20%C3%A9", "text/plain", "\u65e5\u672c-\u00e9.txt"),
            ("/%ff%fe%2F..", "text/plain", "artifact.txt"),
            ("/a?b=c#d", "application/pdf", "a.pdf"),
            ("/", "x/y", "artifact.bin"),
            ("/%00%0a", "x/y", "artifact.bin"),
            ("/" + "x" * 500, "text/plain", "x" * 60 + ".txt"),
        ]
        for path, media_type, expected in cases:
            with self.subTest(path):
                self.assertEqual(safe_name(path, media_type), expected)


if __name__ == "__main__":
    unittest.main()
