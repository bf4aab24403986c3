//! Feeds [`unstale_fuzz::bodies`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::bodies(input));
