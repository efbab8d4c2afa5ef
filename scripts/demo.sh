#!/usr/bin/env bash
# Runs one cycle of samples/media in target/demo: two clips, delivered to samples/receiver.
#
#   ORBIT_BIN: a binary to use instead of building one · DEMO_HOME: another home
set -euo pipefail
cd "$(dirname "$0")/.."

demo=demo
sample=media
namespace=studio
. scripts/sample.sh

scripts/install.sh demo
build_orbit
make_home ARCHIVE_TOKEN=token ARCHIVE_SIGNING_KEY=key
refuse_served
options=(--token-env "$(variable ARCHIVE_TOKEN)" --key-env "$(variable ARCHIVE_SIGNING_KEY)")
start_receiver archive received 18787 "${options[@]}"
seen=$(log_lines archive)
run_cycle

# A clip is right when it has a picture, sound, and more than three seconds.
check_clip() {
    local kinds seconds
    kinds=$(ffprobe -v error -show_entries stream=codec_type -of csv=p=0 "$1" | sort | tr '\n' ' ')
    seconds=$(ffprobe -v error -show_entries format=duration -of csv=p=0 "$1")
    if [ "$kinds" != "audio video " ] || ! awk -v s="$seconds" 'BEGIN { exit !(s > 3) }'; then
        say "demo: \`$1\` is not a clip: streams ${kinds:-none}, ${seconds:-no} seconds"
        return 1
    fi
    printf '  %s  (%s, %.1f s)\n' "$1" \
        "$(ffprobe -v error -select_streams v -show_entries stream=width,height -of csv=p=0:s=x "$1")" "$seconds"
}

mapfile -t files < <(delivered archive received "$seen")
if [ ${#files[@]} -ne 2 ]; then
    say "demo: 2 clips were expected, ${#files[@]} arrived; the receiver's log is $home/archive.jsonl"
    exit 1
fi
printf '\nDelivered, with token, digest and signature checked by samples/receiver:\n'
for file in "${files[@]}"; do check_clip "$file"; done
printf '\nTo keep it running unattended, twice a day:\n'
receiver_command archive received "${options[@]}"
printf '  %s --home %s serve\n' "$orbit" "$home"
