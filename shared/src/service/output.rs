//! What a program says on standard output.
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::exit;

/// Writes one line. A reader that has gone (`| head -1`) has had what it wanted: what follows is written
/// to nobody, and the program ends as it would have. `println!` would panic.
pub fn line(text: impl Display) {
    check(writeln!(io::stdout().lock(), "{text}"));
}

/// Writes a text as it is, in the same way.
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
