use std::time::Duration;

/// A time-out of a stream in few bytes: each connection has three. In milliseconds, rounded up;
/// what exceeds 49 days is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limit(u32);

impl Limit {
    const NONE: Limit = Limit(u32::MAX);

    pub(super) fn new(span: Option<Duration>) -> Limit {
        let whole = |span: Duration| u32::try_from(span.as_nanos().div_ceil(1_000_000)).ok();
        span.and_then(whole).map_or(Limit::NONE, Limit)
    }

    pub(super) fn get(self) -> Option<Duration> {
        (self != Limit::NONE).then(|| Duration::from_millis(self.0.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_kept_to_the_millisecond_and_never_shortened() {
        let kept = |span| Limit::new(Some(span)).get();
        assert_eq!(kept(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(kept(Duration::from_nanos(1)), Some(Duration::from_millis(1)));
        assert_eq!(kept(Duration::from_micros(1001)), Some(Duration::from_millis(2)));
        assert_eq!(kept(Duration::from_secs(86_400 * 49)), Some(Duration::from_secs(86_400 * 49)));
        assert_eq!(kept(Duration::from_secs(86_400 * 50)), None);
        assert_eq!((kept(Duration::MAX), Limit::new(None).get()), (None, None));
    }
}
