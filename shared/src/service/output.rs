//! Standard output of a program.
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::exit;

/// Writes one line. If the reader has exited (`| head -1`), the output is dropped, and the program continues
/// as usual; `println!` would panic.
pub fn line(text: impl Display) {
    check(writeln!(io::stdout().lock(), "{text}"));
}

/// Writes a text unchanged, with the same handling of a missing reader.
pub fn text(text: &[u8]) {
    let mut out = io::stdout().lock();
    check(out.write_all(text).and_then(|()| out.flush()));
}

fn check(written: io::Result<()>) {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("standard output cannot be written: {error}");
            std::process::exit(exit::IO.into());
        }
        _ => {}
    }
}
