//! rlog-apply(1). Everything is in `rlog::cli::apply`.

fn main() -> std::process::ExitCode {
    rlog::cli::main(&rlog::cli::apply::TOOL)
}
