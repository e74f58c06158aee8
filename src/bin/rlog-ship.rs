//! rlog-ship(1). Everything is in `rlog::cli::ship`.

fn main() -> std::process::ExitCode {
    rlog::cli::main(&rlog::cli::ship::TOOL)
}
