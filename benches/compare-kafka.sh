#!/usr/bin/env bash
# Klamm and Apache Kafka on this machine, one after the other, under the same load: Kafka's own
# generators (ProducerPerformance, ConsumerPerformance, EndToEndLatency) and librdkafka
# (benches/kafka_load.rs). It prints a table in Markdown; what it does meanwhile goes to stderr.
# It stands here, beside the load that it drives, because it measures: nothing of it can fail a test.
#
#   benches/compare-kafka.sh                                                     20 minutes at most
#   KLAMM_COMPARE_SCALE=0.1 KLAMM_COMPARE_ROUNDS=1 benches/compare-kafka.sh      about two minutes
#
# It needs Java 17 and Maven, which brings Kafka to the target directory, and what the tests need.
# Kafka has its scripts' JVM options and the defaults of its config, in KRaft mode.
#
#   KLAMM_COMPARE_NODES    1, or 3 for a cluster, whose topics have three replicas, of which two must be in sync
#   KLAMM_COMPARE_SCALE    a factor for the counts of records
#   KLAMM_COMPARE_ROUNDS   how often each broker is started and loaded; a cell is the rounds' median
#   KLAMM_COMPARE_SYSTEMS  which of: klamm kafka klamm-os kafka-flush
#   KLAMM_COMPARE_DIR      where data goes, by default under the target directory; not a memory file system
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/kafka/apache.sh

scale=${KLAMM_COMPARE_SCALE:-1}
rounds=${KLAMM_COMPARE_ROUNDS:-3}
nodes=${KLAMM_COMPARE_NODES:-1}
# A cluster's variants would have to share two cores between four systems' rounds.
[ "$nodes" = 1 ] && all_systems='klamm kafka klamm-os kafka-flush' || all_systems='klamm kafka'
systems=${KLAMM_COMPARE_SYSTEMS:-$all_systems}
dir=${KLAMM_COMPARE_DIR:-$target/compare-kafka}

# Bytes that a row of batched records writes, and reads back.
row_bytes=1024000000
# How long the rows of a fixed rate last.
rate_seconds=10
# The same for the variants, of which one may sync for each batch.
variant_row_bytes=256000000
variant_rate_seconds=4
end_to_end_records=2000
partitions=6
# A consumer whose queue is full asks for nothing for a while, by default for a second: that would be
# measured instead of the broker.
consumer_setting=fetch.queue.backoff.ms=2
# No row takes longer.
row_seconds_max=300
# A pause after which a broker counts as idle.
idle_seconds=2
# Ports are looked for from here on.
first_port=23000

# As in Kafka's scripts.
jvm_options=(-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
broker_heap=(-Xmx1G -Xms1G)
generator_heap=(-Xmx512M)
cluster_id=MkU3OEVBNTcwNTJENDM2Qk

if reason=$(java_lacks); then
    echo "compare-kafka: $reason" >&2
    exit 1
fi
bring_kafka
cargo build --release >&2
klamm=$target/release/klamm
load=$(cargo bench --bench kafka_load --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ -x "$load" ] || {
    echo 'compare-kafka: kafka_load could not be built: cargo bench --bench kafka_load --no-run says why' >&2
    exit 1
}
mkdir -p "$dir"
work=$(mktemp -d "$dir/run.XXXXXX")
# The nodes' processes.
brokers=()
trap 'stop "${brokers[@]}"; rm -rf "$work"' EXIT

say() {
    echo "compare-kafka: $*" >&2
}

# scaled NUMBER: at least 1.
scaled() {
    awk -v number="$1" -v scale="$scale" 'BEGIN { number = int(number * scale); print number < 1 ? 1 : number }'
}

# row LABEL VALUE: one round's value for the system that runs; it is a number, or empty.
row() {
    printf '%s\t%s\t%s\n' "$1" "$system" "$2" >>"$work/results"
    printf '  %s: %s\n' "$1" "${2:--}" >&2
}

# value NAME: out of a line of name=value words on stdin.
value() {
    tr ' ' '\n' | sed -n "s/^$1=//p"
}

free_port() {
    while (exec 3<>"/dev/tcp/127.0.0.1/$first_port") 2>/dev/null; do
        first_port=$((first_port + 1))
    done
    port=$first_port
    first_port=$((first_port + 1))
}

# The CPU time of all nodes in ticks.
cpu_ticks() {
    local broker
    for broker in "${brokers[@]}"; do
        sed 's/.*) //' "/proc/$broker/stat"
    done | awk '{ ticks += $12 + $13 } END { print ticks }'
}

# Of the node that has most.
memory_mib() {
    local broker
    for broker in "${brokers[@]}"; do
        awk -v name="$1:" '$1 == name { printf "%.0f\n", $2 / 1024 }' "/proc/$broker/status"
    done | sort -n | tail -1
}

# with_cpu LABEL RECORDS COMMAND…: the command's output and how many cores it has used itself, and a row
# of what it cost the broker. If the command fails there is none of it: the system can't do it.
with_cpu() {
    local label=$1 records=$2 before TIMEFORMAT='%R %U %S'
    shift 2
    before=$(cpu_ticks)
    { time measured=$("$@" 2>>"$work/generators.log"); } 2>"$work/time" || {
        say "$system can't: $*"
        tail -3 "$work/generators.log" >&2
        measured=
        generator_cores=
        row "$label" ''
        return 0
    }
    generator_cores=$(awk '{ printf "%.2f\n", ($2 + $3) / $1 }' "$work/time")
    row "$label" "$(awk -v ticks=$(($(cpu_ticks) - before)) -v records="$records" -v hz="$(getconf CLK_TCK)" \
        'BEGIN { printf "%.2f\n", ticks / hz / records * 1e6 }')"
}

librdkafka() {
    timeout "$row_seconds_max" "$load" "$1" --bootstrap "$address" "${@:2}"
}

java_tool() {
    timeout "$row_seconds_max" java "${generator_heap[@]}" "${jvm_options[@]}" -cp "$kafka_lib/*" \
        "org.apache.kafka.tools.$1" "${@:2}"
}

# The memory of a virtual machine costs whoever uses a page of it first. So that it isn't the one who
# comes first who pays, all that is free is touched before anybody starts.
touch_memory() {
    local mib
    mib=$(awk '/^MemFree/ { printf "%d", $2 / 1024 * 0.85 }' /proc/meminfo)
    java "-Xms${mib}m" "-Xmx${mib}m" -XX:+AlwaysPreTouch -version >>"$work/generators.log" 2>&1
}

# start_brokers: sets brokers and address, and says how long it took until all answered.
start_brokers() {
    local home=$work/$system begin number all peers=() clients=()
    for number in $(seq "$nodes"); do
        mkdir -p "$home/$number"
        free_port
        clients+=("127.0.0.1:$port")
        free_port
        peers+=("$number@127.0.0.1:$port")
    done
    all=$(IFS=,; echo "${peers[*]}")
    case $system in
    kafka*) for number in $(seq "$nodes"); do prepare_kafka; done ;;
    esac
    begin=$(now_ms)
    for number in $(seq "$nodes"); do
        case $system in
        kafka*) start_kafka ;;
        *) start_klamm_node ;;
        esac
        brokers+=($!)
    done
    for number in $(seq "$nodes"); do
        address=${clients[number - 1]}
        librdkafka ready || {
            cat "$home/$number/log" >&2
            return 1
        }
    done
    address=$(IFS=,; echo "${clients[*]}")
    row 'start with no data, ms' $(($(now_ms) - begin))
}

# How many replicas must be in sync.
in_sync() {
    echo $(((nodes + 1) / 2))
}

start_kafka() {
    java "${broker_heap[@]}" "${jvm_options[@]}" -cp "$kafka_lib/*" kafka.Kafka \
        "$home/$number/server.properties" >"$home/$number/log" 2>&1 &
}

start_klamm_node() {
    local cluster=()
    [ "$nodes" = 1 ] || cluster=(KLAMM__CLUSTER__NODES="$all"
        KLAMM__CLUSTER__SECRET='a secret of this comparison, and of no cluster'
        KLAMM__LISTENERS__PEER__BIND="${peers[number - 1]#*@}")
    env "${cluster[@]}" KLAMM__NODE__ID="$number" KLAMM__LISTENERS__NATIVE__BIND=127.0.0.1:0 \
        KLAMM__LISTENERS__KAFKA__BIND="${clients[number - 1]}" KLAMM__NODE__DATA_DIR="$home/$number/data" \
        KLAMM__LOG__FLUSH="$flush" KLAMM__TOPICS__DEFAULT_REPLICATION_FACTOR="$nodes" \
        KLAMM__TOPICS__MIN_INSYNC_REPLICAS="$(in_sync)" "$klamm" server >"$home/$number/log" 2>&1 &
}

prepare_kafka() {
    local client=${clients[number - 1]} directory=$home/$number
    cat >"$directory/server.properties" <<P
process.roles=broker,controller
node.id=$number
controller.quorum.voters=$all
listeners=PLAINTEXT://$client,CONTROLLER://${peers[number - 1]#*@}
advertised.listeners=PLAINTEXT://$client
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$directory/data
default.replication.factor=$nodes
min.insync.replicas=$(in_sync)
offsets.topic.replication.factor=$nodes
transaction.state.log.replication.factor=$nodes
transaction.state.log.min.isr=$(in_sync)
share.coordinator.state.topic.replication.factor=$nodes
share.coordinator.state.topic.min.isr=$(in_sync)
group.initial.rebalance.delay.ms=0
P
    java -cp "$kafka_lib/*" kafka.tools.StorageTool format -t "$cluster_id" -c "$directory/server.properties" \
        >"$directory/format.log" 2>&1 || {
        cat "$directory/format.log" >&2
        return 1
    }
}

create_topic() {
    librdkafka create --topic "$1" --partitions "$2" "${topic_configs[@]}"
}

# Batched records of one size, in and out again.
batched() {
    local size=$1 name=$2 records
    records=$(scaled $((bytes / size)))
    create_topic "lib-$size" "$partitions"
    with_cpu "produce $name, librdkafka: CPU s per million" "$records" \
        librdkafka produce --topic "lib-$size" --records "$records" --size "$size"
    row "produce $name, librdkafka: records/s" "$(value records_s <<<"$measured")"
    row "produce $name, librdkafka: cores that the generator had" "$generator_cores"
    with_cpu "consume $name, librdkafka: CPU s per million" "$records" \
        librdkafka consume --topic "lib-$size" --records "$records" --set "$consumer_setting"
    row "consume $name, librdkafka: records/s" "$(value records_s <<<"$measured")"
    row "consume $name, librdkafka: cores that the generator had" "$generator_cores"
    [ "$nodes" = 1 ] || return 0

    # Of Java's tools the variants meet only the producer.
    create_topic "java-$size" "$partitions"
    with_cpu "produce $name, Java: CPU s per million" "$records" \
        java_tool ProducerPerformance --bootstrap-server "$address" --topic "java-$size" --num-records "$records" \
        --record-size "$size" --throughput -1 --command-property acks=all batch.size=262144
    row "produce $name, Java: records/s" "$(sed -n 's/^.* sent, \([0-9.]*\) records.*99.9th\..*/\1/p' <<<"$measured")"
    [ "$with_java" = 1 ] || return 0
    if [ "$has_groups" = 0 ]; then
        row "consume $name, Java: CPU s per million" ''
        row "consume $name, Java: records/s" ''
        return 0
    fi
    with_cpu "consume $name, Java: CPU s per million" "$records" \
        java_tool ConsumerPerformance --bootstrap-server "$address" --topic "java-$size" --num-records "$records" --hide-header
    row "consume $name, Java: records/s" "$(sed -n '$s/.*, //p' <<<"$measured")"
}

# A row that asks for a rate tells which one it got: who can't do it is late for everybody.
fixed_rates() {
    local records
    create_topic one-record 1
    records=$(scaled $((4000 * seconds)))
    with_cpu '4,000/s of 100 B, each its own request, librdkafka: CPU s per million' "$records" \
        librdkafka produce --topic one-record --records "$records" --size 100 --rate 4000 \
        --set linger.ms=0 --set batch.num.messages=1
    row '4,000/s of 100 B, each its own request, librdkafka: records/s' "$(value records_s <<<"$measured")"
    row '4,000/s of 100 B, each its own request, librdkafka: p50, ms' "$(value p50_ms <<<"$measured")"
    row '4,000/s of 100 B, each its own request, librdkafka: p99, ms' "$(value p99_ms <<<"$measured")"

    create_topic rate "$partitions"
    records=$(scaled $((10000 * seconds)))
    with_cpu '10,000/s of 1 KiB, librdkafka: CPU s per million' "$records" \
        librdkafka produce --topic rate --records "$records" --size 1024 --rate 10000 --set linger.ms=0
    row '10,000/s of 1 KiB, librdkafka: records/s' "$(value records_s <<<"$measured")"
    row '10,000/s of 1 KiB, librdkafka: p50, ms' "$(value p50_ms <<<"$measured")"
    row '10,000/s of 1 KiB, librdkafka: p99, ms' "$(value p99_ms <<<"$measured")"
    [ "$with_java" = 1 ] || return 0

    with_cpu '10,000/s of 1 KiB, Java: CPU s per million' "$records" \
        java_tool ProducerPerformance --bootstrap-server "$address" --topic rate --num-records "$records" \
        --record-size 1024 --throughput 10000 --warmup-records $((records / 5)) --command-property acks=all linger.ms=0
    # The last line is the one without the warm-up, in whole milliseconds.
    row '10,000/s of 1 KiB, Java: p50, ms' "$(sed -n 's/.* \([0-9.]*\) ms 50th.*/\1/p' <<<"$measured" | tail -1)"
    row '10,000/s of 1 KiB, Java: p99, ms' "$(sed -n 's/.* \([0-9.]*\) ms 99th.*/\1/p' <<<"$measured" | tail -1)"
}

# What nodes that share the cores can be asked for.
cluster_rates() {
    local records
    create_topic one-record 1
    records=$(scaled 20000)
    with_cpu '100 B, each its own request, as many as go, librdkafka: CPU s per million' "$records" \
        librdkafka produce --topic one-record --records "$records" --size 100 \
        --set linger.ms=0 --set batch.num.messages=1
    row '100 B, each its own request, as many as go, librdkafka: records/s' "$(value records_s <<<"$measured")"

    create_topic rate "$partitions"
    records=$(scaled $((2000 * seconds)))
    with_cpu '2,000/s of 1 KiB, librdkafka: CPU s per million' "$records" \
        librdkafka produce --topic rate --records "$records" --size 1024 --rate 2000 --set linger.ms=0
    row '2,000/s of 1 KiB, librdkafka: records/s' "$(value records_s <<<"$measured")"
    row '2,000/s of 1 KiB, librdkafka: p50, ms' "$(value p50_ms <<<"$measured")"
    row '2,000/s of 1 KiB, librdkafka: p99, ms' "$(value p99_ms <<<"$measured")"
}

end_to_end() {
    local records
    records=$(scaled "$end_to_end_records")
    create_topic end-to-end 1
    with_cpu 'end to end, one at a time, librdkafka: CPU s per million' "$records" \
        librdkafka end-to-end --topic end-to-end --records "$records" \
        --set linger.ms=0
    row 'end to end, one at a time, librdkafka: mean, ms' "$(value mean_ms <<<"$measured")"
    row 'end to end, one at a time, librdkafka: p99, ms' "$(value p99_ms <<<"$measured")"
    [ "$with_java" = 1 ] || return 0

    create_topic java-end-to-end 1
    # Its last act is to commit an offset: without groups that fails after this time, and it has measured.
    echo default.api.timeout.ms=3000 >"$work/end-to-end.properties"
    measured=$(java_tool EndToEndLatency --bootstrap-server "$address" --topic java-end-to-end \
        --num-records "$records" --producer-acks all --record-size 100 \
        --command-config "$work/end-to-end.properties" 2>>"$work/generators.log") || [ "$has_groups" = 0 ]
    row 'end to end, one at a time, Java: mean, ms' "$(sed -n 's/^Avg latency: \([0-9.]*\) ms.*/\1/p' <<<"$measured")"
    row 'end to end, one at a time, Java: p99, ms' "$(sed -n 's/.*99th = \([0-9]*\),.*/\1/p' <<<"$measured")"
}

# One start of one system under all loads.
run_system() {
    local is_variant=0 with_java=1 flush=synced topic_configs=() bytes=$row_bytes seconds=$rate_seconds has_groups=1
    case $system in
    klamm-os) is_variant=1 flush=os ;;
    kafka-flush) is_variant=1 topic_configs=(--config flush.messages=1) ;;
    esac
    if [ $is_variant = 1 ]; then
        bytes=$variant_row_bytes
        seconds=$variant_rate_seconds
        with_java=0
    fi
    [ "$nodes" = 1 ] || with_java=0
    say "round $round of $rounds: $system"
    touch_memory
    start_brokers
    sleep "$idle_seconds"
    row 'memory idle (RSS), MiB' "$(memory_mib VmRSS)"
    # ConsumerPerformance joins a group, for which a broker needs JoinGroup.
    java_tool BrokerApiVersionsCommand --bootstrap-server "$address" 2>>"$work/generators.log" |
        grep -q 'JoinGroup(11): [0-9]' || has_groups=0
    batched 100 '100 B'
    batched 1024 '1 KiB'
    batched 16384 '16 KiB'
    case $nodes in
    1) fixed_rates ;;
    *) cluster_rates ;;
    esac
    end_to_end
    row 'memory after the loads (RSS), MiB' "$(memory_mib VmRSS)"
    row 'memory at most (RSS), MiB' "$(memory_mib VmHWM)"
    stop "${brokers[@]}"
    brokers=()
    rm -rf "${work:?}/$system"
}

disk() {
    say "the disk, $1 the rounds"
    "$klamm" perf machine --dir "$dir" | sed -n "s/^disk, /- disk, $1: /p" | tr -s ' '
}

# Rows in the order in which they came up first; a cell is the median of its rounds, and their range.
table() {
    awk -F '\t' -v systems="$systems" '
        BEGIN {
            title["klamm"] = "Klamm"; title["kafka"] = "Kafka"
            title["klamm-os"] = "Klamm, log.flush=os"; title["kafka-flush"] = "Kafka, flush.messages=1"
        }
        !($1 in seen) { seen[$1]; labels[++count] = $1 }
        $3 != "" { values[$1, $2] = values[$1, $2] " " $3 }
        function shown(number) {
            if (number >= 1000) return sprintf("%.0f", number)
            return sprintf(number >= 100 ? "%.0f" : number >= 10 ? "%.1f" : "%.2f", number)
        }
        function cell(text,    n, i, j, numbers, swap) {
            n = split(text, numbers, " ")
            if (n == 0) return "-"
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && numbers[j - 1] + 0 > numbers[j] + 0; j--) {
                    swap = numbers[j]; numbers[j] = numbers[j - 1]; numbers[j - 1] = swap
                }
            if (n == 1) return shown(numbers[1])
            return shown(numbers[int((n + 1) / 2)]) " (" shown(numbers[1]) " to " shown(numbers[n]) ")"
        }
        END {
            n = split(systems, names, " ")
            head = "| |"; rule = "|---|"
            for (i = 1; i <= n; i++) { head = head " " title[names[i]] " |"; rule = rule "---|" }
            print head; print rule
            for (l = 1; l <= count; l++) {
                line = "| " labels[l] " |"
                for (i = 1; i <= n; i++) line = line " " cell(values[labels[l], names[i]]) " |"
                print line
            }
        }' "$work/results"
}

reversed() {
    local word all=
    for word; do all="$word $all"; done
    echo "$all"
}

begin=$(now_ms)
load_average=$(cut -d ' ' -f 1 /proc/loadavg)
disk before >"$work/disk"
for round in $(seq "$rounds"); do
    # Who comes first changes from round to round.
    order=$systems
    # shellcheck disable=SC2086 # They are separate words.
    [ $((round % 2)) = 1 ] || order=$(reversed $systems)
    for system in $order; do
        run_system
    done
done
disk after >>"$work/disk"

cat <<T
Apache Kafka $kafka_version (KRaft, nodes: $nodes, ${broker_heap[*]}, its defaults) and Klamm $(git describe --always --dirty 2>/dev/null || true), on
$(nproc) cores of $(uname -sm) with $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(date -u +%F); the load runs on the same cores. acks=all,
$partitions partitions where records are batched, one otherwise. **Klamm syncs before it acknowledges; Kafka at its
defaults does not**, and \`flush.messages=1\` makes it. The variants write less. Medians of the
rounds ($rounds), least and greatest in brackets; scale $scale, $((($(now_ms) - begin) / 1000)) s. Load average before it began: $load_average.
Free memory was touched before each start.

- generators: librdkafka $(awk '/name = "rdkafka-sys"/ { getline; gsub(/[^0-9.+]/, ""); sub(/.*\+/, ""); print }' Cargo.lock) ($consumer_setting to consume), and Kafka's ProducerPerformance
  (batch.size=262144 where records are batched), ConsumerPerformance and EndToEndLatency. A rate's rows have
  linger.ms=0, and leave out the first fifth. \`-\` is what the broker can't do, or what isn't run with a variant
$(cat "$work/disk")

$(table)
T
