//! `linli-agent`: the program. What it is made of stands in the library beside it.
use std::process::ExitCode;

fn main() -> ExitCode {
    linli_agent::commands::main()
}
