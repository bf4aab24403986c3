//! The fuzz targets without a fuzzer: every input of the corpora, and mutations of them, the same in every run.

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is also a crate of its own")]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each target is fed.
const TIME: Duration = Duration::from_secs(2);

/// What breaks readers more often than random bytes do.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"*",
    b"?",
    b"^",
    b"-",
    b"=",
    b",",
    b".",
    b"\n",
    b"${",
    b"{a[]?}",
    b"\\ud800",
    b"null",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"99999999999999999999",
    b"type",
    b"data",
];

/// Numbers at random, the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or_default()
    }

    /// A range of a text.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(16) + 1)
    }

    /// Changes an input somewhere: a bit turned, a piece cut out, doubled, replaced by a token or by a piece of another input.
    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let range = self.range(input.len());
        let piece: Vec<u8> = match self.below(5) {
            0 => Vec::new(),
            1 => input[range.clone()].repeat(2),
            2 => TOKENS[self.below(TOKENS.len())].to_vec(),
            3 => other[self.range(other.len())].to_vec(),
            _ => input[range.clone()].iter().map(|byte| byte ^ (1 << self.below(8))).collect(),
        };
        input.splice(range, piece);
        input.truncate(4096);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a file can be read")).collect()
}

/// Feeds one input, and shows it if a promise is broken.
fn feed(name: &str, target: targets::Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{name} breaks on b\"{}\"", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn no_target_breaks_on_its_corpus_or_on_mutations_of_it() {
    for (name, target) in targets::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for input in &corpus {
            feed(name, target, input);
        }
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            let mut input = corpus[dice.below(corpus.len())].clone();
            for _ in 0..=dice.below(4) {
                let other = dice.below(corpus.len());
                dice.mutate(&mut input, &corpus[other]);
            }
            feed(name, target, &input);
        }
    }
}
