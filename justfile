# The commands of everyday work. `just` alone lists them.

default:
    @just --list

# Format, lints and tests, as CI runs them
check:
    .ci/run

# The tests
test:
    cargo test

# The broker under load: start `klamm server` in a release build first
bench *ARGS:
    cargo run --release -- perf machine {{ARGS}}
    cargo run --release -- perf produce --partitions 6 --topic bench-100 --records 20000000 --with-machine {{ARGS}}
    cargo run --release -- perf produce --partitions 6 --topic bench-1k --records 2000000 --record-size 1024 --with-machine {{ARGS}}
    cargo run --release -- perf consume --partitions 6 --consumers 2 --topic bench-100 {{ARGS}}
    cargo run --release -- perf consume --partitions 6 --consumers 2 --topic bench-1k {{ARGS}}
    cargo run --release -- perf latency --topic bench-latency --records 2000 {{ARGS}}
    cargo run --release -- perf latency --topic bench-latency --records 2000 --acks 1 {{ARGS}}
    cargo run --release -- perf latency --topic bench-latency --records 1000000 --in-flight 256 {{ARGS}}
    cargo run --release -- perf latency --topic bench-spread --partitions 1000 --records 50000 --rate 5000 {{ARGS}}

# The tests that break actors, in a build that can
chaos:
    cargo test --features chaos

# The README's first steps, on free ports and a temporary directory
smoke:
    .ci/smoke

# kill -9 under load at random moments, so many rounds; a seed repeats a run
chaos-kill ROUNDS='20' SEED='1':
    KLAMM_ROUNDS={{ROUNDS}} KLAMM_SEED={{SEED}} cargo test --test broker crash -- --nocapture

# Power loss at random steps of the log, on a simulated file system, for so many seeds
power-loss SEEDS='20000':
    KLAMM_SEEDS={{SEEDS}} cargo test --release --lib power_loss -- --nocapture
