//! Who runs this process, for logs of what people did.
use std::fs;

/// The name of the operating system's user. Behind `sudo`, the user that ran `sudo`. A user without a name in
/// `/etc/passwd` is named by number, like `uid-1000`.
pub fn name() -> String {
    let uid = rustix::process::getuid();
    let behind_sudo = std::env::var("SUDO_USER").ok();
    if uid.is_root()
        && let Some(user) = behind_sudo.filter(|user| is_name(user))
    {
        return user;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&passwd, uid.as_raw()).unwrap_or_else(|| format!("uid-{}", uid.as_raw()))
}

/// The name of a user in `passwd(5)`.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse::<u32>().ok()?;
        (number == uid && is_name(name)).then(|| name.to_owned())
    })
}

/// A name is short and has nothing that could break a line of a log.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .chars()
            .all(|letter| !letter.is_control() && letter != ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number_and_a_broken_line_is_none() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbad line\nwang:x:1000:1000::/home/wang:/bin/sh\n";
        for (uid, name) in [(0, Some("root")), (1000, Some("wang")), (7, None)] {
            assert_eq!(name_in(passwd, uid).as_deref(), name);
        }
        assert!(!name().is_empty());
    }
}
