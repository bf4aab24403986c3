//! Feeds [`unstale_fuzz::template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::template(input));
