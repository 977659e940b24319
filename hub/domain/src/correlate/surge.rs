//! The probability that so many events occur by chance.
//!
//! Two Poisson counts are compared by the method of J. Przyborowski and H. Wilenski (Biometrika 31, 1940):
//! given their sum, the present count is binomial, with the share of the present window in all windows as its
//! probability. A short history therefore gives little certainty.

/// The probability that `now` or more of `now + before` events fall into one window of `windows + 1`.
pub fn chance(now: usize, before: usize, windows: f64) -> f64 {
    let all = now + before;
    let share = 1.0 / (windows + 1.0);
    let odds = (share / (1.0 - share)).ln();
    let choose = libm::lgamma(all as f64 + 1.0)
        - libm::lgamma(now as f64 + 1.0)
        - libm::lgamma(before as f64 + 1.0);
    // Each term follows from the logarithm of the previous one: no factorials, no underflow.
    let mut term = choose + now as f64 * share.ln() + before as f64 * (1.0 - share).ln();
    let mut tail = 0.0;
    for count in now..=all {
        let more = term.exp();
        tail += more;
        // Past the middle the terms decrease, and soon are negligible.
        if count as f64 > all as f64 * share && more < tail * 1e-12 {
            break;
        }
        term += ((all - count) as f64 / (count + 1) as f64).ln() + odds;
    }
    tail.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::chance;

    #[test]
    fn the_tails_are_those_of_the_binomial() {
        // The exact sums, computed with fractions.
        for (now, before, wanted) in [
            (0, 10, 1.0),
            (1, 0, 0.2),
            (8, 12, 0.032_142_7),
            (10, 10, 0.002_594_8),
            (20, 40, 0.010_668_3),
        ] {
            let found = chance(now, before, 4.0);
            assert!(
                (found / wanted - 1.0_f64).abs() < 1e-4,
                "{now} after {before}: {found} is not {wanted}"
            );
        }
    }

    #[test]
    fn thousands_of_events_do_not_underflow() {
        assert!(chance(1000, 4000, 4.0) > 0.4);
        assert!(chance(5000, 4000, 4.0) < 1e-9);
    }
}
