//! Randomness that can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// splitmix64: small, and good enough to choose moments.
pub struct Seed(u64);

impl Seed {
    /// `KLAMM_SEED`, or the time of day. Either is printed, and shown if the test fails.
    pub fn from_environment() -> Seed {
        let seed = match std::env::var("KLAMM_SEED") {
            Ok(seed) => seed.parse().expect("KLAMM_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| now.as_millis() as u64),
        };
        println!("KLAMM_SEED={seed}");
        Seed(seed)
    }

    /// A certain one.
    #[allow(dead_code)]
    pub fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
