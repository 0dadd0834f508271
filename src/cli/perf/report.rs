//! Figures and how they are printed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::error::CliError;

/// Latencies are kept from 1 µs to a minute, with three digits.
const LATENCY_US_MAX: u64 = 60_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Collects latencies in an HdrHistogram, which keeps three digits of each whatever its size.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Result<Latencies, CliError> {
        Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
            .map(Latencies)
            .map_err(|error| CliError::failed(format!("histogram: {error}")))
    }

    /// Whatever takes longer than a minute counts as a minute.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.max(1));
    }

    pub fn add(&mut self, other: &Latencies) -> Result<(), CliError> {
        self.0
            .add(&other.0)
            .map_err(|error| CliError::failed(format!("histogram: {error}")))
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50_us: self.0.value_at_quantile(0.5),
            p90_us: self.0.value_at_quantile(0.9),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

/// In microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Percentiles {
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Percentiles {
    /// `p50 0.120 ms, p90 …`.
    pub fn line(&self) -> String {
        let named = [
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
            ("max", self.max_us),
        ];
        let parts = named.map(|(name, us)| format!("{name} {:.3} ms", us as f64 / 1000.0));
        parts.join(", ")
    }
}

/// The rates of several rounds, in millions of bytes a second.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    pub min_mb_per_s: f64,
    pub median_mb_per_s: f64,
    pub max_mb_per_s: f64,
}

impl Rate {
    /// Of rounds of `bytes` each; there must be at least one.
    pub fn of_rounds(bytes: usize, rounds: &[Duration]) -> Rate {
        let mut rates: Vec<f64> = rounds
            .iter()
            .map(|round| mb_per_s(bytes as u64, round.as_secs_f64()))
            .collect();
        rates.sort_by(f64::total_cmp);
        let at = |index: usize| rates.get(index).copied().unwrap_or(0.0);
        Rate {
            min_mb_per_s: at(0),
            median_mb_per_s: at(rates.len() / 2),
            max_mb_per_s: at(rates.len().saturating_sub(1)),
        }
    }

    pub fn line(&self) -> String {
        format!(
            "{:>7.0} MB/s  ({:.0} to {:.0})",
            self.median_mb_per_s, self.min_mb_per_s, self.max_mb_per_s
        )
    }
}

/// Millions of bytes a second, rounded to 0.1.
pub fn mb_per_s(bytes: u64, seconds: f64) -> f64 {
    match seconds > 0.0 {
        true => (bytes as f64 / seconds / 1e5).round() / 10.0,
        false => 0.0,
    }
}

/// Lines of `name  value`, the values below each other.
pub fn lines(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1000 {
            latencies.record(Duration::from_millis(ms));
        }
        latencies.record(Duration::from_secs(3600));
        let percentiles = latencies.percentiles();
        let is_near = |us: u64, ms: u64| us.abs_diff(ms * 1000) <= ms * 2;
        assert!(is_near(percentiles.p50_us, 501), "{percentiles:?}");
        assert!(is_near(percentiles.p99_us, 991), "{percentiles:?}");
        assert!(is_near(percentiles.max_us, 60_000), "{percentiles:?}");
    }

    #[test]
    fn a_rate_is_the_median_of_its_rounds() {
        let rounds = [1000, 500, 2000].map(Duration::from_millis);
        let rate = Rate::of_rounds(100_000_000, &rounds);
        assert_eq!(rate.min_mb_per_s, 50.0);
        assert_eq!(rate.median_mb_per_s, 100.0);
        assert_eq!(rate.max_mb_per_s, 200.0);
    }
}
