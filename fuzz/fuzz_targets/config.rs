//! Feeds [`unstale_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::config(input));
