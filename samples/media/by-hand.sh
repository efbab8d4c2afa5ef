#!/bin/sh
# The commands of this sample without the engine: one topic, two surfaces side by side, nothing recorded, nothing retried.
# Its wall time is what the engine's own time is measured against; to compare, name the topic that a cycle has selected.
#
#   samples/media/by-hand.sh [TOPIC] [OUTPUT_FOLDER]      TOPIC: a line number of topics.jsonl, or a label
set -eu

studio=$(cd "$(dirname "$0")/namespaces/studio" && pwd)
wanted=${1:-1}
case $wanted in
    *[!0-9]*) topic=$(grep -F "\"label\":\"$wanted\"" "$studio/topics.jsonl" | head -n 1) ;;
    *) topic=$(sed -n "${wanted}p" "$studio/topics.jsonl") ;;
esac
if [ -z "$topic" ]; then
    echo "by-hand: \`$wanted\` is neither a line nor a label of $studio/topics.jsonl" >&2
    exit 2
fi
out=${2:-$(mktemp -d)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
FONT=$(sed -n 's/.*FONT: \([^ }]*\).*/\1/p' "$studio/processors/compose.yaml")
export FONT

surface() { # NAME HEIGHT VOICE
    mkdir -p "$out/$1"
    cd "$out/$1"
    printf '{"cycle":{},"initiation":%s,"instruction":{"constraints":{"seconds_max":12}},"profile":{"label":"%s","style_vector":%s},"run":{}}\n' \
        "$topic" "$1" \
        "{\"accent\":\"0xffc857\",\"frames_per_second\":25,\"height\":$2,\"width\":1080}" >context.json
    "$studio/programs/write" <context.json >text.txt
    ffmpeg -nostdin -v error -y -f lavfi -i "flite=textfile=text.txt:voice=$3" speech.wav
    "$studio/programs/compose" context.json speech.wav "$studio/assets/backdrop.png" composed.mp4
    ffmpeg -nostdin -v error -y -i composed.mp4 -af "loudnorm=I=-16:TP=-1.5:LRA=11" -ar 48000 \
        -c:v libx264 -preset veryfast -crf 23 -pix_fmt yuv420p -c:a aac -b:a 128k -movflags +faststart clip.mp4
}

began=$(date +%s%N)
surface portrait 1920 slt &
portrait=$!
surface square 1080 rms &
square=$!
wait "$portrait"
wait "$square"
took=$((($(date +%s%N) - began) / 1000000))
ls -l "$out"/*/clip.mp4
printf 'by hand in %d.%03ds\n' $((took / 1000)) $((took % 1000))
