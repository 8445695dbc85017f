//! Names: /etc/hostname, /etc/hosts and /etc/resolv.conf, made for each cell and mounted over the root filesystem's own.

use std::fs;
use std::net::IpAddr;

use crate::options::{Mode, Plan};

/// The three files: where, and what is in them.
pub fn files(plan: &Plan, addresses: &[IpAddr], hostname: &str) -> Vec<(&'static str, String)> {
    // The host's own name, which a cell has by default, may be anything.
    let hostname: &str = &hostname.replace(char::is_control, "?");
    vec![
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", hosts(plan, addresses, hostname)),
        ("/etc/resolv.conf", resolv_conf(plan)),
    ]
}

fn hosts(plan: &Plan, addresses: &[IpAddr], hostname: &str) -> String {
    let mut text = match plan.mode {
        Mode::Host => read("/etc/hosts").unwrap_or_default(),
        Mode::None | Mode::Bridge => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n".to_owned(),
    };
    text.extend(addresses.iter().map(|address| format!("{address}\t{hostname}\n")));
    text.extend(plan.hosts.iter().map(|(name, address)| format!("{address}\t{name}\n")));
    text
}

fn resolv_conf(plan: &Plan) -> String {
    if !plan.dns.is_empty() {
        return plan.dns.iter().map(|address| format!("nameserver {address}\n")).collect();
    }
    match plan.mode {
        Mode::None => "# no network, no name server\n".to_owned(),
        Mode::Host => read("/etc/resolv.conf").unwrap_or_default(),
        Mode::Bridge => ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
            .iter()
            .filter_map(|path| read(path))
            .map(|text| without_loopback(&text))
            .find(|text| text.lines().any(|line| server(line).is_some()))
            .unwrap_or_else(|| "# the host's name server listens on its loopback only: give one by --dns\n".to_owned()),
    }
}

/// A file of the host's. A byte that is not UTF-8 spoils its own line only.
fn read(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The name server that a line names; a comment names none (man 5 resolv.conf).
fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
    address.split('%').next()?.parse().ok() // fe80::1%eth0 names a link
}

/// A name server on the host's loopback (systemd-resolved's, say) cannot be reached from the cell's.
fn without_loopback(text: &str) -> String {
    let lines = text.lines().filter(|line| server(line).is_none_or(|address| !address.is_loopback()));
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_on_the_loopback_are_left_out() {
        let text = "search example\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\n";
        assert_eq!(without_loopback(text), "search example\nnameserver 192.0.2.1\n");
        let servers =
            ["nameserver 192.0.2.1", "nameserver\t::1 ", "# the nameserver 192.0.2.1", "#nameserver 192.0.2.1"];
        assert_eq!(servers.map(|line| server(line).is_some()), [true, true, false, false]);
    }
}
