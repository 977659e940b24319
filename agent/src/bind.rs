//! Remedies for an address that cannot be listened on.
use std::io::{Error, ErrorKind};

/// The remedy by the kind of the error.
pub fn remedy(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address: write one of its own, or 0.0.0.0 for all"
        }
        ErrorKind::AddrInUse => "is another program there, or another agent? Write another port",
        ErrorKind::PermissionDenied => {
            "this user may not: ports below 1024 are for root, write a higher one"
        }
        _ => "change it in the config",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_remedy_goes_with_what_the_kernel_says() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        let error = TcpListener::bind(address).expect_err("taken");
        assert!(remedy(&error).contains("another program"), "{error}");
        // TEST-NET-1 belongs to no machine.
        let error = TcpListener::bind("192.0.2.1:0").expect_err("of no machine");
        assert!(remedy(&error).contains("no such address"), "{error}");
        let error = Error::from(ErrorKind::PermissionDenied);
        assert!(remedy(&error).contains("higher"), "{error}");
    }
}
