//! Feeds [`unstale_fuzz::answers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::answers(input));
