//! The promise: kill any process at any moment, then the same command again, and nothing is lost or doubled. One file
//! per subject; a slice runs here, the campaign is `make crash`.

#[path = "../common/mod.rs"]
mod common;

use std::time::Instant;

mod apply;
#[cfg(feature = "mysql")]
mod at_rest;
mod jetstream;
#[cfg(feature = "mysql")]
mod pipeline;
mod queue;
mod queue_process;
mod session;
mod tables;
mod together;

/// Kills of one test: a slice in `make test`; in `make crash` its share, in percent, of all of RLOG_CRASH_KILLS.
fn kills(slice: u64, percent: u64) -> u64 {
    std::env::var("RLOG_CRASH_KILLS")
        .ok()
        .and_then(|all| all.parse::<u64>().ok())
        .map_or(slice, |all| all * percent / 100)
}

/// Counts kills.
struct Campaign {
    name: String,
    wanted: u64,
    killed: u64,
    started: Instant,
}

impl Campaign {
    fn new(name: &str, wanted: u64) -> Campaign {
        Campaign { name: name.to_owned(), wanted, killed: 0, started: Instant::now() }
    }

    fn goes_on(&self) -> bool {
        self.killed < self.wanted
    }

    fn killed(&mut self) {
        self.killed += 1;
        if self.killed % 500 == 0 {
            self.report();
        }
    }

    fn report(&self) {
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "{}: {} kills in {seconds:.0} s, {:.0} a minute",
            self.name,
            self.killed,
            self.killed as f64 / seconds * 60.0
        );
    }
}

/// xorshift64*: the same seed (RLOG_SEED), the same choices.
struct Dice(u64);

impl Dice {
    fn seeded() -> Dice {
        let seed: u64 = std::env::var("RLOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound.max(1)
    }
}
