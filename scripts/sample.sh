# shellcheck shell=bash
# What the demonstrations share; sourced, not run. Expects `demo` (a folder of target/), `sample` (a folder of samples/) and
# `namespace`.
#
# The home is made once and kept, so that a second demonstration goes on where the first one ended. Receivers are started for
# the time of the demonstration, and only those started here are stopped.

: "${demo:?}" "${sample:?}" "${namespace:?}"
export LC_ALL=C.UTF-8
home=${DEMO_HOME:-target/$demo}
receiver=samples/receiver/receiver.py
receivers=()

say() { printf '%s\n' "$*" >&2; }

stop_receivers() {
    local pid
    for pid in "${receivers[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    receivers=()
}
trap stop_receivers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets `orbit`: the binary that was named, or one built here. The development profile optimizes dependencies and builds in a
# third of the release profile's time.
build_orbit() {
    orbit=${ORBIT_BIN:-}
    if [ -z "$orbit" ]; then
        scripts/install.sh build
        cargo build --locked -p orbit --bin orbit
        orbit=${CARGO_TARGET_DIR:-target}/debug/orbit
    fi
    if [ ! -x "$orbit" ]; then
        say "demo: \`$orbit\` is not a program"
        exit 1
    fi
}

random_hex() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }
random_key() { printf 'whsec_%s' "$(head -c 32 /dev/urandom | base64 -w0)"; }

# make_home SECRET=KIND...: copies the sample and makes its secrets, all at once or not at all.
make_home() {
    if [ -d "$home" ]; then return; fi
    say "demo: making $home from samples/$sample"
    rm -rf "$home.new"
    mkdir -p "$home.new"
    cp -R "samples/$sample/orbit.yaml" "samples/$sample/namespaces" "$home.new/"
    (
        umask 077
        printf 'ORBIT_PAUSED=false\nORBIT_LOG_SEED=%s\n' "$(random_hex 32)" >"$home.new/.env"
        local entry
        for entry in "$@"; do
            case ${entry#*=} in
                token) printf '%s=%s\n' "$(variable "${entry%%=*}")" "$(random_hex 24)" ;;
                key) printf '%s=%s\n' "$(variable "${entry%%=*}")" "$(random_key)" ;;
            esac
        done >>"$home.new/.env"
    )
    mv "$home.new" "$home"
}

# The variable of a secret of this namespace.
variable() { printf 'ORBIT_SECRET_%s_%s' "${namespace^^}" "$1"; }

# A home that somebody serves has receivers of its own.
refuse_served() {
    local status
    status=$("$orbit" --home "$home" --json status 2>/dev/null || true)
    if grep -Eq '"serving": *true' <<<"$status"; then
        say "demo: $home is being served"
        say "  hint: run a cycle there with \`$orbit --home $home run\`, or stop it first"
        exit 1
    fi
}

# start_receiver NAME FOLDER PLACEHOLDER_PORT OPTION...: on the port it had before if that is free, else on another one, which the
# home's documents are told. Options name secrets of the namespace as `--token-env NAME`.
start_receiver() {
    local name=$1 folder=$2 before=$3 port pid
    shift 3
    local port_file=$home/$name.port
    if [ -e "$port_file" ]; then before=$(<"$port_file"); fi
    for port in "$before" 0; do
        rm -f "$port_file.now"
        (
            set -a
            # shellcheck source=/dev/null
            . "$home/.env"
            exec /usr/bin/python3 "$receiver" "$home/$folder" --port "$port" --port-file "$port_file.now" \
                --log "$home/$name.jsonl" "$@"
        ) >/dev/null 2>"$home/$name.err" &
        pid=$!
        if wait_for_port "$pid" "$port_file.now"; then
            receivers+=("$pid")
            mv "$port_file.now" "$port_file"
            port=$(<"$port_file")
            sed -i "s/127\.0\.0\.1:$before\//127.0.0.1:$port\//" "$home/namespaces/$namespace"/endpoints/*.yaml
            return
        fi
    done
    say "demo: the receiver does not start: $(<"$home/$name.err")"
    exit 1
}

# wait_for_port PID FILE: whether the receiver lives and has said where it listens, within ten seconds.
wait_for_port() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        if [ -s "$2" ]; then return 0; fi
        if ! kill -0 "$1" 2>/dev/null; then return 1; fi
        sleep 0.05
    done
    kill "$1" 2>/dev/null || true
    return 1
}

# Checks and runs one cycle; a code other than 0 ends the demonstration with it.
run_cycle() {
    local code=0
    "$orbit" --home "$home" check || exit
    "$orbit" --home "$home" run || code=$?
    if [ "$code" -eq 5 ]; then
        say "demo: everything in the source was selected before"
        say "  hint: add lines to it below $home/namespaces/$namespace, or begin anew with \`make clean-demo\`"
    fi
    if [ "$code" -ne 0 ]; then exit "$code"; fi
}

# log_lines NAME: how many requests a receiver has seen so far.
log_lines() { if [ -e "$home/$1.jsonl" ]; then wc -l <"$home/$1.jsonl"; else echo 0; fi; }

# delivered NAME FOLDER SEEN: the files that a receiver accepted since it had seen so many requests.
delivered() {
    tail -n "+$(($3 + 1))" "$home/$1.jsonl" | /usr/bin/python3 -c '
import json, sys
for line in sys.stdin:
    entry = json.loads(line)
    if entry["status"] == 201:
        print(sys.argv[1] + "/" + entry["path"])
' "$home/$2"
}

# receiver_command NAME FOLDER OPTION...: how to start it by hand.
receiver_command() {
    local name=$1 folder=$2
    shift 2
    printf '  (set -a; . %s/.env; exec %s %s/%s --port %s --log %s/%s.jsonl %s)\n' \
        "$home" "$receiver" "$home" "$folder" "$(<"$home/$name.port")" "$home" "$name" "$*"
}
