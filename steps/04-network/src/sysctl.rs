//! Settings of the kernel by their names, `net.ipv4.ip_forward` (man 8 sysctl).

/// The file of a setting, below /proc/sys. The parts of its name are separated by dots or by slashes. Whichever comes first
/// separates them, and the other one is a dot within a part: `net.ipv4.conf.eth0/100.forwarding` is a setting of eth0.100.
pub fn file(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|first| name.as_bytes()[first] == b'/') {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        assert_eq!(file("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(file("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(file("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(file("plain"), "plain");
    }
}
