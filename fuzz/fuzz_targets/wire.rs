#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rlog_fuzz::wire::messages(data));
