//! The table of users (passwd(5)).

/// The name of the first user with this id.
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_table_has_it() {
        let passwd = "root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("bob"));
        assert_eq!(user_name(passwd, 100), None);
    }
}
