//! Feeds [`unstale_fuzz::glob`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::glob(input));
