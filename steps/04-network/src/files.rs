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
        Mode::Host => fs::read_to_string("/etc/hosts").unwrap_or_default(),
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
        Mode::Host => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        Mode::Bridge => ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .map(|text| without_loopback(&text))
            .find(|text| text.contains("nameserver"))
            .unwrap_or_else(|| "# the host's name server listens on its loopback only: give one by --dns\n".to_owned()),
    }
}

/// A name server on the host's loopback (systemd-resolved's, say) cannot be reached from the cell's.
fn without_loopback(text: &str) -> String {
    let server = |line: &str| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
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
    }
}
