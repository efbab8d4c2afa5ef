"""A highly available PostgreSQL on loopback: etcd, and two servers under Patroni, one of them a synchronous standby.

Everything lies in one folder and listens on free ports of 127.0.0.1; every process is a child of this one, is known by its id and ended with it.
"""

import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

NAMES = ("one", "two")
# Patroni's own clockwork, in seconds: how long a leader is believed without a word, and how often it is looked.
TTL = 20
LOOP_WAIT = 2
PATIENCE = 120


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def server_programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise SystemExit("error: PostgreSQL is missing\n  hint: scripts/install.sh failover")
    return found[-1].parent


def until(what, is_so, patience=PATIENCE):
    """Asks again until it is so, and answers what came."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"error: waited {patience} s for {what}")


class Member:
    """One server and the Patroni that looks after it."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.folder = cluster.folder / name
        self.port, self.rest = free_port(), free_port()
        self.process = None

    def config(self):
        return {
            "scope": "orbit", "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"host": f"127.0.0.1:{self.cluster.etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL, "loop_wait": LOOP_WAIT, "retry_timeout": 5,
                    # A leader of which something is missing is none: what was acknowledged is on two servers.
                    "synchronous_mode": True, "synchronous_mode_strict": False, "maximum_lag_on_failover": 0,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 100, "wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}", "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.folder / "data"), "bin_dir": str(self.cluster.programs),
                "pgpass": str(self.folder / "pgpass"),
                "parameters": {"unix_socket_directories": str(self.folder)},
                "authentication": {
                    "superuser": {"username": "postgres"}, "replication": {"username": "replicator"},
                    "rewind": {"username": "postgres"},
                },
            },
        }

    def start(self):
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.cluster.own(self.folder)
        config = self.folder / "patroni.json"
        # JSON is YAML.
        config.write_text(json.dumps(self.config()))
        log = open(self.folder / "patroni.log", "ab")
        self.process = self.cluster.spawn(["/usr/bin/patroni", str(config)], log)

    def role(self):
        """`primary`, `replica` or None, and whether it is the synchronous standby, as its Patroni says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=2) as answer:
                state = json.load(answer)
        except urllib.error.HTTPError as error:
            state = json.load(error)
        except (OSError, ValueError):
            return None, False
        if state.get("state") != "running":
            return None, False
        role = "primary" if state.get("role") in ("master", "primary") else "replica"
        return role, bool(state.get("sync_standby"))

    def postmaster(self):
        try:
            return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def kill(self):
        """Ends it as a power loss would, its Patroni first so that nobody starts it again."""
        server = self.postmaster()
        self.cluster.end(self.process, signal.SIGKILL)
        self.process = None
        if server:
            os.kill(server, signal.SIGKILL)

    def log(self):
        return (self.folder / "patroni.log").read_text(errors="replace")[-3000:]


class Cluster:
    """See the module. A context: what was started is ended, and the folder removed."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.programs = server_programs()
        self.etcd_port = free_port()
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.children = []
        self.members = [Member(self, name) for name in NAMES]

    def own(self, path):
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def spawn(self, argv, log):
        identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.folder)}, **identity,
        )
        self.children.append(child)
        return child

    def end(self, child, how=signal.SIGTERM):
        if child and child.poll() is None:
            child.send_signal(how)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def __enter__(self):
        self.folder.mkdir(mode=0o711, parents=True)
        self.own(self.folder)
        data = self.folder / "etcd"
        data.mkdir(mode=0o700)
        self.own(data)
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        log = open(self.folder / "etcd.log", "ab")
        self.spawn(
            ["/usr/bin/etcd", "--data-dir", str(data), "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
            log,
        )
        try:
            self.members[0].start()
            until("the first server to lead", lambda: self.members[0].role()[0] == "primary")
            self.members[1].start()
            until("a synchronous standby", lambda: self.standby())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for member in self.members:
            server = member.postmaster()
            self.end(member.process)
            if server and pathlib.Path(f"/proc/{server}").exists():
                os.kill(server, signal.SIGQUIT)
                until("a server to end", lambda server=server: not pathlib.Path(f"/proc/{server}").exists(), 30)
        for child in self.children:
            self.end(child)
        shutil.rmtree(self.folder, ignore_errors=True)

    def leader(self):
        return next((member for member in self.members if member.role()[0] == "primary"), None)

    def standby(self):
        return next((member for member in self.members if member.role() == ("replica", True)), None)

    def url(self, role, database):
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgres://{role}@{hosts}/{database}?target_session_attrs=read-write&connect_timeout=2"

    def psql(self, sql, database="postgres", member=None):
        member = member or self.leader()
        answer = subprocess.run(
            [str(self.programs / "psql"), "-h", "127.0.0.1", "-p", str(member.port), "-U", "postgres", "-d", database,
             "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql],
            capture_output=True, text=True, timeout=60, check=True, cwd="/",
        )
        return answer.stdout.strip()
