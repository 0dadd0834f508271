//! What must hold, and what was seen so far.

use crate::log::Log;

pub type Checked = Result<(), String>;

#[derive(Default)]
pub struct Truth {
    /// The value at each offset that was ever committed.
    committed: Vec<u64>,
    acknowledged: Vec<(u64, i64)>,
    /// Up to where somebody has deleted on purpose.
    deleted_to: i64,
}

impl Truth {
    pub fn committed(&self) -> i64 {
        self.committed.len() as i64
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub fn deleted(&mut self, to: i64) {
        self.deleted_to = self.deleted_to.max(to);
    }

    /// A leader has committed up to `to`: what is there is the same on whichever leader.
    pub fn commits(&mut self, log: &Log, from: i64, to: i64) -> Checked {
        self.compare(log, from, to.min(self.committed()))?;
        for at in self.committed()..to {
            match log.get(at) {
                Some(record) if at >= log.start() => self.committed.push(record.value),
                _ => return Err(format!("offset {at} is committed, and isn't there")),
            }
        }
        Ok(())
    }

    /// What can be read of a log: below its high watermark all is committed.
    pub fn reads(&self, log: &Log, from: i64, to: i64) -> Checked {
        if to > log.end() {
            let end = log.end();
            return Err(format!(
                "the high watermark is {to}, and the log ends at {end}"
            ));
        }
        if to > self.committed() && log.start() < to {
            return Err(format!(
                "offset {} is read, and not committed",
                self.committed()
            ));
        }
        if log.start() > self.deleted_to {
            return Err(format!(
                "a log starts at {}, which nobody has asked for",
                log.start()
            ));
        }
        self.compare(log, from, to)
    }

    fn compare(&self, log: &Log, from: i64, to: i64) -> Checked {
        for at in from.max(log.start())..to {
            let (is, was) = (
                log.get(at).map(|record| record.value),
                self.committed[at as usize],
            );
            if is != Some(was) {
                return Err(format!("{was} was committed at {at}, and now {is:?}"));
            }
        }
        Ok(())
    }

    /// A producer is answered; so many replicas have the record as they must.
    pub fn acknowledges(&mut self, value: u64, at: i64, copies: usize) -> Checked {
        if self.committed.get(at as usize) != Some(&value) {
            return Err(format!(
                "{value} is acknowledged at {at}, and not committed"
            ));
        }
        // One that was deleted meanwhile nobody has to have.
        if copies < 2 && at >= self.deleted_to {
            return Err(format!(
                "{value} is acknowledged, and {copies} replicas have it"
            ));
        }
        self.acknowledged.push((value, at));
        Ok(())
    }

    /// When all is well again.
    pub fn is_kept_by(&self, log: &Log) -> Checked {
        for (value, at) in &self.acknowledged {
            let is = log.get(*at).map(|record| record.value);
            if *at >= log.start() && is != Some(*value) {
                return Err(format!(
                    "{value} was acknowledged at {at}, and there is {is:?}"
                ));
            }
        }
        Ok(())
    }
}
