//! What the demo publishes, decided beforehand: which key each spend update is of, and when one key is revoked.
//!
//! The same in every run. Some keys are far busier than others, as in life; every key has its turn.

/// How many keys there are.
pub(super) const KEYS: usize = 500;
/// The updates come in waves, as a billing job would commit them.
pub(super) const WAVES: usize = 20;
/// The wave in whose middle the key is revoked.
pub(super) const REVOKED_IN: usize = WAVES / 2;
/// The key that is revoked. It is not charged any more from that wave on.
pub(super) const REVOKED: usize = 250;
/// The key that `--sabotage` makes one API deaf to: the busiest, so it certainly has drops to miss.
pub(super) const SABOTAGED: usize = 0;

/// The hash that stands for a key.
pub(super) fn hash(key: usize) -> String {
    format!("key-{key:04}")
}

/// The id of a key's row.
#[expect(clippy::cast_possible_wrap, reason = "one of 500")]
pub(super) fn id(key: usize) -> i64 {
    key as i64
}

/// The keys charged in each wave, in order.
pub(super) fn waves(updates: usize) -> Vec<Vec<usize>> {
    let popularity = Popularity::new();
    let mut chance = Chance(0x0005_DEEC_E66D);
    let mut turn = 0;
    let per_wave = updates.div_ceil(WAVES);
    let mut wave = |w: usize| {
        let size = per_wave.min(updates - (w * per_wave).min(updates));
        let mut pick = |i: usize| if i.is_multiple_of(4) { next_in_turn(&mut turn) } else { popularity.pick(chance.next()) };
        (0..size).map(|i| unless_revoked(w, pick(i))).collect()
    };
    (0..WAVES).map(&mut wave).collect()
}

fn next_in_turn(turn: &mut usize) -> usize {
    *turn += 1;
    (*turn - 1) % KEYS
}

fn unless_revoked(wave: usize, key: usize) -> usize {
    if wave >= REVOKED_IN && key == REVOKED { key + 1 } else { key }
}

/// The n-th key is charged 1/n as often as the first (Zipf).
struct Popularity {
    cumulated: Vec<f64>,
}

impl Popularity {
    #[expect(clippy::cast_precision_loss, reason = "500 is exact")]
    fn new() -> Self {
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += 1.0 / rank as f64;
            sum
        };
        Self { cumulated: (1..=KEYS).map(add).collect() }
    }

    fn pick(&self, chance: f64) -> usize {
        let sum = self.cumulated[KEYS - 1];
        self.cumulated.partition_point(|&c| c <= chance * sum).min(KEYS - 1)
    }
}

/// Numbers in `0.0..1.0`, the same in every run (a linear congruential generator; nothing here needs better).
struct Chance(u64);

impl Chance {
    #[expect(clippy::cast_precision_loss, reason = "31 bits are exact")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_updates_touch_every_key() {
        let waves = waves(10_000);
        let mut counts = [0_usize; KEYS];
        waves.iter().flatten().for_each(|&key| counts[key] += 1);
        assert_eq!(counts.iter().sum::<usize>(), 10_000);
        assert!(counts.iter().all(|&n| n > 0), "every key is charged: {counts:?}");
        assert!(counts[0] > 10 * counts[400], "some keys are busier: {counts:?}");
    }

    #[test]
    fn the_revoked_key_is_charged_before_and_never_after() {
        let waves = waves(10_000);
        let charged = |waves: &[Vec<usize>]| waves.iter().flatten().any(|&key| key == REVOKED);
        assert!(charged(&waves[..REVOKED_IN]));
        assert!(!charged(&waves[REVOKED_IN..]));
    }

    #[test]
    fn any_number_of_updates_is_shared_out() {
        for updates in [0, 1, 19, 999, 1000] {
            assert_eq!(waves(updates).iter().flatten().count(), updates);
        }
    }
}
