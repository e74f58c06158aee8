//! rlog-queue(1). Everything is in `rlog::cli::queue`.

fn main() -> std::process::ExitCode {
    rlog::cli::main(&rlog::cli::queue::TOOL)
}
