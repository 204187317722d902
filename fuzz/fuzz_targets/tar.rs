//! libFuzzer's entry to the target `tar` of crates/fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| layerstore_fuzz::run("tar", data));

// An archive whose checksums are wrong says nothing but that.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    layerstore_fuzz::mutate::archive(data, size, max_size, seed, libfuzzer_sys::fuzzer_mutate)
});
