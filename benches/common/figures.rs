//! Medians, percentiles and their intervals.

/// Measurements in order.
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        assert!(!values.is_empty(), "nothing was measured");
        Self(values)
    }

    /// The value below which this share of them lies.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((last as f64 * share).round() as usize).min(last)]
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Where the median lies with 95 % certainty, by rank; of fewer than six measurements their range.
    pub(crate) fn interval(&self) -> (f64, f64) {
        let half = 0.98 / (self.0.len() as f64).sqrt();
        (self.at((0.5 - half).max(0.0)), self.at((0.5 + half).min(1.0)))
    }
}
