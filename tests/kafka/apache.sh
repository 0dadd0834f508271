# What tests/kafka/tools.sh and benches/compare-kafka.sh share: Apache Kafka's classes, brought by Maven,
# and a broker of Klamm on free ports. It is sourced, from the repository's directory.

# Where everything that is brought is kept; it stays from run to run.
target=${CARGO_TARGET_DIR:-target}
kafka_version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' tests/kafka/pom.xml)
kafka_lib=$target/kafka-$kafka_version/lib
# Kafka's tools and broker need it.
java_version_min=17
# How long a broker may take until it listens.
start_seconds_max=60

# Says what is missing for Kafka's classes, and succeeds if anything is.
java_lacks() {
    local version
    if ! command -v java >/dev/null; then
        echo 'there is no java'
    elif ! command -v mvn >/dev/null && [ ! -e "$kafka_lib/.complete" ]; then
        echo 'there is no mvn'
    else
        version=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
        [ "${version:-0}" -lt "$java_version_min" ] || return 1
        echo "java is of version ${version:-unknown}, and Kafka needs $java_version_min"
    fi
}

# Brings Kafka's classes, once.
bring_kafka() {
    [ ! -e "$kafka_lib/.complete" ] || return 0
    rm -rf "$kafka_lib"
    mkdir -p "$kafka_lib"
    mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies \
        -DoutputDirectory="$(cd "$kafka_lib" && pwd)"
    touch "$kafka_lib/.complete"
}

# now_ms: the time in milliseconds.
now_ms() {
    echo "${EPOCHREALTIME/[.,]/}" | sed 's/...$//'
}

# wait_until SECONDS PID LOG COMMAND…: until the command succeeds. Fails, and shows the log, when the
# process ends or the time is over.
wait_until() {
    local end=$(($(now_ms) + $1 * 1000)) pid=$2 log=$3
    shift 3
    until "$@"; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$(now_ms)" -gt "$end" ]; then
            echo "no success within time: $*" >&2
            cat "$log" >&2
            return 1
        fi
        sleep 0.02
    done
}

# start_klamm BINARY DIRECTORY: a broker on free ports, its data and log in the directory. Sets
# klamm_pid, klamm_native and klamm_kafka, the addresses for its own clients and for Kafka's. More
# settings come from the environment.
start_klamm() {
    local log=$2/server.log addresses
    mkdir -p "$2"
    KLAMM__LISTENERS__NATIVE__BIND=127.0.0.1:0 KLAMM__LISTENERS__KAFKA__BIND=127.0.0.1:0 \
        KLAMM__NODE__DATA_DIR="$2/data" "$1" server >"$log" 2>&1 &
    klamm_pid=$!
    wait_until "$start_seconds_max" "$klamm_pid" "$log" grep -q ' listens on ' "$log"
    addresses=$(sed -n "s/.* listens on \([^ ]*\) for Klamm's own clients, on \([^ ]*\) for Kafka's clients.*/\1 \2/p" "$log")
    read -r klamm_native klamm_kafka <<<"$addresses"
    [ -n "$klamm_kafka" ]
}

# stop PID…: ends processes that were started here, and waits for them. A process that doesn't heed
# SIGTERM for 20 seconds is killed.
stop() {
    local pid end
    for pid; do
        kill -TERM "$pid" 2>/dev/null || continue
        end=$(($(now_ms) + 20000))
        while kill -0 "$pid" 2>/dev/null && [ "$(now_ms)" -lt "$end" ]; do
            sleep 0.02
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
