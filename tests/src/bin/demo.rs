//! `make demo`: a hub and three agents with real mutual TLS, fed until Ctrl-C or for `SECONDS`.
fn main() {}
