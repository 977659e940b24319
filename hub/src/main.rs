//! `linli-hub`: the program. Its parts are in the library beside it.
use std::process::ExitCode;

fn main() -> ExitCode {
    linli_hub::commands::main()
}
