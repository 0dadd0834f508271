# The checks of Apache Kafka's own tools. It is sourced by tools.sh.

# A tool is short-lived: what costs time is the start of its JVM. An archive of the classes that some of
# them load halves it. The client's warnings go to stderr.
java_options=(-Xmx256M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xlog:disable -Xlog:all=error:stderr
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn)
class_archive=$target/kafka-$kafka_version/tools.jsa

tool() {
    timeout "$check_seconds_max" java "${java_options[@]}" -XX:SharedArchiveFile="$class_archive" \
        -cp "$kafka_lib/*" "$@"
}

# at CLASS [OPTION…]: a tool of org.apache.kafka.tools, at the broker.
at() {
    local class=$1
    shift
    tool "org.apache.kafka.tools.$class" --bootstrap-server "$klamm_kafka" "$@"
}

configs() {
    tool kafka.admin.ConfigCommand --bootstrap-server "$klamm_kafka" "$@"
}

# consume TOPIC PARTITION OFFSET MESSAGES [OPTION…]
consume() {
    local topic=$1 partition=$2 offset=$3 messages=$4
    shift 4
    at consumer.ConsoleConsumer --topic "$topic" --partition "$partition" --offset "$offset" \
        --max-messages "$messages" --timeout-ms 20000 "$@"
}

offsets() {
    at GetOffsetShell --topic-partitions "$1" --time "$2"
}

check_kafkas_tools() {
    local codec
    [ "$class_archive" -nt "$kafka_lib/.complete" ] || archive_classes
    java_check TopicCommand 'creates a topic with partitions and configs, lists and describes it' topic_create
    java_check TopicCommand 'adds partitions' topic_alter
    java_check TopicCommand 'deletes a topic, and says that it is unknown then' topic_delete
    java_check TopicCommand "shows Kafka's errors: the topic exists, too many replicas, an invalid config" topic_refused
    java_check ConfigCommand "describes and alters a topic's configs: adds, changes, deletes" config_topic
    java_check ConfigCommand "describes a broker's configs" config_broker
    java_check ConfigCommand 'shows that an unknown or impossible config is refused' config_refused
    for codec in $codecs; do
        java_check ConsoleProducer "writes with $codec: as such in the log, and byte for byte what Klamm reads" \
            console_produce "$codec"
    done
    for codec in $codecs; do
        java_check ConsoleConsumer "reads byte for byte what Klamm wrote with $codec" console_consume "$codec"
    done
    java_check ConsoleProducer 'keys, headers and null values, as Klamm reads them; acks 0 and 1' console_keys
    java_check ConsoleConsumer 'keys, headers, null values, offsets and times, as Klamm wrote them or had them written' console_shows
    java_check ConsoleConsumer 'reads from an offset, from the end, and read_committed' console_offsets
    java_check GetOffsetShell 'latest, earliest, max-timestamp and a time' offset_shell
    java_check DeleteRecordsCommand 'deletes up to an offset, and all' delete_records
    java_check ProducerPerformance 'idempotent, acks 1 and 0; as many records are there as it sent' producer_performance
    java_check VerifiableProducer 'each record is acknowledged with its offset' verifiable_producer
    java_check EndToEndLatency 'each record comes back before the next one is sent; it commits at the end' end_to_end
    java_check ConsoleConsumer 'in a group: reads all, commits, and goes on where the group was' console_group
    java_check ConsoleConsumer "its formatters read a group's records in __consumer_offsets" group_records
    java_check ConsumerGroupCommand 'lists, describes, resets, and deletes offsets and groups' consumer_groups
    java_check VerifiableConsumer 'in a group: is assigned all partitions, consumes and commits' verifiable_consumer
    java_check ConsoleConsumer 'in a group of the consumer protocol (KIP-848): reads all, commits, and goes on where the group was' console_consumers
    java_check ConsumerGroupCommand 'describes a group of the consumer protocol while it works: members, assignments, state' describe_consumers
    java_check BrokerApiVersionsCommand 'shows the APIs of docs/KAFKA.md, with a usable version of each' api_versions
    java_check LogDirsCommand "shows each partition's bytes" log_dirs
    java_check ClusterTool 'cluster id and endpoints' cluster_tool
    java_check DumpLogSegments "reads the files of Klamm's log" dump_segments
}

# Without the archive everything works too, but slower; so does a JVM that can't use it.
archive_classes() {
    local classes=$work/classes
    seq 10 | logging_classes "$classes.1" org.apache.kafka.tools.ConsoleProducer --topic java-archive
    logging_classes "$classes.2" org.apache.kafka.tools.consumer.ConsoleConsumer --topic java-archive \
        --partition 0 --offset earliest --max-messages 10
    logging_classes "$classes.3" kafka.admin.ConfigCommand --describe --topic java-archive
    logging_classes "$classes.4" org.apache.kafka.tools.TopicCommand --delete --topic java-archive
    awk '!seen[$0]++' "$classes".* >"$classes"
    timeout "$check_seconds_max" java -Xshare:dump -XX:+UseSerialGC -XX:SharedClassListFile="$classes" \
        -XX:SharedArchiveFile="$class_archive" -Xlog:disable -cp "$kafka_lib/*" >"$classes.log" 2>&1 || true
}

# logging_classes FILE CLASS OPTION…: runs a tool, and lists in the file what it loads.
logging_classes() {
    local file=$1 class=$2
    shift 2
    timeout "$check_seconds_max" java "${java_options[@]}" -XX:DumpLoadedClassList="$file" -cp "$kafka_lib/*" \
        "$class" --bootstrap-server "$klamm_kafka" "$@" >"$file.log" 2>&1 || cat "$file.log"
}

java_check() {
    local client=$1
    shift
    check "$client" "$kafka_version" "$@"
}

topic_create() {
    at TopicCommand --create --topic java --partitions 2 --replication-factor 1 \
        --config retention.ms=3600000 --config max.message.bytes=200000 | says '^Created topic java\.$'
    at TopicCommand --list | says '^java$'
    at TopicCommand --describe --topic java >"$work/described"
    says 'PartitionCount: 2.*ReplicationFactor: 1.*Configs: max.message.bytes=200000,retention.ms=3600000$' \
        'Partition: 0.*Leader: 1.*Replicas: 1.*Isr: 1' 'Partition: 1.*Leader: 1.*Replicas: 1.*Isr: 1' \
        <"$work/described"
    equal "$(grep -c 'Leader: 1' "$work/described")" 2
    # A default of the broker, for a topic that doesn't say how many.
    at TopicCommand --create --topic java-default | says '^Created topic java-default\.$'
    at TopicCommand --create --if-not-exists --topic java-default
    "$klamm" topic list | says '^java ' '^java-default '
}

topic_alter() {
    at TopicCommand --create --topic java-alter --partitions 2
    at TopicCommand --alter --topic java-alter --partitions 4
    at TopicCommand --describe --topic java-alter | says 'PartitionCount: 4' 'Partition: 3.*Leader: 1'
    fails at TopicCommand --alter --topic java-alter --partitions 3 | says 'InvalidPartitionsException'
}

topic_delete() {
    at TopicCommand --create --topic java-delete
    at TopicCommand --delete --topic java-delete
    equal "$(at TopicCommand --list | grep -c '^java-delete$')" 0
    fails at TopicCommand --describe --topic java-delete | says "Topic 'java-delete' does not exist as expected"
    fails at TopicCommand --delete --topic java-delete | says "Topic 'java-delete' does not exist as expected"
}

topic_refused() {
    at TopicCommand --create --topic java-refused
    fails at TopicCommand --create --topic java-refused | says "TopicExistsException: Topic 'java-refused' already exists"
    fails at TopicCommand --create --topic java-3 --replication-factor 3 | says 'InvalidReplicationFactorException'
    fails at TopicCommand --create --topic java-c --config retention.ms=soon | says 'InvalidConfigurationException|ConfigException'
    equal "$(at TopicCommand --list | grep -cE '^java-(3|c)$')" 0
}

config_topic() {
    at TopicCommand --create --topic java-configs --config retention.ms=3600000 --config segment.bytes=1048576
    configs --describe --topic java-configs | says 'retention.ms=3600000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:retention.ms=3600000, DEFAULT_CONFIG:log.retention.ms=604800000\}'
    configs --alter --topic java-configs --add-config segment.bytes=2097152,retention.bytes=1000000 \
        --delete-config retention.ms | says '^Completed updating config for topic java-configs\.$'
    configs --describe --topic java-configs >"$work/described"
    says '^ *segment.bytes=2097152 ' '^ *retention.bytes=1000000 ' <"$work/described"
    equal "$(grep -c 'sensitive=' "$work/described")" 2
    configs --describe --all --topic java-configs | says '^ *retention.ms=604800000 ' '^ *cleanup.policy=delete '
    "$klamm" topic describe java-configs | says 'segment.bytes *2097152' 'retention.bytes *1000000'
}

config_broker() {
    configs --describe --all --broker 1 | says '^All configs for broker 1 are:' \
        '^ *message.max.bytes=1048588 .*DEFAULT_CONFIG' '^ *log.retention.ms=604800000 ' '^ *min.insync.replicas=1 '
}

config_refused() {
    at TopicCommand --create --topic java-c-refused
    fails configs --alter --topic java-c-refused --add-config no.such.config=1 | says 'InvalidConfigurationException|InvalidConfigException'
    fails configs --alter --topic java-c-refused --add-config retention.ms=-2 | says 'InvalidConfigurationException|InvalidConfigException'
    fails configs --alter --topic java-nowhere --add-config retention.ms=1 | says 'UnknownTopicOrPartitionException|does not exist'
    equal "$(configs --describe --topic java-c-refused | grep -c sensitive=)" 0
}

console_produce() {
    local topic=java-produce-$1
    "$klamm" topic create "$topic"
    at ConsoleProducer --topic "$topic" --compression-codec "$1" <"$work/lines"
    all_batches_are "$1" "$topic"
    "$klamm" consume "$topic" >"$work/read"
    cmp "$work/lines" "$work/read"
}

console_consume() {
    local topic=java-consume-$1
    "$klamm" topic create "$topic"
    "$klamm" produce "$topic" "$work/lines" --compression "$1"
    all_batches_are "$1" "$topic"
    consume "$topic" 0 earliest "$lines" >"$work/read"
    cmp "$work/lines" "$work/read"
}

console_keys() {
    "$klamm" topic create java-keys
    printf 'h:1,i:2\tk1\tv1\nh:1\tk2\tNULL\nh:1\tNULL\tv3\n' |
        at ConsoleProducer --topic java-keys --reader-property parse.key=true \
            --reader-property parse.headers=true --reader-property null.marker=NULL
    "$klamm" consume java-keys --output json | says '"key":"k1","value":"v1".*"h".*"1".*"i".*"2"' \
        '"key":"k2","value":null' '"key":null,"value":"v3"'
    "$klamm" topic create java-acks
    for acks in 0 1; do
        seq 100 | at ConsoleProducer --topic java-acks --request-required-acks $acks
    done
    # Nobody was told that the records of acks=0 are there; those of acks=1 came behind them.
    "$klamm" consume java-acks >"$work/read"
    cmp <(for _ in 1 2; do seq 100; done) "$work/read"
}

console_shows() {
    local time
    "$klamm" topic create java-shows
    printf 'k1=v1\n=v2\nv3\n' | "$klamm" produce java-shows --key-separator =
    printf 'h:1\tk4\tNULL\n' | at ConsoleProducer --topic java-shows --reader-property parse.key=true \
        --reader-property parse.headers=true --reader-property null.marker=NULL
    time=$("$klamm" consume java-shows --output json | sed -n '1s/.*"timestamp":\([0-9]*\).*/\1/p')
    consume java-shows 0 0 4 --formatter-property print.key=true --formatter-property print.offset=true \
        --formatter-property print.headers=true --formatter-property print.timestamp=true >"$work/read"
    # An empty key isn't a missing one.
    equal "$(sed 's/^CreateTime:[0-9]*\t//' "$work/read")" "$(printf '%s\n' \
        $'Offset:0\tNO_HEADERS\tk1\tv1' $'Offset:1\tNO_HEADERS\t\tv2' $'Offset:2\tNO_HEADERS\tnull\tv3' \
        $'Offset:3\th:1\tk4\tnull')"
    says "^CreateTime:$time"$'\tOffset:0' <"$work/read"
}

console_offsets() {
    "$klamm" topic create java-offsets --partitions 2
    # In batches, the codec of one of which has to be undone to begin within it.
    seq 1 50 | "$klamm" produce java-offsets --partition 1
    seq 51 100 | "$klamm" produce java-offsets --partition 1 --compression zstd
    equal "$(consume java-offsets 1 75 3 | xargs)" '76 77 78'
    equal "$(consume java-offsets 1 earliest 100 --isolation-level read_committed | xargs)" "$(seq 1 100 | xargs)"
    # Nothing comes at the end: it waits for as long as it is told.
    equal "$(consume java-offsets 1 latest 1 --timeout-ms 300 2>/dev/null | wc -c)" 0
}

offset_shell() {
    local time largest
    "$klamm" topic create java-times --partitions 3
    seq 1 10 | "$klamm" produce java-times --partition 1
    wait_until 5 $$ /dev/null later_than "$(now_ms)"
    seq 11 20 | "$klamm" produce java-times --partition 1
    "$klamm" consume java-times --output json >"$work/read"
    time=$(sed -n '11s/.*"timestamp":\([0-9]*\).*/\1/p' "$work/read")
    # The first record that has the largest time.
    largest=$(sed 's/.*"offset":\([0-9]*\),"timestamp":\([0-9]*\).*/\2 \1/' "$work/read" | sort -k1,1nr -k2,2n | sed -n '1s/.* //p')
    equal "$(offsets java-times latest | xargs)" 'java-times:0:0 java-times:1:20 java-times:2:0'
    equal "$(offsets java-times:1 earliest)" 'java-times:1:0'
    equal "$(offsets java-times:1 max-timestamp)" "java-times:1:$largest"
    equal "$(offsets java-times:1 "$time")" 'java-times:1:10'
    equal "$(offsets java-times:1 $((time + 3600000)))" ''
}

delete_records() {
    "$klamm" topic create java-delete-records --partitions 2
    seq 1 20 | "$klamm" produce java-delete-records --partition 0
    seq 1 20 | "$klamm" produce java-delete-records --partition 1
    cat >"$work/delete.json" <<'JSON'
{"version": 1, "partitions": [
    {"topic": "java-delete-records", "partition": 0, "offset": 15},
    {"topic": "java-delete-records", "partition": 1, "offset": -1}]}
JSON
    at DeleteRecordsCommand --offset-json-file "$work/delete.json" |
        says '^partition: java-delete-records-0.low_watermark: 15$' '^partition: java-delete-records-1.low_watermark: 20$'
    equal "$(offsets java-delete-records earliest | xargs)" 'java-delete-records:0:15 java-delete-records:1:20'
    equal "$("$klamm" consume java-delete-records | xargs)" '16 17 18 19 20'
    equal "$(consume java-delete-records 0 earliest 1)" 16
    sed -i 's/15/21/' "$work/delete.json"
    at DeleteRecordsCommand --offset-json-file "$work/delete.json" 2>&1 | says 'OffsetOutOfRangeException'
}

producer_performance() {
    local properties sent=0
    "$klamm" topic create java-performance --partitions 3
    for properties in 'acks=all compression.type=lz4' 'acks=1 enable.idempotence=false' 'acks=0 enable.idempotence=false linger.ms=0'; do
        # shellcheck disable=SC2086 # They are separate words.
        at ProducerPerformance --topic java-performance --num-records 20000 --record-size 100 --throughput -1 \
            --command-property $properties | says '^20000 records sent, .* 99th, '
        sent=$((sent + 20000))
    done
    equal "$(offsets java-performance latest | awk -F: '{ sum += $3 } END { print sum }')" $sent
}

verifiable_producer() {
    "$klamm" topic create java-verifiable
    at VerifiableProducer --topic java-verifiable --max-messages 100 --acks -1 >"$work/read"
    says '"name":"tool_data".*"sent":100,"acked":100' <"$work/read"
    equal "$(sed -n 's/.*"offset":\([0-9]*\).*/\1/p' "$work/read" | xargs)" "$(seq 0 99 | xargs)"
    equal "$("$klamm" consume java-verifiable | xargs)" "$(seq 0 99 | xargs)"
}

end_to_end() {
    "$klamm" topic create java-end-to-end
    at EndToEndLatency --topic java-end-to-end --num-records 200 --producer-acks all --record-size 100 |
        says '^Avg latency: [0-9.]* ms' '^Percentiles: 50th = '
    equal "$(end_offset java-end-to-end)" 200
}

# in_group GROUP MESSAGES: what a member of the group reads of java-group.
# With more options it is one of another protocol, or of another topic.
in_group() {
    local group=$1 messages=$2
    shift 2
    at consumer.ConsoleConsumer --topic java-group --group "$group" --max-messages "$messages" --timeout-ms 60000 \
        --command-property auto.offset.reset=earliest "$@"
}

console_group() {
    "$klamm" topic create java-group --partitions 2
    seq 1 10 | "$klamm" produce java-group --partition 0
    seq 11 20 | "$klamm" produce java-group --partition 1
    equal "$(in_group java-readers 20 | sort -n | xargs)" "$(seq 1 20 | xargs)"
    seq 21 30 | "$klamm" produce java-group --partition 0
    equal "$(in_group java-readers 10 | xargs)" "$(seq 21 30 | xargs)"
    "$klamm" group describe java-readers | says '^java-readers: Empty$' '^java-group +0 +20 +20 +0 ' '^java-group +1 +10 +10 +0 '
}

groups() {
    at consumer.group.ConsumerGroupCommand "$@"
}

# offsets_partition GROUP: that of __consumer_offsets in which a group lies, by Java's hash of its name.
offsets_partition() {
    local hash=0 at
    for ((at = 0; at < ${#1}; at++)); do
        hash=$(((hash * 31 + $(printf '%d' "'${1:at:1}")) & 0xffffffff))
    done
    # Of a negative one the amount.
    [ $hash -lt $((1 << 31)) ] || hash=$(((1 << 32) - hash))
    echo $((hash % 50))
}

# Uses what console_group has made. Each formatter passes over the records of the other.
group_records() {
    local partition records
    partition=$(offsets_partition java-readers)
    records=$(offsets "__consumer_offsets:$partition" -1 | cut -d: -f3)
    records_as() {
        consume __consumer_offsets "$partition" earliest "$records" --formatter "org.apache.kafka.tools.consumer.$1"
    }
    records_as OffsetsMessageFormatter |
        says '"group":"java-readers","topic":"java-group","partition":0.*"data":\{"offset":20,' \
            '"group":"java-readers","topic":"java-group","partition":1.*"data":\{"offset":10,'
    records_as GroupMetadataMessageFormatter |
        says '"group":"java-readers".*"data":\{"protocolType":"consumer","generation":1,"protocol":"range",'
}

# Uses what console_group has made.
consumer_groups() {
    groups --list --state | says '^java-readers +Empty'
    groups --describe --group java-readers 2>&1 | says 'no active members' \
        '^java-readers +java-group +0 +20 +20 +0 ' '^java-readers +java-group +1 +10 +10 +0 '
    groups --describe --group java-readers --state 2>&1 | says '^java-readers .* Empty +0'
    groups --group java-readers --topic java-group --reset-offsets --shift-by -5 --execute |
        says '^java-readers +java-group +0 +15' '^java-readers +java-group +1 +5'
    "$klamm" group describe java-readers | says '^java-group +0 +15 +20 +5 ' '^java-group +1 +5 +10 +5 '
    groups --group java-readers --topic java-group:0 --delete-offsets | says '^java-group +0 +Successful'
    equal "$("$klamm" group describe java-readers | grep -c '^java-group ')" 1
    groups --delete --group java-readers | says "'java-readers'. was successful"
    groups --delete --group java-readers 2>&1 | says 'GroupIdNotFoundException'
    groups --describe --group java-readers 2>&1 | says 'Group java-readers not found'
}

consumers='--command-property group.protocol=consumer'

# Uses what console_group has made.
console_consumers() {
    equal "$(in_group java-consumers 30 $consumers | sort -n | xargs)" "$(seq 1 30 | xargs)"
    seq 31 35 | "$klamm" produce java-group --partition 1
    equal "$(in_group java-consumers 5 $consumers | xargs)" "$(seq 31 35 | xargs)"
    "$klamm" group list | says '^java-consumers +Empty +consumer +consumer$'
    "$klamm" group describe java-consumers | says '^java-group +0 +20 +20 +0 ' '^java-group +1 +15 +15 +0 '
}

# Uses what console_consumers has made. A consumer works while it is looked at, and has nothing to read.
describe_consumers() {
    local member
    at consumer.ConsoleConsumer --topic java-group --group java-consumers --max-messages 1 $consumers \
        >"$work/last" 2>"$work/member.log" &
    member=$!
    is_stable() {
        "$klamm" group describe java-consumers | grep -q '^java-consumers: Stable, uniform$'
    }
    wait_until 60 $member "$work/member.log" is_stable
    groups --list --state --type | says '^java-consumers +Consumer +Stable'
    groups --describe --group java-consumers 2>&1 | says '^java-consumers +java-group +0 +20 +20 +0 +[^ ]+ +/127.0.0.1 '
    groups --describe --group java-consumers --state --verbose 2>&1 | says '^java-consumers .* uniform +Stable +[0-9]+ +[0-9]+ +1$'
    groups --describe --group java-consumers --members --verbose 2>&1 |
        says 'GROUP +CONSUMER-ID .*CURRENT-EPOCH +CURRENT-ASSIGNMENT +TARGET-EPOCH +TARGET-ASSIGNMENT' 'java-group:0,1 .*java-group:0,1'
    groups --delete --group java-consumers 2>&1 | says 'GroupNotEmptyException'
    echo end | "$klamm" produce java-group --partition 0
    wait $member
    equal "$(cat "$work/last")" end
    groups --delete --group java-consumers | says "'java-consumers'. was successful"
}

verifiable_consumer() {
    tool org.apache.kafka.tools.VerifiableConsumer --bootstrap-server "$klamm_kafka" --topic java-group \
        --group-id java-verifiable --max-messages 30 --reset-policy earliest >"$work/read"
    says '"name":"partitions_assigned".*"partition":0.*"partition":1' '"name":"offsets_committed".*"success":true' <"$work/read"
    equal "$(sed -n 's/.*"records_consumed","count":\([0-9]*\).*/\1/p' "$work/read" | awk '{ sum += $1 } END { print sum }')" 30
}

api_versions() {
    at BrokerApiVersionsCommand >"$work/described"
    says "^$klamm_kafka \(id: 1 rack: null isFenced: false\)" '^.Produce\(0\): 0 to 13 \[usable: 13\]' <"$work/described"
    # A key and its versions, as the document has them. Produce is advertised from 0.
    sed -n 's/^| \([A-Za-z]*\) | \([0-9]*\) | \([0-9]* to [0-9]*\) |$/\1(\2): \3/p' docs/KAFKA.md |
        sed 's/^Produce(0): 3 /Produce(0): 0 /' >"$work/expected"
    sed -n 's/^.\([A-Za-z]*([0-9]*): [0-9]*\( to [0-9]*\)\{0,1\}\) \[usable: [0-9]*\],\{0,1\}$/\1/p' "$work/described" |
        sed 's/: \([0-9]*\)$/: \1 to \1/' | diff "$work/expected" -
}

log_dirs() {
    local bytes
    "$klamm" topic create java-dirs --partitions 2
    "$klamm" produce java-dirs "$work/lines" --partition 1
    bytes=$("$klamm" log dump "$(log_dir java-dirs 1)" --output json | sed 's/.*"bytes":\([0-9]*\).*/\1/' | awk '{ sum += $1 } END { print sum }')
    at LogDirsCommand --describe --topic-list java-dirs | says "\"broker\":1,.*\"logDir\":\"$data\"" \
        '"partition":"java-dirs-0","size":0,' "\"partition\":\"java-dirs-1\",\"size\":$bytes,\"offsetLag\":0,\"isFuture\":false" \
        '"error":null'
}

cluster_tool() {
    local id
    id=$("$klamm" cluster status --output json | sed -n 's/^ *"cluster_id": "\(.*\)",*$/\1/p')
    tool org.apache.kafka.tools.ClusterTool cluster-id --bootstrap-server "$klamm_kafka" | says "^Cluster ID: $id\$"
    tool org.apache.kafka.tools.ClusterTool list-endpoints --bootstrap-server "$klamm_kafka" |
        says "^1 +${klamm_kafka%:*} +${klamm_kafka#*:} .* unfenced +broker"
}

dump_segments() {
    local file
    "$klamm" topic create java-dump
    "$klamm" produce java-dump "$work/lines" --compression gzip
    file=$(echo "$(log_dir java-dump)"/*.log)
    tool org.apache.kafka.tools.DumpLogSegments --files "$file" --print-data-log >"$work/read"
    says 'baseOffset: 0 .* compresscodec: gzip .* isvalid: true' <"$work/read"
    equal "$(grep -c 'isvalid: false' "$work/read")" 0
    equal "$(grep -c '^| offset: ' "$work/read")" "$lines"
}
