//! libFuzzer's entry to the target `reference` of crates/fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| layerstore_fuzz::run("reference", data));
