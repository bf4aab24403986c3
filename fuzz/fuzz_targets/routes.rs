//! Feeds [`unstale_fuzz::routes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::routes(input));
