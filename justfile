# The commands of everyday work. `just` alone lists them.

default:
    @just --list

# Format, lints and tests, as CI runs them
check:
    .ci/run

# The tests
test:
    cargo test

# The README's figures: start `klamm server` in a release build first, on an empty data directory
bench *ARGS:
    cargo run --release -- perf machine
    cargo run --release -- perf connections --idle 1000 {{ARGS}}
    cargo run --release -- perf connections --long-poll 1000 {{ARGS}}
    cargo run --release -- perf produce --partitions 6 --topic b100 --records 20000000 --with-machine {{ARGS}}
    cargo run --release -- perf produce --partitions 6 --topic b1k --records 2000000 --record-size 1024 --with-machine {{ARGS}}
    cargo run --release -- perf consume --partitions 6 --topic b100 --rounds 3 {{ARGS}}
    cargo run --release -- perf consume --partitions 6 --topic b1k --rounds 3 {{ARGS}}
    cargo run --release -- perf latency --topic lat --records 1000000 --in-flight 256 --with-machine {{ARGS}}
    cargo run --release -- perf latency --topic spread --partitions 1000 --records 50000 --rate 5000 --with-machine {{ARGS}}
    cargo run --release -- perf latency --topic lat --records 2000 --acks 1 {{ARGS}}
    cargo run --release -- perf latency --topic lat --records 2000 --with-machine {{ARGS}}

# Apache Kafka and this broker under the same load, as a table; KLAMM_COMPARE_SCALE=0.1 for a short run
compare-kafka:
    benches/compare-kafka.sh

# The same with three nodes each
compare-kafka-cluster:
    KLAMM_COMPARE_NODES=3 benches/compare-kafka.sh

# How long writers wait when a node goes
failover ROUNDS='20':
    cargo bench --bench failover -- {{ROUNDS}}

# How long three nodes take to be whole again: a wiped node, thousands of partitions
recovery *ARGS:
    cargo bench --bench recovery -- {{ARGS}}

# What groups cost: members that go, coordinators that die, commits, loading
groups *ARGS:
    cargo bench --bench groups -- {{ARGS}}

# Compaction: a log alone, and a broker to which somebody writes meanwhile
compaction *ARGS:
    cargo bench --bench compaction -- {{ARGS}}

# All tests again, in a build that can break actors by name
chaos-actors:
    cargo test --features chaos

# Three real nodes and whatever can befall them, for so many minutes; a seed repeats the faults
chaos MINUTES='60' SEED='1':
    KLAMM_CHAOS_SECONDS=$(({{MINUTES}} * 60)) KLAMM_SEED={{SEED}} cargo test --features chaos --test chaos -- --nocapture

# The README's first steps, on free ports and a temporary directory
smoke:
    .ci/smoke

# Apache Kafka's own tools and kcat against a broker; KLAMM_UPDATE_DOCS=1 writes their table
kafka-tools:
    tests/kafka/tools.sh

# kill -9 under load at random moments, so many rounds; a seed repeats a run
chaos-kill ROUNDS='20' SEED='1':
    KLAMM_ROUNDS={{ROUNDS}} KLAMM_SEED={{SEED}} cargo test --test broker crash -- --nocapture

# Three real nodes, of which so many are killed in a row while clients write; a seed repeats a run
chaos-cluster ROUNDS='20' SEED='1':
    KLAMM_ROUNDS={{ROUNDS}} KLAMM_SEED={{SEED}} cargo test --test cluster -- --nocapture --test-threads 1

# The simulator of replication, for so many seeds
sim SEEDS='100000':
    KLAMM_SEEDS={{SEEDS}} cargo test --release --test sim -- --nocapture

# Power loss at random steps of the log, on a simulated file system, for so many seeds
power-loss SEEDS='20000':
    KLAMM_SEEDS={{SEEDS}} cargo test --release --lib power_loss -- --nocapture
