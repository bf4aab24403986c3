//! Feeds [`unstale_fuzz::notice`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::notice(input));
