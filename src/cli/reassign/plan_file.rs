//! Plans as files.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::error::CliError;
use crate::cli::placement::Placed;
use crate::model::BrokerId;

/// The version of the JSON.
const PLAN_VERSION: i32 = 1;
/// The largest plan that is read.
const PLAN_BYTES_MAX: u64 = 256 << 20;

/// A plan as Kafka's tool reads and writes it.
#[derive(Debug, Serialize, Deserialize)]
struct PlanFile {
    version: i32,
    partitions: Vec<PlannedPartition>,
}

/// What else Kafka's tool may write (`log_dirs`) means nothing here: a broker has one directory.
#[derive(Debug, Serialize, Deserialize)]
struct PlannedPartition {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
}

pub fn to_json(planned: Vec<Placed>) -> Result<String, CliError> {
    let partitions = planned.into_iter().map(|partition| PlannedPartition {
        topic: partition.topic,
        partition: partition.partition,
        replicas: partition.replicas.iter().map(|id| id.0).collect(),
    });
    let plan = PlanFile {
        version: PLAN_VERSION,
        partitions: partitions.collect(),
    };
    serde_json::to_string(&plan).map_err(|error| CliError::failed(format!("JSON: {error}")))
}

pub fn read_plan(file: &Path) -> Result<Vec<Placed>, CliError> {
    let failed = |error| CliError::io(file.display().to_string(), error);
    let mut text = String::new();
    if file == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(PLAN_BYTES_MAX).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(file).map_err(failed)?;
        file.take(PLAN_BYTES_MAX).read_to_string(&mut text)
    }
    .map_err(failed)?;
    parse_plan(&text).map_err(|why| CliError::failed(format!("{}: {why}", file.display())))
}

/// Each partition once.
fn parse_plan(text: &str) -> Result<Vec<Placed>, String> {
    let plan: PlanFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if plan.version != PLAN_VERSION {
        return Err(format!("a plan of version {} isn't known", plan.version));
    }
    let mut seen = BTreeSet::new();
    let partitions = plan.partitions.into_iter().map(|partition| Placed {
        topic: partition.topic,
        partition: partition.partition,
        replicas: partition.replicas.into_iter().map(BrokerId).collect(),
    });
    let checked = partitions.map(|partition| match seen.insert(partition.key()) {
        true => Ok(partition),
        false => Err(format!("{partition} is in the plan twice")),
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::super::ids;
    use super::*;

    #[test]
    fn a_plan_of_kafkas_tool_is_read_and_its_own_reads_back() {
        let kafkas = r#"{"version":1,"partitions":[
            {"topic":"t","partition":0,"replicas":[2,3],"log_dirs":["any","any"]},
            {"topic":"t","partition":1,"replicas":[1]}]}"#;
        let read = parse_plan(kafkas).unwrap();
        let replicas: Vec<_> = read.iter().map(|p| ids(&p.replicas)).collect();
        assert_eq!(replicas, ["2,3", "1"]);
        assert_eq!(parse_plan(&to_json(read.clone()).unwrap()), Ok(read));
        for (bad, why) in [
            (r#"{"version":2,"partitions":[]}"#, "version 2"),
            (r#"{"partitions":[]}"#, "version"),
            (
                r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1]},
                {"topic":"t","partition":0,"replicas":[2]}]}"#,
                "t-0 is in the plan twice",
            ),
        ] {
            let error = parse_plan(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
