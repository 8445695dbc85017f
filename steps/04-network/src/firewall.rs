//! The firewall's rules: addresses translated on the way out and in. They are a language of their own, nftables'; one
//! table a bridge, written anew as a whole from what is plugged in, in one transaction.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use kernel::explain::call;
use kernel::sys::netlink::{Message, Netlink};
use kernel::{Errno, Failure};

use crate::lease::Lease;
use crate::note::Switched;
use crate::publish::Port;
use crate::subnet::Subnet;

/// The name of a bridge's table.
pub fn table(bridge: &str) -> String {
    format!("cellblock_{bridge}")
}

// ANCHOR: rules
/// The rules of one bridge, as `nft` reads them.
pub fn rules(bridge: &str, subnets: &[Subnet], leases: &[Lease]) -> String {
    let ports = |from_outside: bool| -> String {
        let all = leases.iter().flat_map(|lease| lease.ports.iter().map(move |port| (lease, port)));
        // A port of the loopback is for the host itself: a packet from elsewhere is never led in.
        all.filter(|(_, port)| !from_outside || !port.is_loopback())
            .flat_map(|(lease, port)| subnets.iter().filter_map(move |subnet| lead_in(*subnet, lease, port)))
            .collect()
    };
    let (from_outside, from_here) = (ports(true), ports(false));
    let mut leaving = String::new();
    for subnet in subnets {
        let ip = family(*subnet);
        // Into the world with the host's address; and through a published port back to a neighbour, who would else
        // answer us directly, with an address that we never asked.
        let _ = writeln!(leaving, "    {ip} saddr {subnet} oifname != \"{bridge}\" masquerade");
        let _ = writeln!(leaving, "    {ip} saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade");
    }
    format!(
        r#"  chain arriving {{
    type nat hook prerouting priority dstnat
{from_outside}  }}
  chain from_the_host_itself {{
    type nat hook output priority -100
{from_here}  }}
  chain leaving {{
    type nat hook postrouting priority srcnat
{leaving}    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
  }}
  chain no_loopback_from_other_links {{
    type filter hook prerouting priority raw
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    iifname != "lo" ip saddr 127.0.0.0/8 drop
  }}
  chain only_published_ports {{
    type filter hook forward priority filter
    iifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
  }}
"#
    )
}

/// The rule that leads a published port into a cell, if the port is one of that family.
fn lead_in(subnet: Subnet, lease: &Lease, port: &Port) -> Option<String> {
    let (ip, cell, protocol) = (family(subnet), subnet.host(lease.number), port.protocol());
    let to = match port.address {
        Some(address) if address.is_ipv4() != subnet.is_v4() => return None,
        Some(address) => format!("{ip} daddr {address}"),
        // The kernel sends nothing from ::1 to another link, whatever its rules say.
        None if !subnet.is_v4() => "fib daddr type local ip6 daddr != ::1".to_owned(),
        None => "meta nfproto ipv4 fib daddr type local".to_owned(),
    };
    let cell = if cell.is_ipv6() { format!("[{cell}]") } else { cell.to_string() };
    let to_cell = match port.more {
        0 => format!("{cell}:{}", port.cell),
        _ => {
            let pairs: Vec<String> = port.pairs().map(|(host, cell)| format!("{host} : {cell}")).collect();
            format!("{cell} : {protocol} dport map {{ {} }}", pairs.join(", "))
        }
    };
    Some(format!("    {to} {protocol} dport {} dnat {ip} to {to_cell}\n", port.hosts()))
}
// ANCHOR_END: rules

fn family(subnet: Subnet) -> &'static str {
    if subnet.is_v4() { "ip" } else { "ip6" }
}

/// A number that stands for the rules, to see whether they have changed.
pub fn fingerprint(rules: &str) -> String {
    let mut hasher = DefaultHasher::new();
    rules.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Puts the table in place of the one before, if there was one, and with it the filter for frames, if one is given. Returns
/// false where the kernel has no filter for frames.
///
/// # Shell: `nft -f -`
pub fn replace(bridge: &str, rules: &str, filter: Option<&str>) -> Result<bool> {
    let table = table(bridge);
    let whole = |family: &str, text: &str| format!("{}table {family} {table} {{\n{text}}}\n", without(family, &table));
    let count = |text: &str| text.lines().filter(|line| line.starts_with("    ") && !line.contains("type ")).count();
    let inet = whole("inet", rules);
    let shown = format!("table inet {table}, {} rules", count(rules));
    let both = filter.map(|filter| nft(&shown, &["-f", "-"], &format!("{inet}{}", whole("bridge", filter))));
    let filtered = both.as_ref().is_none_or(Result::is_ok);
    if both.is_none() || !filtered {
        nft(&shown, &["-f", "-"], &inet)?;
    }
    Ok(filtered)
}

/// What removes a table, whether it is there or not.
fn without(family: &str, table: &str) -> String {
    format!("table {family} {table} {{}}\ndelete table {family} {table}\n")
}

/// Whether the table is there: asked by a message of our own, which costs less than a program's start.
pub fn is_there(bridge: &str) -> Result<bool> {
    const TABLE_NAME: u16 = 1; // NFTA_TABLE_NAME
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETTABLE) as u16;
    let inet = [libc::NFPROTO_INET as u8, 0, 0, 0]; // struct nfgenmsg
    let question = Message::order(kind, 0, &inet).text(TABLE_NAME, &table(bridge));
    match Netlink::netfilter()?.ask(format_args!("NFT_MSG_GETTABLE name={}", table(bridge)), question) {
        Err(missing) if missing.errno() == Some(Errno::ENOENT) => Ok(false),
        answer => Ok(answer.map(|_| true)?),
    }
}

/// Removes the tables, if they are there.
pub fn remove(bridge: &str) -> Result<()> {
    let table = table(bridge);
    let (inet, frames) = (without("inet", &table), without("bridge", &table));
    let shown = format!("delete table inet {table}");
    nft(&shown, &["-f", "-"], &format!("{inet}{frames}")).or_else(|_| nft(&shown, &["-f", "-"], &inet)).map(drop)
}

/// The policy for the whole host stands in a table of its own; no --bridge has a dash in its name.
pub const POLICY: &str = "-router";

// ANCHOR: policy
/// Where forwarding was off before, nothing passes but from our bridges and to them.
pub fn set_policy(bridges: &[&str], switched: Switched) -> Result<()> {
    let names = bridges.iter().map(|bridge| format!("\"{bridge}\"")).collect::<Vec<_>>().join(", ");
    let drops = [("ipv4", switched.v4), ("ipv6", switched.v6)].into_iter().filter(|(_, ours)| *ours);
    let drops: String = drops.map(|(family, _)| format!("    meta nfproto {family} drop\n")).collect();
    let table = table(POLICY);
    let script = format!(
        r#"{}table inet {table} {{
  chain only_our_bridges {{
    type filter hook forward priority filter
    iifname {{ {names} }} accept
    oifname {{ {names} }} accept
{drops}  }}
}}
"#,
        without("inet", &table)
    );
    nft(&format!("table inet {table}"), &["-f", "-"], &script).map(drop)
}
// ANCHOR_END: policy

/// Which families the policy that stands is for.
pub fn policy() -> Result<Switched> {
    let table = table(POLICY);
    Ok(Switched::by_policy(&nft(&format!("list table inet {table}"), &["list", "table", "inet", &table], "")?))
}

/// Removes the policy, whether it is there or not.
pub fn remove_policy() -> Result<()> {
    let table = table(POLICY);
    nft(&format!("delete table inet {table}"), &["-f", "-"], &without("inet", &table)).map(drop)
}

/// The bridges for which there is a table of ours.
pub fn tables() -> Result<Vec<String>> {
    let listed = nft("list tables", &["list", "tables"], "")?;
    let name = |line: &str| {
        let rest = line.strip_prefix("table inet ").or(line.strip_prefix("table bridge "))?;
        rest.strip_prefix("cellblock_").map(str::to_owned)
    };
    let mut names: Vec<String> = listed.lines().filter_map(name).filter(|name| name != POLICY).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Runs `nft`, told as `shown`, and returns what it prints.
pub fn nft(shown: &str, arguments: &[&str], script: &str) -> Result<String> {
    let output = run_nft(arguments, script);
    let told = output.as_ref().map(drop).map_err(kernel::sys::errno);
    call(format_args!("nft({shown})"), told)?;
    let output = output.expect("told above");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or_default();
    Err(Failure::new(format!("nft({shown}): {line}")).hint("cargo doctor says what is missing").into())
}

fn run_nft(arguments: &[&str], script: &str) -> std::io::Result<Output> {
    let mut nft = Command::new("nft");
    nft.args(arguments).env("PATH", path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut nft = nft.spawn()?;
    nft.stdin.take().expect("piped").write_all(script.as_bytes())?;
    nft.wait_with_output()
}

/// Refuses early where there is no `nft`: it is run only when rules change.
pub fn check() -> Result<(), Failure> {
    if std::env::split_paths(&path()).any(|folder| folder.join("nft").is_file()) {
        return Ok(());
    }
    Err(Failure::new("the program nft is missing").hint("apt-get install nftables"))
}

/// Where programs are. Not every user's PATH leads to the administrator's.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_one_address_is_led_in_by_one_family() {
        let subnets: Vec<Subnet> = ["10.76.0.0/16", "fd76::/64"].iter().map(|text| text.parse().unwrap()).collect();
        let lease = Lease { number: 2, mac: None, ports: vec!["127.0.0.1:8080:80".parse().unwrap()] };
        let text = rules("br", &subnets, &[lease]);
        let rule = "ip daddr 127.0.0.1 tcp dport 8080 dnat ip to 10.76.0.2:80\n";
        assert_eq!(text.matches(rule).count(), 1, "for packets of the host's own, not for arriving ones: {text}");
        assert!(!text.contains("dnat ip6"), "{text}");
    }

    #[test]
    fn a_port_of_all_addresses_by_both() {
        let subnets: Vec<Subnet> = ["10.76.0.0/16", "fd76::/64"].iter().map(|text| text.parse().unwrap()).collect();
        let lease = Lease { number: 3, mac: None, ports: vec!["53:5353/udp".parse().unwrap()] };
        let text = rules("br", &subnets, &[lease]);
        assert!(text.contains("udp dport 53 dnat ip to 10.76.0.3:5353\n"), "{text}");
        assert!(text.contains("udp dport 53 dnat ip6 to [fd76::3]:5353\n"), "{text}");
    }
}
