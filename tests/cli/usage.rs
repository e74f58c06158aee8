//! What all five programs have in common.

use crate::common::rlog;

const PROGRAMS: [&str; 5] = ["rlog-extract", "rlog-ship", "rlog-queue", "rlog-apply", "rlog-dump"];

#[test]
fn an_unknown_option_exits_64() {
    for program in PROGRAMS {
        rlog(program).arg("--no-such-option").assert().code(64);
    }
}

#[test]
fn help_goes_to_standard_output_and_exits_0() {
    for program in PROGRAMS {
        rlog(program).arg("--help").assert().code(0).stdout(predicates::str::contains(program)).stderr("");
    }
}
