//! A broker compacts a topic of 1 GiB while somebody writes to another one at a fixed rate.

use std::error::Error;
use std::time::{Duration, Instant};

use klamm::client::{Client, ClientConfig, NewTopic, ProducerConfig, ProducerRecord, Resource};
use klamm::protocol::incremental_alter_configs::AlterConfigOp;
use tokio::time::sleep;

use crate::broker_process::Broker;
use crate::live_writer::LiveWriter;
use crate::{memory_kib, next_record, random, BYTES, SEGMENT_BYTES, VALUE_BYTES};

const COMPACTED: &str = "compacted";
const LIVE: &str = "live";
const ROUNDS: usize = 3;
/// For how long is written while nothing is compacted.
const CALM: Duration = Duration::from_secs(10);
/// Longer than all of this takes: nothing is compacted until the topic says otherwise.
const LAG_MS: &str = "3600000";
/// A compaction leaves less, beside the segment that is written to.
const CLEANED_BYTES: u64 = 320 << 20;
const WAIT_MAX: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn measure() -> Result<(), Box<dyn Error>> {
    for _ in 0..ROUNDS {
        let broker = Broker::start_with(&[("KLAMM__LOG__CLEANER_BACKOFF_MS", "500")]);
        let client = Client::connect(ClientConfig::from(broker.address.as_str())).await?;
        compact(&broker, &client).await?;
    }
    Ok(())
}

async fn compact(broker: &Broker, client: &Client) -> Result<(), Box<dyn Error>> {
    let admin = client.admin();
    let segment_bytes = SEGMENT_BYTES.to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", &segment_bytes),
        ("min.compaction.lag.ms", LAG_MS),
    ];
    for (name, configs) in [(COMPACTED, &configs[..]), (LIVE, &[])] {
        let configs = configs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        let topic = NewTopic {
            name: name.into(),
            partitions: Some(1),
            configs: configs.collect(),
            ..NewTopic::default()
        };
        admin.create_topic(&topic).await?;
    }
    fill(client).await?;
    let process = broker.process_id().to_string();

    let calm = LiveWriter::start(client, LIVE);
    sleep(CALM).await;
    calm.stop("before").await;
    // The kernel counts the most memory from here on.
    std::fs::write(format!("/proc/{process}/clear_refs"), "5")?;
    let before = broker.logs_bytes();
    let busy = LiveWriter::start(client, LIVE);
    let begun = Instant::now();
    let lag = "min.compaction.lag.ms".into();
    let soon = [(lag, AlterConfigOp::Set, Some("0".into()))];
    let topic = Resource::Topic(COMPACTED.into());
    admin.alter_configs(&topic, &soon).await?;
    while broker.logs_bytes() > CLEANED_BYTES {
        if begun.elapsed() > WAIT_MAX {
            return Err(format!("{} bytes are left", broker.logs_bytes()).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    busy.stop("while it was compacted").await;
    println!(
        "{} MiB became {} in {seconds:.1} s (of which up to 0.5 s until it was begun): {:.0} MB/s; the broker took {} MiB at most",
        before >> 20,
        broker.logs_bytes() >> 20,
        before as f64 / 1e6 / seconds,
        memory_kib(&process, "VmHWM")? >> 10
    );
    Ok(())
}

async fn fill(client: &Client) -> Result<(), Box<dyn Error>> {
    let producer = client.producer(ProducerConfig::default());
    let mut random = random();
    let mut value = vec![0; VALUE_BYTES];
    for _ in 0..BYTES / VALUE_BYTES as u64 {
        let key = next_record(&mut random, &mut value);
        let record = ProducerRecord::to(COMPACTED).key(&key).value(&value);
        // What became of all of them is asked below.
        drop(producer.send(record).await?);
    }
    producer.close().await;
    producer
        .first_error()
        .map_or(Ok(()), |error| Err(error.into()))
}
