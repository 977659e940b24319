// Correlation and what it stands on, at the root of a bench as they are at the root of the program. Included, not a
// module of its own: modules name each other by `crate::`.
#[path = "../../src"]
mod hub {
    #![allow(
        dead_code,
        unused_imports,
        reason = "a bench uses a part of the modules"
    )]
    pub mod correlate;
    pub mod local_time;
}
use hub::{correlate, local_time};
