//! Feeds [`unstale_fuzz::decoder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unstale_fuzz::decoder(input));
