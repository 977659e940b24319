//! The codec on the way of an event.
fn main() {
    divan::main();
}
