#!/usr/bin/python3
"""The drill of a real failover: nodes of ORBIT under load on PostgreSQL, whose primary is killed.

Everything runs on loopback, for a bounded number of cycles, and ends what it started. Exits with 0 if nothing that was acknowledged is lost, nothing is
done twice, and everything went on by itself; says what it saw and how long it took.

    drill.py ORBIT [CYCLES]
"""

import base64
import collections
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import rfc6962  # noqa: E402
from cluster import Cluster, until  # noqa: E402

NODES = ("north", "south")
# Work goes on for a while after a failover; more than this is a failure of the drill, not of a slow machine.
PATIENCE = 300


class Receiver:
    """Takes every delivery and remembers its key and body."""

    def __init__(self):
        self.bodies = collections.defaultdict(set)
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                with outer.lock:
                    outer.bodies[self.headers["idempotency-key"]].add(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"


class Node:
    """A home on the database and the `orbit serve` on it."""

    def __init__(self, orbit, folder, name, url, seed, receiver, cycles):
        self.orbit, self.home, self.name = orbit, folder / name, name
        lab = self.home / "namespaces" / "lab"
        for part in ("sources", "processors", "endpoints", "profiles", "run-profiles"):
            (lab / part).mkdir(parents=True)
        self.home.chmod(0o700)
        (self.home / "orbit.yaml").write_text(json.dumps({
            "node": {"name": name}, "storage": {"backend": "postgres"}, "listen": {"address": "127.0.0.1:0"},
        }))
        environment = self.home / ".env"
        environment.write_text(f"ORBIT_LOG_SEED={seed}\nORBIT_DATABASE_URL='{url}'\n")
        environment.chmod(0o600)
        write = lambda path, document: (lab / path).write_text(json.dumps(document))  # noqa: E731
        write("namespace.yaml", {"label": "Lab", "disk_floor": "0 B"})
        write("sources/words.yaml", {
            "name": "words", "kind": "inline", "items": [{"label": f"item-{n}"} for n in range(cycles)],
        })
        for tier in ("one", "two", "three"):
            write(f"processors/{tier}.yaml", {
                "name": tier, "kind": "exec", "argv": ["sh", "-c", f"cat; sleep 0.05; echo {tier}"], "input": "stdin",
                "output": {"to": "stdout", "extension": "txt", "media_type": "text/plain"}, "concurrency": 4,
            })
        write("endpoints/sink.yaml", {
            "name": "sink", "url": receiver.url, "method": "POST", "addresses": {"allow": ["127.0.0.0/8"]},
            "retry": {"attempts": 20, "schedule": ["500ms"]},
        })
        write("profiles/plain.yaml", {
            "profile_id": "00000000-0000-4000-8000-000000000001", "label": "plain",
            "execution_rules": {"tiers": [{"processor": tier} for tier in ("one", "two", "three")]},
            "distribution_map": [{"endpoint": "sink"}],
        })
        write("run-profiles/daily.yaml", {
            "run_profile_id": "00000000-0000-4000-9000-000000000001", "label": "daily",
            "execution_policy": {
                "schedule": {"cron": "0 0 29 2 *"}, "overlap": "allow",
                "selection": {"source": "words", "choose": "in_order"}, "profiles": ["plain"],
            },
        })
        self.serving = None

    def run(self, *arguments, timeout=120):
        return subprocess.run(
            [self.orbit, "--home", str(self.home), *arguments], capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
        )

    def json(self, *arguments):
        answer = self.run(*arguments, "--json")
        if answer.returncode != 0:
            return None
        return json.loads(answer.stdout)

    def every(self, *arguments):
        """All items of a list, or None while it cannot be read."""
        items, cursor = [], None
        while True:
            page = self.json(*arguments, "--limit", "500", *(["--cursor", cursor] if cursor else []))
            if page is None:
                return None
            items += page["items"]
            cursor = page["next"]
            if not cursor:
                return items

    def serve(self):
        log = open(self.home / "serve.log", "ab")
        self.serving = subprocess.Popen(
            [self.orbit, "--home", str(self.home), "serve"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
        )
        until(f"{self.name} to serve", lambda: (self.json("status") or {}).get("serving"))

    def stop(self):
        if self.serving and self.serving.poll() is None:
            self.serving.terminate()
            self.serving.wait(60)

    def log(self):
        return (self.home / "serve.log").read_text(errors="replace")[-4000:]


def fire(node, key, acknowledged, deadline):
    """Fires a cycle by a key of its own until somebody says that it is durable."""
    while time.monotonic() < deadline:
        if node.run("run", "--no-wait", "--key", key).returncode == 0:
            acknowledged[key] = time.monotonic()
            return
        time.sleep(0.2)


def load(nodes, cycles, acknowledged):
    """Fires all cycles from as many threads as there are nodes."""
    deadline = time.monotonic() + PATIENCE
    part = lambda place: [  # noqa: E731
        fire(nodes[place], f"key-{number}", acknowledged, deadline)
        for number in range(place, cycles, len(nodes))
    ]
    threads = [threading.Thread(target=part, args=(place,)) for place in range(len(nodes))]
    for thread in threads:
        thread.start()
    return threads


def finished(node, cycles):
    found = node.every("cycles", "list")
    return found if found and len(found) >= cycles and all(cycle["outcome"] for cycle in found) else None


def check(node, receiver, acknowledged, cycles):
    """What must be true in the end; a list of what is not."""
    wrong = []
    found = node.every("cycles", "list")
    triggers = collections.Counter(cycle["trigger"] for cycle in found)
    for key in acknowledged:
        if triggers[f"manual:{key}"] != 1:
            wrong.append(f"the cycle of {key} is there {triggers[f'manual:{key}']} times")
    wrong += [f"cycle {cycle['cycle_id']} is {cycle['outcome']}" for cycle in found if cycle["outcome"] != "succeeded"]
    lines = node.run("log", "export", "-n", "lab").stdout.splitlines()
    records = [json.loads(json.loads(line)["leaf"]) | {"body": json.loads(line)["body"]} for line in lines]
    admitted = collections.Counter(record["run_id"] for record in records if record["kind"] == "run_admitted")
    started = collections.Counter()
    receipts = collections.Counter()
    settled = collections.Counter()
    for record in records:
        body = record["body"]
        if record["kind"] == "attempt_started":
            started[body["delivery_id"], body["attempt"]] += 1
        elif record["kind"] == "receipt_captured":
            receipts[body["delivery_id"], body["attempt"]] += 1
        elif record["kind"] == "delivery_settled":
            settled[body["delivery_id"]] += 1
    for what, counts in (("admissions", admitted), ("attempts", started), ("receipts", receipts), ("ends", settled)):
        wrong += [f"{one}: {count} {what}" for one, count in counts.items() if count != 1]
    if set(started) != set(receipts):
        wrong.append(f"{len(started)} attempts and {len(receipts)} receipts")
    if not len(admitted) == len(settled) == cycles:
        wrong.append(f"{len(admitted)} runs and {len(settled)} deliveries of {cycles} cycles")
    wrong += [f"{key} came with {len(bodies)} bodies" for key, bodies in receiver.bodies.items() if len(bodies) != 1]
    if set(receiver.bodies) != set(settled):
        wrong.append(f"{len(receiver.bodies)} keys came of {len(settled)} deliveries")
    # Somebody else's arithmetic comes to the root that the log has signed.
    note = node.run("log", "checkpoint", "-n", "lab").stdout.splitlines()
    size, root = int(note[1]), note[2]
    leaves = [rfc6962.leaf_hash(json.loads(line)["leaf"].encode()) for line in lines[:size]]

    if base64.b64encode(rfc6962.root(leaves)).decode() != root:
        wrong.append(f"the checkpoint of size {size} has another root than the exported records")
    return wrong, len(records)


def main(orbit, cycles):
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="orbit-failover-") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o711)
        with Cluster(folder / "cluster") as cluster:
            print(f"two servers, one of them a synchronous standby, under Patroni ({cluster.programs})", flush=True)
            cluster.psql("CREATE DATABASE orbit")
            seed = os.urandom(32).hex()
            nodes = [Node(orbit, folder, name, cluster.url("orbit_runtime", "orbit"), seed, receiver, cycles) for name in NODES]
            migrated = subprocess.run(
                [orbit, "--home", str(nodes[0].home), "database", "migrate"], capture_output=True, text=True,
                env={"PATH": os.environ["PATH"], "ORBIT_DATABASE_OWNER_URL": cluster.url("postgres", "orbit")},
            )
            if migrated.returncode != 0:
                raise SystemExit(migrated.stderr)
            try:
                return drill(cluster, nodes, receiver, cycles)
            except BaseException:
                for node in nodes:
                    print(f"== {node.name}\n{node.log()}", file=sys.stderr)
                raise
            finally:
                for node in nodes:
                    node.stop()


def drill(cluster, nodes, receiver, cycles):
    for node in nodes:
        node.serve()
    acknowledged = {}
    threads = load(nodes, cycles, acknowledged)
    until("a third of the cycles", lambda: len(acknowledged) > cycles // 3, PATIENCE)
    old = cluster.leader()
    killed = time.monotonic()
    before = len(acknowledged)
    old.kill()
    print(f"killed the primary after {before} of {cycles} cycles were acknowledged", flush=True)
    new = until("another server to lead", cluster.leader)
    led = time.monotonic() - killed
    for thread in threads:
        thread.join()
    # From the kill on: what was on its way then may still be answered.
    instants = sorted([killed] + [at for at in acknowledged.values() if at > killed])
    if len(instants) < 2:
        raise SystemExit("error: nothing was acknowledged after the failover")
    silence = max(later - earlier for earlier, later in zip(instants, instants[1:]))
    until("every cycle to finish", lambda: finished(nodes[0], cycles), PATIENCE)
    done = time.monotonic() - killed
    old.start()
    until("the old primary to follow", cluster.standby)
    wrong, records = check(nodes[1], receiver, acknowledged, cycles)
    print(f"{old.name} was killed; {new.name} led after {led:.1f} s; no cycle was acknowledged for {silence:.1f} s, "
          f"and the last run finished {done:.1f} s after the kill")
    print(f"{len(acknowledged)} of {cycles} cycles acknowledged, {records} records, {len(receiver.bodies)} artifacts delivered; "
          f"{len(wrong)} violations")
    for line in wrong[:20]:
        print(f"  {line}")
    return 1 if wrong or len(acknowledged) != cycles else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    sys.exit(main(str(pathlib.Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) == 3 else 120))
