use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Simulation;
use crate::{Config, Disturbance};

/// How much of a run is shown when its test fails.
const LINES: usize = 60;

/// A test that runs under many seeds.
///
/// Unless [`config`](Self::config) says otherwise, each seed has a stormy kernel
/// ([`Disturbance::stormy`]) whose segments travel for up to ten milliseconds.
///
/// ```
/// use std::time::Duration;
/// use tepal_sim::kit::Sweep;
///
/// let span = Duration::from_secs(5);
/// Sweep::seeds(0..10).run(|simulation| {
///     simulation.run_for(span);
///     assert_eq!(simulation.elapsed(), span);
/// });
/// ```
pub struct Sweep {
    seeds: Vec<u64>,
    config: Box<dyn Fn(u64) -> Config>,
    alone: bool,
}

impl Sweep {
    /// One run for each of these seeds.
    pub fn seeds(seeds: impl IntoIterator<Item = u64>) -> Sweep {
        let config = |seed| Config {
            latency: Duration::ZERO..=Duration::from_millis(10),
            disturbance: Disturbance::stormy(),
            ..Config::seeded(seed)
        };
        Sweep { seeds: seeds.into_iter().collect(), config: Box::new(config), alone: false }
    }

    /// What the kernel of a seed is like. The seed is put into it.
    #[must_use]
    pub fn config(mut self, config: impl Fn(u64) -> Config + 'static) -> Sweep {
        self.config = Box::new(config);
        self
    }

    /// Runs this seed only. When it fails, the last lines of its trace are shown.
    #[must_use]
    pub fn only(mut self, seed: u64) -> Sweep {
        self.seeds = vec![seed];
        self.alone = true;
        self
    }

    /// Runs the test under each seed, and looks at the end of each whether the program has let
    /// everything go, as [`Simulation::finish`] does. The first seed is run twice: the same calls
    /// must be made both times, or no failure could be repeated.
    ///
    /// # Panics
    ///
    /// If a run does, with its seed; if the first seed's runs differ, which happens when the program
    /// takes chance or time from elsewhere; if there is no seed.
    #[track_caller]
    pub fn run(self, test: impl Fn(&Simulation)) {
        let Some(first) = self.seeds.first() else { panic!("a sweep needs a seed") };
        let expected = self.run_one(*first, &test);
        for seed in &self.seeds {
            let traced = self.run_one(*seed, &test);
            assert!(
                seed != first || traced == expected,
                "two runs of seed {seed} differ: something depends on more than the seed"
            );
        }
    }

    // Returns what tells this run from another.
    #[track_caller]
    fn run_one(&self, seed: u64, test: &impl Fn(&Simulation)) -> u64 {
        let config = Config { seed, record_trace: self.alone, ..(self.config)(seed) };
        let simulation = Simulation::new(config);
        let kernel = simulation.kernel().clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            test(&simulation);
            simulation.finish();
        }));
        let Err(panic) = outcome else { return kernel.trace_hash() };
        let text = text_of(&*panic);
        if !self.alone {
            panic!("seed {seed} fails: {text}\n`.only({seed})` runs it alone and shows its trace");
        }
        let trace = kernel.trace();
        let last = trace[trace.len().saturating_sub(LINES)..].join("\n");
        panic!(
            "seed {seed} fails: {text}\nthe last of {} lines of its trace:\n{last}",
            trace.len()
        );
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}
