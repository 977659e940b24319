//! What a program says on standard output.
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::exit;

/// Writes one line. A reader that has gone (`| head -1`) has had what it wanted: the program ends there,
/// quietly and well. `println!` would panic.
pub fn line(text: impl Display) {
    end_if_failed(writeln!(io::stdout().lock(), "{text}"));
}

/// Writes a text as it is, in the same way.
pub fn text(text: &[u8]) {
    end_if_failed(io::stdout().lock().write_all(text));
}

fn end_if_failed(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(exit::OK.into());
    }
    eprintln!("standard output cannot be written: {error}");
    std::process::exit(exit::IO.into());
}
