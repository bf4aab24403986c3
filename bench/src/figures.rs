//! Figures: samples of several rounds, what they are measured in, and the bars that they are held against.

use std::fmt::Write;

/// What a figure is measured in, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Events, or something else, in a second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// MiB of bytes.
    Memory,
    /// Parts of a hundred.
    Percent,
    /// One figure as a multiple of another.
    Times,
    /// A number of things.
    Count,
    /// A number of things for each of others.
    Ratio,
}

impl Unit {
    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Microseconds => format!("{value:.2} µs"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Memory => format!("{value:.1} MiB"),
            Self::Percent => format!("{value:.2} %"),
            Self::Times => format!("{value:.2} ×"),
            Self::Count => grouped(value),
            Self::Ratio => format!("{value:.3}"),
        }
    }
}

/// A number without decimals, or with one if it is small, a comma between thousands.
fn grouped(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One figure, measured in each round.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one round's.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds all of another's.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this part of the samples is not above.
    ///
    /// # Panics
    /// If there are none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a list in memory")]
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(!sorted.is_empty(), "nothing was measured");
        let last = (sorted.len() - 1) as f64;
        let (below, above) = ((last * part).floor(), (last * part).ceil());
        let between = last * part - below;
        sorted[below as usize] * (1.0 - between) + sorted[above as usize] * between
    }

    /// Round by round, this as a multiple of another.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// The same in another measure.
    #[must_use]
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|value| change(*value)).collect())
    }

    /// The median, and from where to where the samples reach.
    pub fn show(&self, unit: Unit) -> String {
        let median = unit.show(self.median());
        if self.len() == 1 {
            return median;
        }
        format!("{median} ({} – {})", unit.show(self.quantile(0.0)), unit.show(self.quantile(1.0)))
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// On which side of a bar one wants to be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// Something that is wanted of a figure's median.
#[derive(Debug, Clone)]
pub struct Bar {
    what: String,
    wanted: Wanted,
    unit: Unit,
    reached: Samples,
}

impl Bar {
    /// What is wanted of these samples.
    pub fn new(what: impl Into<String>, wanted: Wanted, unit: Unit, reached: Samples) -> Self {
        Self { what: what.into(), wanted, unit, reached }
    }

    /// Whether the median reaches it.
    pub fn is_reached(&self) -> bool {
        match self.wanted {
            Wanted::AtLeast(bar) => self.reached.median() >= bar,
            Wanted::AtMost(bar) => self.reached.median() <= bar,
        }
    }

    /// What, the bar, what was reached, and whether that is enough.
    pub fn cells(&self) -> Vec<String> {
        let bar = match self.wanted {
            Wanted::AtLeast(bar) => format!("≥ {}", self.unit.show(bar)),
            Wanted::AtMost(bar) => format!("≤ {}", self.unit.show(bar)),
        };
        let verdict = if self.is_reached() { "reached" } else { "**missed**" };
        vec![self.what.clone(), bar, self.reached.show(self.unit), verdict.to_owned()]
    }
}

/// A table in Markdown, its columns in line, so that it reads well on a terminal, too.
#[derive(Debug, Clone)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// One with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self(vec![headings.iter().map(|heading| (*heading).to_owned()).collect()])
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }

    /// Its text.
    pub fn markdown(&self) -> String {
        let width =
            |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.0[0].len()).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
            writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | ")).expect("a String takes everything");
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                writeln!(text, "| {} |", rules.join(" | ")).expect("a String takes everything");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between_the_two_in_the_middle() {
        let samples: Samples = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert!((samples.median() - 2.5).abs() < 1e-9);
        assert!((samples.quantile(1.0) - 4.0).abs() < 1e-9);
        assert_eq!(samples.show(Unit::Count), "2.5 (1 – 4)");
    }

    #[test]
    fn large_numbers_are_written_in_groups() {
        assert_eq!([999.0, 1000.0, 1_234_567.0].map(|number| Unit::PerSecond.show(number)), ["999/s", "1,000/s", "1,234,567/s"]);
    }

    #[test]
    fn a_bar_is_held_against_the_median() {
        let bar = |wanted| Bar::new("x", wanted, Unit::Times, [0.9, 1.1, 1.2].into_iter().collect());
        assert!(bar(Wanted::AtLeast(1.0)).is_reached() && !bar(Wanted::AtLeast(1.15)).is_reached());
        assert!(bar(Wanted::AtMost(1.1)).is_reached() && !bar(Wanted::AtMost(1.0)).is_reached());
    }
}
