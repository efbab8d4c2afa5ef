#!/usr/bin/env bash
# Runs one cycle of samples/documents in target/demo-documents: two pages, each delivered to two receivers.
#
#   ORBIT_BIN: a binary to use instead of building one · DEMO_HOME: another home
set -euo pipefail
cd "$(dirname "$0")/.."

demo="demo-documents"
sample=documents
namespace=herbarium
. scripts/sample.sh

scripts/install.sh documents
build_orbit
make_home CABINET_TOKEN=token REGISTRY_PASSWORD=token REGISTRY_SIGNING_KEY=key
refuse_served
cabinet=(--token-env "$(variable CABINET_TOKEN)")
registry=(--user herbarium --password-env "$(variable REGISTRY_PASSWORD)" --key-env "$(variable REGISTRY_SIGNING_KEY)")
start_receiver cabinet received/cabinet 18788 "${cabinet[@]}"
start_receiver registry received/registry 18789 "${registry[@]}"
cabinet_seen=$(log_lines cabinet)
registry_seen=$(log_lines registry)
run_cycle

# A page is right when Ghostscript reads it to its end.
check_page() {
    if [ "$(head -c 5 "$1")" != "%PDF-" ] || ! gs -q -dSAFER -dNOPAUSE -dBATCH -sDEVICE=nullpage "$1" >&2; then
        say "demo: \`$1\` is not a PDF"
        return 1
    fi
    printf '  %s  (%s bytes)\n' "$1" "$(stat -c %s "$1")"
}

mapfile -t files < <(delivered cabinet received/cabinet "$cabinet_seen"; delivered registry received/registry "$registry_seen")
if [ ${#files[@]} -ne 4 ]; then
    say "demo: 4 files were expected, ${#files[@]} arrived; the receivers' logs are $home/*.jsonl"
    exit 1
fi
printf '\nDelivered, to a cabinet that asks for a token and a registry that asks for a password and a signature:\n'
for file in "${files[@]}"; do check_page "$file"; done
printf '\nTo keep it running unattended, every hour:\n'
receiver_command cabinet received/cabinet "${cabinet[@]}"
receiver_command registry received/registry "${registry[@]}"
printf '  %s --home %s serve\n' "$orbit" "$home"
