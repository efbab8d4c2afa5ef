#!/usr/bin/env bash
# Installs what is missing on a Debian machine: as root with apt-get; otherwise says exactly what to install.
#
#   scripts/install.sh GROUP...      build: compiler and linker · test: what the tests start · check: formatter and lints · failover: its drill
#                                    demo: samples/media · documents: samples/documents · bench: what is measured · peers: bench/peers
set -euo pipefail

missing=()

# need PACKAGE TEST...: the package is missing if the test fails. Several groups may need the same one.
need() {
    local package=$1
    shift
    case " ${missing[*]} " in *" $package "*) return ;; esac
    if ! "$@" >/dev/null 2>&1; then missing+=("$package"); fi
}

need_build() {
    need gcc command -v cc
    need libc6-dev test -e /usr/include/stdio.h
    if ! command -v cargo >/dev/null; then
        echo "install: cargo is missing: install Rust 1.95 or later, for example with rustup" >&2
        exit 1
    fi
}

# Tests start programs that even a small Debian has, and these: a full disk is a file system mounted in a namespace of its own, a clock
# that jumps is a library that one process is started with, PostgreSQL is a server of their own, and an S3 server is one of Python.
need_test() {
    need python3 command -v python3
    need procps test -x /usr/bin/kill -o -x /bin/kill
    need util-linux sh -c 'command -v unshare && command -v setsid'
    need mount command -v mount
    # The server and its programs, not a cluster: the tests make their own, and the package's own one is not touched.
    need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb && ls /usr/lib/postgresql/*/bin/pg_isready'
    need faketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
    if ! has_s3_server; then need python3-venv python3 -c 'import ensurepip, venv'; fi
}

# The environment of the S3 server lies in the repository's own target folder; the stamp is written last and names what was installed.
root=$(cd "$(dirname "$0")/.." && pwd)
s3_server=$root/target/tools/s3-server
s3_pins=$root/scripts/s3-server.txt

has_s3_server() { cmp -s "$s3_pins" "$s3_server/installed.txt"; }

install_s3_server() {
    if has_s3_server; then return; fi
    echo "install: the S3 server of the tests, from PyPI" >&2
    rm -rf "$s3_server"
    mkdir -p "$(dirname "$s3_server")"
    if ! { python3 -m venv "$s3_server" &&
        "$s3_server/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$s3_pins"; } >&2; then
        echo "install: the S3 server of the tests could not be installed" >&2
        echo "  hint: it needs Debian's python3-venv, and PyPI or a mirror that pip knows" >&2
        exit 1
    fi
    cp "$s3_pins" "$s3_server/installed.txt"
}

need_check() {
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        echo "install: the formatter or the lints of Rust are missing" >&2
        echo "  hint: rustup component add rustfmt clippy" >&2
        exit 1
    fi
}

need_demo() {
    need ffmpeg command -v ffmpeg
    need fonts-dejavu-core test -e /usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
    need python3 test -x /usr/bin/python3
}

need_documents() {
    # groff-base has the program but not the ms macros.
    need groff sh -c 'echo | groff -ms -Tps'
    need ghostscript command -v gs
    need jq test -x /usr/bin/jq
    need python3 test -x /usr/bin/python3
}

# FFmpeg's batch, and what it is compared with.
need_bench() {
    need ffmpeg command -v ffmpeg
    need findutils command -v xargs
}

# A Node that is new enough is one of npm's packages.
need_peers() {
    need python3 test -x /usr/bin/python3
    need python3-venv python3 -c 'import ensurepip, venv'
    need npm command -v npm
}

# Each with its packages in a folder of its own, in the repository's own target folder; the stamp is written last and holds what was installed.
peers=$root/target/tools/peers

install_peer() {
    local name=$1 to=$peers/$1 stamp
    shift
    stamp=$(find "$root/bench/peers/$name" "$root/bench/peers/reference.mjs" -type f | sort | xargs cat | sha256sum)
    if [ "$(cat "$to/installed.txt" 2>/dev/null)" = "$stamp" ]; then return; fi
    echo "install: $name, which ORBIT is measured beside" >&2
    mkdir -p "$to"
    rm -f "$to/installed.txt"
    cp -r "$root/bench/peers/$name"/. "$root/bench/peers/reference.mjs" "$to/"
    if ! (cd "$to" && "$@") >&2; then
        echo "install: $name could not be installed" >&2
        exit 1
    fi
    echo "$stamp" >"$to/installed.txt"
}

with_pip() {
    python3 -m venv venv &&
        venv/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.txt
}

install_peers() {
    local name
    for name in node restate graphile-worker pg-boss; do
        install_peer "$name" npm ci --no-audit --no-fund --silent
    done
    install_peer dbos-python with_pip
    # A target folder of its own, whatever that of ORBIT is.
    install_peer apalis env -u CARGO_TARGET_DIR cargo build --release --locked --quiet
}

# Servers that move by themselves. The packages' own services are not started and not used.
need_failover() {
    need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
    need patroni test -x /usr/bin/patroni
    need python3-etcd /usr/bin/python3 -c 'import etcd'
    need etcd-server test -x /usr/bin/etcd
}

install_missing() {
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        echo "install: missing, and this is not a Debian machine: ${missing[*]} (names as in Debian)" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "install: missing: ${missing[*]}" >&2
        echo "  hint: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "install: ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# An FFmpeg that somebody built without these would fail in the middle of a cycle.
check_ffmpeg() {
    local filters encoders name
    filters=$(ffmpeg -hide_banner -filters 2>/dev/null)
    encoders=$(ffmpeg -hide_banner -encoders 2>/dev/null)
    for name in flite drawtext loudnorm showwaves; do
        if ! grep -qw "$name" <<<"$filters"; then
            echo "install: this FFmpeg has no filter \`$name\`; Debian's has: $(command -v ffmpeg)" >&2
            exit 1
        fi
    done
    for name in libx264 aac; do
        if ! grep -qw "$name" <<<"$encoders"; then
            echo "install: this FFmpeg has no encoder \`$name\`; Debian's has: $(command -v ffmpeg)" >&2
            exit 1
        fi
    done
}

for group in "$@"; do
    case $group in
        build) need_build ;;
        test) need_test ;;
        check) need_check ;;
        demo) need_demo ;;
        documents) need_documents ;;
        failover) need_failover ;;
        bench) need_bench ;;
        peers) need_peers ;;
        *)
            echo "install: no group \`$group\`; there are build, test, check, demo, documents, failover, bench and peers" >&2
            exit 2
            ;;
    esac
done
install_missing
case " $* " in *" test "*) install_s3_server ;; esac
case " $* " in *" demo "*) check_ffmpeg ;; esac
case " $* " in *" peers "*) install_peers ;; esac
