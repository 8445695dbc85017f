//! The kernel's settings of a link of ours, before it is switched on: what is plugged in must not configure it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use kernel::sys::clone::write_file;
use kernel::{Errno, Remedy, purpose};

/// What helps where /proc/sys is read-only, as in another container.
pub const WRITABLE: &str = "mount -o remount,bind,rw /proc/sys";

// ANCHOR: learn_nothing
/// A link takes no router, address, or way from what its neighbours send. By default the kernel believes the first router that
/// advertises itself, and any cell can do that (CVE-2020-13401). The link must not be up yet.
///
/// # Shell: `sysctl -w net.ipv6.conf.NAME.accept_ra=0` and so on
pub fn learn_nothing(link: &str) -> Result<()> {
    for setting in ["accept_ra", "autoconf", "accept_redirects", "accept_source_route"] {
        write_if_there(&format!("/proc/sys/net/ipv6/conf/{link}/{setting}"), "0")?;
    }
    for setting in ["accept_redirects", "accept_source_route"] {
        write_if_there(&format!("/proc/sys/net/ipv4/conf/{link}/{setting}"), "0")?;
    }
    Ok(())
}
// ANCHOR_END: learn_nothing

/// In a cell: the setting for all links would allow IPv4 redirects on each, whatever the link itself says (it is no router).
pub fn refuse_redirects() -> Result<()> {
    write_if_there("/proc/sys/net/ipv4/conf/all/accept_redirects", "0")
}

/// Whether packets from the host's 127.0.0.1 may leave by this bridge, to a published port. The kernel's own refusal of
/// packets *to* 127.0.0.0/8 from there is off as long: only while a port needs it.
pub fn route_localnet(bridge: &str, on: bool) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    let value = if on { "1" } else { "0" };
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    purpose(if on {
        "the host's own 127.0.0.1 may reach a published port"
    } else {
        "no port needs 127.0.0.1 any more"
    });
    set(&path, value)
}

/// Writes a setting (man 5 proc).
///
/// # Errors
/// EROFS in another container, whose /proc/sys is read-only.
pub fn set(path: &str, value: &str) -> Result<()> {
    Ok(write_file(path, value).hint_on(Errno::EROFS, WRITABLE)?)
}

/// A kernel without IPv6 has no such settings.
fn write_if_there(path: &str, value: &str) -> Result<()> {
    if Path::new(path).exists() { set(path, value) } else { Ok(()) }
}
