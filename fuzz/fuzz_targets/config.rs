//! `cargo xtask fuzz config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vip_lb_tests::fuzz::config::one(data));
