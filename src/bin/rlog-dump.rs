//! rlog-dump(1). Everything is in `rlog::cli::dump`.

fn main() -> std::process::ExitCode {
    rlog::cli::main(&rlog::cli::dump::TOOL)
}
