/// The middle value; of an even count, the mean of the two in the middle. 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The median of the ratios pair by pair: what both halves of a pair suffered cancels out.
pub(crate) fn ratio(values: &[f64], base: &[f64]) -> f64 {
    median(&values.iter().zip(base).map(|(value, base)| value / base).collect::<Vec<_>>())
}

/// The first and the third quartile of the ratios, by the nearest rank: how far to trust the median.
pub(crate) fn spread(values: &[f64], base: &[f64]) -> (f64, f64) {
    let mut ratios: Vec<f64> = values.iter().zip(base).map(|(value, base)| value / base).collect();
    ratios.sort_by(f64::total_cmp);
    match ratios.len() {
        0 => (0.0, 0.0),
        count => (ratios[count / 4], ratios[(count * 3 / 4).min(count - 1)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_is_taken_within_each_pair() {
        // The machine was twice as slow in the second round; the ratio does not see it.
        assert_eq!(ratio(&[1.1, 2.2, 1.1], &[1.0, 2.0, 1.0]), 1.1);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0], &[1.0; 4]), (2.0, 4.0));
    }
}
