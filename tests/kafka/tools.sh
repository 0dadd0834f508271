#!/usr/bin/env bash
# Unmodified tools of the Kafka world against a broker of Klamm: those of Apache Kafka, which Maven
# brings to the target directory, and kcat, which apt-get installs where it can. What a tool prints is
# compared with what is expected, and what it wrote with what Klamm's own clients read.
#
#   tests/kafka/tools.sh                         all of them
#   KLAMM_UPDATE_DOCS=1 tests/kafka/tools.sh     … and writes their table in docs/CLIENTS.md
#
# It fails if a check fails, or if the table is of other checks than these. What a machine can't run
# (no Java, no Maven, no kcat) is skipped, and said.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/kafka/apache.sh

document=docs/CLIENTS.md
section_begin='<!-- tools: made by tests/kafka/tools.sh -->'
section_end='<!-- end of tools -->'
codecs='none gzip snappy lz4 zstd'
# No check takes longer, however busy the machine is.
check_seconds_max=120

passed=0
failed=0
skipped=0
klamm_pid=
work=$(mktemp -d)
trap 'stop $klamm_pid "${cluster_pids[@]}"; rm -rf "$work"' EXIT

# check CLIENT VERSION WHAT COMMAND…: runs a check, and shows what it printed if it fails.
check() {
    local client=$1 version=$2 what=$3 result=works begin rc=0
    shift 3
    begin=$(now_ms)
    # In a condition, the checks' own `set -e` would have no effect.
    set +e
    (
        set -e
        "$@"
    ) >"$work/check.log" 2>&1 </dev/null
    rc=$?
    set -e
    if [ "$rc" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        result=fails
        cat "$work/check.log" >&2
    fi
    printf '%s %s: %s (%d ms)\n' "$result" "$client" "$what" $(($(now_ms) - begin))
    echo "| $client | $version | $what | $result |" >>"$work/rows"
}

# skip WHAT REASON
skip() {
    skipped=$((skipped + 1))
    echo "skipped: $1: $2"
}

# says REGEX…: each is a line of stdin, or a part of one.
says() {
    local text regex missing=0
    text=$(cat)
    for regex; do
        if ! grep -qE -e "$regex" <<<"$text"; then
            echo "not found: $regex"
            missing=1
        fi
    done
    [ $missing = 0 ] || printf 'in: %s\n' "$text"
    return $missing
}

# fails COMMAND…: whether it fails, with its output.
fails() {
    if "$@" 2>&1; then
        echo "this should have failed: $*"
        return 1
    fi
}

# equal WHAT EXPECTED
equal() {
    [ "$1" = "$2" ] || {
        printf 'expected: %s\nbut it is: %s\n' "$2" "$1"
        return 1
    }
}

# The partition's directory.
log_dir() {
    local id
    id=$("$klamm" topic describe "$1" --output json | sed -n 's/^  "id": "\(.*\)",$/\1/p')
    echo "$data/logs/$id-${2:-0}"
}

# end_offset TOPIC: the sum over its partitions.
end_offset() {
    "$klamm" topic describe "$1" --output json | awk '/"end_offset":/ { sum += $2 } END { print sum }'
}

# all_batches_are CODEC TOPIC: in the files of the log. A client that misses an API in ApiVersions
# sends uncompressed, and says nothing.
all_batches_are() {
    local dump
    dump=$("$klamm" log dump "$(log_dir "$2")")
    equal "$(awk '{ for (i = 1; i <= NF; i++) if ($i == "bytes") print $(i + 1) }' <<<"$dump" | sort -u)" \
        "$(sed 's/^none$/uncompressed/' <<<"$1")"
}

. tests/kafka/tools-java.sh
. tests/kafka/tools-cluster.sh
. tests/kafka/tools-kcat.sh

cargo build
klamm=$target/debug/klamm
start_klamm "$klamm" "$work"
data=$work/data
export KLAMM_BOOTSTRAP=$klamm_native

# Lines that a text tool could spoil: empty, with spaces around, not ASCII, longer than a buffer.
{
    cat Cargo.lock src/*.rs
    printf '\n  between spaces  \n\ttab\nKlamm: Wasser fällt über Fels, 城\n'
    printf '%020000d\n' 1
} >"$work/lines"
lines=$(wc -l <"$work/lines")

if reason=$(java_lacks); then
    skip "Kafka's own tools" "$reason"
else
    bring_kafka
    check_kafkas_tools
fi
if reason=$(kcat_lacks); then
    skip kcat "$reason"
else
    check_kcat
fi

# Last: from here on, the addresses are those of three nodes.
java_lacks >/dev/null || check_kafkas_cluster_tools

# What the broker says of errors is an error that no tool has seen.
no_error_in_the_log() {
    ! grep -E ' (ERROR|WARN) ' "$work/server.log"
}
no_error_in_the_log || {
    echo 'fails: the broker logged the above'
    failed=$((failed + 1))
}

rows_of_the_document() {
    awk -v begin="$section_begin" -v end="$section_end" \
        '$0 == end { exit } is_in && /^\|/ && ++rows > 2; $0 == begin { is_in = 1 }' "$document"
}

# The table with the versions left out, since those of kcat are the machine's.
without_versions() {
    awk -F '|' 'NF == 6 { print $2 "|" $4 "|" $5 }'
}

if [ "$skipped" = 0 ]; then
    if [ "${KLAMM_UPDATE_DOCS:-0}" = 1 ]; then
        {
            awk -v end="$section_begin" '{ print } $0 == end { exit }' "$document"
            printf '\n| Client | Version | What | Result |\n|---|---|---|---|\n'
            cat "$work/rows"
            echo
            awk -v begin="$section_end" '$0 == begin { is_after = 1 } is_after' "$document"
        } >"$work/document"
        cat "$work/document" >"$document"
    elif ! diff <(rows_of_the_document | without_versions) \
        <(without_versions <"$work/rows"); then
        echo "fails: the table in $document is another one; KLAMM_UPDATE_DOCS=1 $0 writes it"
        failed=$((failed + 1))
    fi
fi

if [ "$skipped" = 0 ]; then
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
else
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
fi
[ "$failed" = 0 ]
