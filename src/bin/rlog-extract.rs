//! rlog-extract(1). Everything is in `rlog::cli::extract`.

fn main() -> std::process::ExitCode {
    rlog::cli::main(&rlog::cli::extract::TOOL)
}
