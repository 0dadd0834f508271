# The checks of kcat, and so of the librdkafka in it. It is sourced by tools.sh.

# Says why there is no kcat, after an attempt to install it, and succeeds if there is none.
kcat_lacks() {
    ! command -v kcat >/dev/null || return 1
    if ! command -v apt-get >/dev/null; then
        echo 'there is no kcat, and no apt-get to install it with'
    elif [ "$(id -u)" != 0 ]; then
        echo 'there is no kcat, and only root can install it'
    elif { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y kcat; } >"$work/apt.log" 2>&1; then
        return 1
    else
        echo "there is no kcat, and apt-get can't install it: $(tail -1 "$work/apt.log")"
    fi
}

kc() {
    timeout "$check_seconds_max" kcat -q -b "$klamm_kafka" "$@"
}

check_kcat() {
    local version codec
    version=$(kcat -V | sed -n 's/^Version \([^ ]*\) (.*\(librdkafka [0-9.]*\).*/\1, \2/p')
    check kcat "$version" 'lists brokers and topics (-L)' kcat_lists
    for codec in $codecs; do
        check kcat "$version" "writes with $codec (-P): as such in the log, read back by kcat (-C) and by Klamm" \
            kcat_writes "$codec"
        check kcat "$version" "reads what Klamm wrote with $codec" kcat_reads "$codec"
    done
    check kcat "$version" 'writes with the idempotent producer, and with acks 0 and 1' kcat_acks
    check kcat "$version" 'keys, headers and null values' kcat_keys
    check kcat "$version" 'offsets of the beginning, the end and a time (-Q), and reads from offsets' kcat_offsets
    check kcat "$version" 'members of a group share a topic, and one goes on for the other (-G)' kcat_group
    check kcat "$version" 'shares a topic with `klamm consume --group`, and goes on for it (-G)' kcat_and_klamm_group
}

kcat_lists() {
    "$klamm" topic create kcat-list --partitions 3
    kc -L | says "broker 1 at $klamm_kafka \(controller\)" '"kcat-list" with 3 partitions' \
        'partition 2, leader 1, replicas: 1, isrs: 1'
}

kcat_writes() {
    local topic=kcat-writes-$1
    "$klamm" topic create "$topic"
    # kcat makes no records of empty lines.
    grep . "$work/lines" >"$work/full-lines"
    kc -P -t "$topic" -p 0 -z "$1" <"$work/full-lines"
    all_batches_are "$1" "$topic"
    kc -C -t "$topic" -p 0 -o beginning -e >"$work/read"
    cmp "$work/full-lines" "$work/read"
    "$klamm" consume "$topic" >"$work/read"
    cmp "$work/full-lines" "$work/read"
}

kcat_reads() {
    local topic=kcat-reads-$1
    "$klamm" topic create "$topic"
    "$klamm" produce "$topic" "$work/lines" --compression "$1"
    all_batches_are "$1" "$topic"
    kc -C -t "$topic" -o beginning -e -X check.crcs=true >"$work/read"
    cmp "$work/lines" "$work/read"
}

kcat_acks() {
    local properties
    "$klamm" topic create kcat-acks
    for properties in enable.idempotence=true acks=0 acks=1 acks=all; do
        seq 100 | kc -P -t kcat-acks -X "$properties"
    done
    kc -C -t kcat-acks -o beginning -c 400 >"$work/read"
    cmp <(for _ in 1 2 3 4; do seq 100; done) "$work/read"
}

kcat_keys() {
    "$klamm" topic create kcat-keys
    printf 'k1:v1\nk2:\n:v3\n' | kc -P -t kcat-keys -K : -Z -H colour=blue -H size=3
    kc -C -t kcat-keys -o beginning -e -f '%k|%K|%s|%S|%h|%o\n' >"$work/read"
    printf 'k1|2|v1|2|colour=blue,size=3|0\nk2|2||-1|colour=blue,size=3|1\n|-1|v3|2|colour=blue,size=3|2\n' |
        cmp - "$work/read"
    "$klamm" consume kcat-keys --output json |
        says '"key":"k1","value":"v1"' '"key":"k2","value":null' '"key":null,"value":"v3"' '"colour"'
}

kcat_offsets() {
    local times first time
    "$klamm" topic create kcat-offsets
    seq 1 10 | kc -P -t kcat-offsets
    # A later time for those that follow.
    first=$(now_ms)
    wait_until 5 $$ /dev/null later_than "$first"
    seq 11 20 | kc -P -t kcat-offsets
    times=$("$klamm" consume kcat-offsets --output json | sed 's/.*"timestamp":\([0-9]*\).*/\1/')
    time=$(sed -n 11p <<<"$times")
    equal "$(kc -Q -t kcat-offsets:0:-2)" 'kcat-offsets [0] offset 0'
    equal "$(kc -Q -t kcat-offsets:0:-1)" 'kcat-offsets [0] offset 20'
    equal "$(kc -Q -t "kcat-offsets:0:$time")" 'kcat-offsets [0] offset 10'
    equal "$(kc -Q -t "kcat-offsets:0:$((time + 3600000))")" 'kcat-offsets [0] offset -1'
    kc -C -t kcat-offsets -o 15 -c 2 | cmp - <(printf '16\n17\n')
    kc -C -t kcat-offsets -o -3 -e | cmp - <(printf '18\n19\n20\n')
    kc -C -t kcat-offsets -o "s@$time" -c 1 | cmp - <(echo 11)
}

later_than() {
    [ "$(now_ms)" -gt "$1" ]
}

kcat_group() {
    local first
    "$klamm" topic create kcat-group --partitions 2
    seq 1 10 | "$klamm" produce kcat-group --partition 0
    seq 11 20 | "$klamm" produce kcat-group --partition 1
    equal "$(kc -c 20 -X auto.offset.reset=earliest -G kcat-readers kcat-group | sort -n | xargs)" "$(seq 1 20 | xargs)"
    first=$("$klamm" group describe kcat-readers)
    says '^kcat-readers: Empty$' '^kcat-group +0 +10 +10 +0 ' '^kcat-group +1 +10 +10 +0 ' <<<"$first"
    seq 21 25 | "$klamm" produce kcat-group --partition 1
    equal "$(kc -c 5 -G kcat-readers kcat-group | xargs)" "$(seq 21 25 | xargs)"
}

# Both of them at work, each with one of the two partitions, and kcat with both when the other is gone.
kcat_and_klamm_group() {
    local consumer reader
    "$klamm" topic create kcat-shared --partitions 2
    "$klamm" consume kcat-shared --group kcat-sharing >"$work/shared-klamm" &
    consumer=$!
    # shellcheck disable=SC2064
    trap "kill -9 $consumer 2>/dev/null || true" EXIT
    # Not by kc, so that a signal reaches it.
    timeout "$check_seconds_max" kcat -q -u -b "$klamm_kafka" -G kcat-sharing -X auto.offset.reset=earliest \
        kcat-shared >"$work/shared-kcat" 2>"$work/shared-log" &
    reader=$!
    wait_until 30 $reader "$work/shared-log" owners 2
    seq 1 10 | "$klamm" produce kcat-shared --partition 0
    seq 11 20 | "$klamm" produce kcat-shared --partition 1
    wait_until 30 $reader "$work/shared-log" shared_lines 20
    kill "$consumer"
    wait "$consumer"
    wait_until 30 $reader "$work/shared-log" owners 1
    seq 21 30 | "$klamm" produce kcat-shared --partition 0
    seq 31 40 | "$klamm" produce kcat-shared --partition 1
    wait_until 30 $reader "$work/shared-log" shared_lines 40
    kill "$reader"
    wait "$reader" || true
}

# owners NUMBER: so many members own the two partitions.
owners() {
    local described
    described=$("$klamm" group describe kcat-sharing) || return 1
    [ "$(sed -n 's/^kcat-shared .* \([^ ]*\)$/\1/p' <<<"$described" | sort -u | grep -vxc -- -)" = "$1" ]
}

# shared_lines NUMBER: so many different ones came, all of them; each at least once.
shared_lines() {
    [ "$(sort -nu "$work/shared-klamm" "$work/shared-kcat" | xargs)" = "$(seq 1 "$1" | xargs)" ]
}
