use std::time::Duration;

/// How long to wait before each new attempt.
///
/// The wait grows by `factor` from `first` to `most`, and each is drawn at random from `jitter`
/// around it, so that many clients of one server do not come back at the same moment.
///
/// ```
/// use std::time::Duration;
/// use tepal::Backoff;
///
/// let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
/// let waits: Vec<_> = (0..4).filter_map(|retry| backoff.delay(retry, 0.5)).collect();
/// assert_eq!(waits, [500, 1000, 2000, 4000].map(Duration::from_millis));
/// assert_eq!(backoff.delay(40, 0.5), Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    /// The first wait. Default 0.5 s.
    pub first: Duration,
    /// By how much each wait is longer than the one before. Default 2; below 1 counts as 1.
    pub factor: f64,
    /// The longest wait, before the jitter. Default 60 s.
    pub most: Duration,
    /// The part of the wait that is left to chance, 0 to 1: 0.5 means half to one and a half of
    /// it. Default 0.5.
    pub jitter: f64,
    /// How many retries may follow one another without success. Default: no limit.
    pub attempts: Option<u32>,
    /// How long a connection must have stood to count as a success, after which the waits begin
    /// anew with `first`. Default 10 s: longer than a peer needs to accept, to read a greeting and
    /// to hang up, so that one that does so is tried less and less often, as one that refuses is;
    /// and short beside what a connection that works is kept for. With zero every established
    /// connection is a success.
    pub steady: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(500),
            factor: 2.0,
            most: Duration::from_secs(60),
            jitter: 0.5,
            attempts: None,
            steady: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The wait before a retry, counted from 0 since the last success; `None` if there have been
    /// enough. `chance` is a random number from 0 to 1.
    pub fn delay(&self, retry: u32, chance: f64) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| retry >= attempts) {
            return None;
        }
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        let grown = self.first.as_secs_f64() * factor.powi(retry.min(10_000) as i32);
        // Also if it has grown to infinity; `min` takes the number.
        let base = grown.min(self.most.as_secs_f64());
        let jitter = if self.jitter >= 0.0 { self.jitter.min(1.0) } else { 0.0 };
        let chance = if chance >= 0.0 { chance.min(1.0) } else { 0.0 };
        let wait = base * (1.0 + jitter * (2.0 * chance - 1.0));
        Some(Duration::try_from_secs_f64(wait).unwrap_or(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_the_jitter_of_what_they_have_grown_to() {
        let backoff = Backoff::default();
        for retry in 0..200 {
            let base = (0.5 * 2f64.powi(retry.min(60) as i32)).min(60.0);
            for chance in [0.0, 0.3, 0.999] {
                let wait = backoff.delay(retry, chance).expect("without a limit").as_secs_f64();
                assert!(wait >= base * 0.5 - 1e-9 && wait <= base * 1.5 + 1e-9, "{retry}: {wait}");
            }
        }
    }

    #[test]
    fn a_limit_of_attempts_ends_them() {
        let backoff = Backoff { attempts: Some(2), ..Backoff::default() };
        assert!(backoff.delay(1, 0.5).is_some());
        assert_eq!(backoff.delay(2, 0.5), None);
    }

    #[test]
    fn values_out_of_range_are_brought_into_it() {
        let odd = Backoff {
            first: Duration::MAX,
            factor: f64::NAN,
            most: Duration::from_secs(1),
            jitter: -3.0,
            attempts: None,
            steady: Duration::ZERO,
        };
        assert_eq!(odd.delay(u32::MAX, f64::NAN), Some(Duration::from_secs(1)));
        let endless = Backoff { most: Duration::MAX, jitter: f64::INFINITY, ..Backoff::default() };
        assert!(endless.delay(100_000, 1.0).is_some());
    }
}
