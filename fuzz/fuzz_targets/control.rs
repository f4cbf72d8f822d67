//! `cargo xtask fuzz control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vip_lb_tests::fuzz::control::one(data));
