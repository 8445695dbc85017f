//! Settings of the kernel that a namespace has for itself: sysctl(8) by their files in /proc/sys.

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its file, below /proc.
    pub file: String,
    /// What is written.
    pub value: String,
}

impl Setting {
    /// From its name, `net.ipv4.ip_forward` or `net/ipv4/ip_forward`. As in sysctl(8), the first separator says which of the
    /// two stands between the parts; the other then stands for itself, as in `net.ipv4.conf.eth0/1.rp_filter`.
    pub fn new(name: &str, value: &str) -> Setting {
        let by_dots = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
        let swap = |c: char| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path = if by_dots { name.chars().map(swap).collect() } else { name.to_owned() };
        Setting { file: format!("sys/{path}"), value: value.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_them() {
        for name in ["net.ipv4.ip_forward", "net/ipv4/ip_forward"] {
            assert_eq!(Setting::new(name, "1").file, "sys/net/ipv4/ip_forward");
        }
        assert_eq!(Setting::new("net.ipv4.conf.eth0/1.rp_filter", "1").file, "sys/net/ipv4/conf/eth0.1/rp_filter");
    }
}
