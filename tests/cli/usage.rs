//! What all five programs have in common.

use crate::common::rlog;

const PROGRAMS: [&str; 5] = ["rlog-extract", "rlog-ship", "rlog-queue", "rlog-apply", "rlog-dump"];

#[test]
fn an_unknown_option_exits_64() {
    for program in PROGRAMS.into_iter().filter(|program| *program != "rlog-ship") {
        rlog(program).arg("--no-such-option").assert().code(64);
    }
}

#[test]
fn ship_says_that_it_is_not_in_this_version_whatever_it_is_asked() {
    for arguments in [&[][..], &["push", "--to", "tls://backup:7707"], &["--stdio"]] {
        rlog("rlog-ship").args(arguments).assert().code(69).stderr(predicates::str::contains("not in this version"));
    }
}

#[test]
fn help_goes_to_standard_output_and_exits_0() {
    for program in PROGRAMS {
        rlog(program).arg("--help").assert().code(0).stdout(predicates::str::contains(program)).stderr("");
    }
}
