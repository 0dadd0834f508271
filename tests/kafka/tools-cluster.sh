# The checks of Apache Kafka's tools that need three nodes. It is sourced by tools.sh.

cluster_pids=()

# start_cluster: three nodes on free ports, in directories of their own. Sets klamm_kafka and klamm_native to
# the addresses of all, and cluster_pids.
start_cluster() {
    local base=$((10000 + RANDOM % 20000)) n nodes= natives= kafkas= log
    for n in 1 2 3; do nodes+=${nodes:+,}$n@127.0.0.1:$((base + n)); done
    for n in 1 2 3; do
        mkdir -p "$work/node-$n"
        KLAMM__NODE__ID=$n KLAMM__CLUSTER__NODES=$nodes KLAMM__CLUSTER__SECRET='a secret of the checks of tools.sh, and of no cluster' \
            KLAMM__LISTENERS__PEER__BIND=127.0.0.1:$((base + n)) KLAMM__LISTENERS__NATIVE__BIND=127.0.0.1:0 \
            KLAMM__LISTENERS__KAFKA__BIND=127.0.0.1:0 KLAMM__TOPICS__MIN_INSYNC_REPLICAS=1 \
            KLAMM__NODE__DATA_DIR="$work/node-$n/data" "$klamm" server >"$work/node-$n/server.log" 2>&1 &
        cluster_pids+=($!)
    done
    for n in 1 2 3; do
        log=$work/node-$n/server.log
        wait_until "$start_seconds_max" "${cluster_pids[n - 1]}" "$log" grep -q ' listens on ' "$log"
        natives+=${natives:+,}$(sed -n "s/.* listens on \([^ ]*\) for Klamm's own clients.*/\1/p" "$log")
        kafkas+=${kafkas:+,}$(sed -n "s/.*own clients, on \([^ ]*\) for Kafka's clients.*/\1/p" "$log")
    done
    klamm_native=$natives
    klamm_kafka=$kafkas
    export KLAMM_BOOTSTRAP=$natives
}

check_kafkas_cluster_tools() {
    start_cluster
    java_check TopicCommand 'creates a topic with replicas by hand on three nodes, and adds partitions to it by hand' cluster_topic
    java_check ReassignPartitionsCommand 'generates, executes, lists, verifies and cancels, with more replicas and under a throttle too' reassign_partitions
    java_check LeaderElectionCommand 'elects preferred leaders, of one partition and of all, and says what needs none' leader_election
    java_check MetadataQuorumCommand 'describes the status and the replication of the quorum' metadata_quorum
    java_check ClusterTool 'unregisters a broker that is gone, and is refused for one that is there' unregister
    stop "${cluster_pids[@]}"
}

cluster_topic() {
    at TopicCommand --create --topic placed --replica-assignment 1:2,2:3
    at TopicCommand --alter --topic placed --partitions 3 --replica-assignment 1:2,2:3,3:1
    at TopicCommand --describe --topic placed | says 'Partition: 0.*Leader: 1.*Replicas: 1,2.*Isr: 1,2' \
        'Partition: 1.*Leader: 2.*Replicas: 2,3' 'Partition: 2.*Leader: 3.*Replicas: 3,1'
    fails at TopicCommand --create --topic unplaced --replica-assignment 1:9 | says 'InvalidReplicaAssignmentException'
}

reassign() {
    at reassign.ReassignPartitionsCommand "$@"
}

# The one of FILE isn't under way any more.
has_moved() {
    reassign --verify --reassignment-json-file "$1" >"$work/verified" 2>&1
    ! grep -q 'still in progress' "$work/verified"
}

reassign_partitions() {
    at TopicCommand --create --topic moved --replica-assignment 1:2
    "$klamm" produce moved "$work/lines"
    echo '{"version":1,"topics":[{"topic":"moved"}]}' >"$work/topics.json"
    reassign --generate --topics-to-move-json-file "$work/topics.json" --broker-list 2,3 |
        says '^Current partition replica assignment' '"replicas":\[1,2\]' '^Proposed partition reassignment configuration' \
            '"replicas":\[(2,3|3,2)\]'
    echo '{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[2,3]}]}' >"$work/move.json"
    reassign --execute --reassignment-json-file "$work/move.json" | says '^Successfully started partition reassignment for moved-0'
    wait_until 60 $$ "$work/verified" has_moved "$work/move.json"
    says '^Reassignment of partition moved-0 is completed' <"$work/verified"
    reassign --list | says '^No partition reassignments found'
    at TopicCommand --describe --topic moved | says 'Replicas: 2,3.*Isr: (2,3|3,2)'
    "$klamm" consume moved >"$work/read"
    cmp "$work/lines" "$work/read"
    # More replicas; and what can't be.
    sed -i 's/\[2,3\]/[1,2,3]/' "$work/move.json"
    fails reassign --execute --disallow-replication-factor-change --reassignment-json-file "$work/move.json" |
        says 'InvalidReplicationFactorException|replication factor is changed from 2 to 3'
    reassign --execute --reassignment-json-file "$work/move.json"
    wait_until 60 $$ "$work/verified" has_moved "$work/move.json"
    at TopicCommand --describe --topic moved | says 'Replicas: 1,2,3.*Isr: .*,.*,'
    # Under a throttle, which is removed when all is there.
    echo '{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[1,2]}]}' >"$work/move.json"
    reassign --execute --reassignment-json-file "$work/move.json"
    wait_until 60 $$ "$work/verified" has_moved "$work/move.json"
    echo '{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[2,3]}]}' >"$work/move.json"
    reassign --execute --throttle 1000000 --reassignment-json-file "$work/move.json" |
        says '^The inter-broker throttle limit was set to 1000000 B/s'
    configs --describe --entity-type topics --entity-name moved |
        says 'follower.replication.throttled.replicas=0:3' 'leader.replication.throttled.replicas=0:[12],0:[12]'
    configs --describe --entity-type brokers --entity-name 3 | says 'follower.replication.throttled.rate=1000000'
    wait_until 60 $$ "$work/verified" has_moved "$work/move.json"
    says '^Clearing broker-level throttles' '^Clearing topic-level throttles' <"$work/verified"
    configs --describe --entity-type topics --entity-name moved >"$work/configs"
    fails grep throttled "$work/configs"
    configs --describe --entity-type brokers --entity-name 3 >"$work/configs"
    fails grep throttled "$work/configs"
    # One that waits for a node that is stopped can be cancelled.
    at TopicCommand --create --topic waiting --replica-assignment 1:2
    kill -STOP "${cluster_pids[2]}"
    echo '{"version":1,"partitions":[{"topic":"waiting","partition":0,"replicas":[3,2]}]}' >"$work/move.json"
    # An answer may not come before the node is fenced, so Klamm's own tool asks.
    "$klamm" topic reassign execute --file "$work/move.json"
    "$klamm" topic reassign list --output json | says '"adding": \['
    kill -CONT "${cluster_pids[2]}"
    wait_until 60 $$ "$work/verified" has_moved "$work/move.json"
    sed -i 's/\[3,2\]/[1,2]/' "$work/move.json"
    reassign --cancel --reassignment-json-file "$work/move.json" |
        says 'None of the specified partition reassignments are active|No partition reassignments'
}

leader_election() {
    at TopicCommand --create --topic elected --replica-assignment 1:2,1:3
    # Another order of the replicas is another preferred leader.
    echo '{"version":1,"partitions":[{"topic":"elected","partition":0,"replicas":[2,1]},{"topic":"elected","partition":1,"replicas":[3,1]}]}' >"$work/order.json"
    "$klamm" topic reassign execute --file "$work/order.json" --wait
    at LeaderElectionCommand --election-type preferred --topic elected --partition 0 |
        says 'Successfully completed leader election \(PREFERRED\) for partitions elected-0|Valid replica already elected for partitions elected-0'
    at LeaderElectionCommand --election-type preferred --all-topic-partitions
    at TopicCommand --describe --topic elected | says 'Partition: 0.*Leader: 2' 'Partition: 1.*Leader: 3'
    at LeaderElectionCommand --election-type preferred --topic elected --partition 0 |
        says 'Valid replica already elected for partitions elected-0'
    at LeaderElectionCommand --election-type unclean --topic elected --partition 1 |
        says 'Valid replica already elected for partitions elected-1'
}

metadata_quorum() {
    at MetadataQuorumCommand describe --status >"$work/status"
    says '^ClusterId: ' '^LeaderId: +[123]$' '^LeaderEpoch: +[1-9]' '^HighWatermark: +[1-9]' \
        '^CurrentVoters: .*"id": 1.*"id": 2.*"id": 3' '^CurrentObservers: +\[\]' <"$work/status"
    at MetadataQuorumCommand describe --replication --human-readable >"$work/replication"
    equal "$(grep -cE '^[123][[:space:]].*(Leader|Follower)[[:space:]]*$' "$work/replication")" 3
    equal "$(grep -cE '^[123][[:space:]].*Leader[[:space:]]*$' "$work/replication")" 1
}

# The first node, which ends.
unregister() {
    fails tool org.apache.kafka.tools.ClusterTool unregister --bootstrap-server "$klamm_kafka" --id 1 | says 'InvalidRequestException|INVALID_REQUEST'
    kill -TERM "${cluster_pids[0]}"
    wait_until 20 $$ /dev/null is_fenced 1
    tool org.apache.kafka.tools.ClusterTool unregister --bootstrap-server "$klamm_kafka" --id 1 | says 'Broker 1 is no longer registered'
    # Who is asked may hear of it a moment later.
    wait_until 20 $$ /dev/null brokers_are 2
}

brokers_are() {
    [ "$("$klamm" cluster status --output json | grep -c '"host":')" = "$1" ]
}

is_fenced() {
    "$klamm" cluster status --output json | grep -A 4 "\"id\": $1," | grep -q '"fenced": true'
}
