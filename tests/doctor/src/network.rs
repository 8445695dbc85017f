//! The network: a pair of virtual cables, a bridge, and the firewall. Each is tried in a network namespace of a child.
//!
//! The kernel may load a module for it, as it would for the lesson.

use std::path::Path;
use std::process::{Command, Stdio};

use kernel::explain::call;
use kernel::sys::clone::CloneFlags;
use kernel::sys::netlink::{Message, Netlink};
use kernel::{Errno, Failure, purpose};

use crate::check::{Check, Lack};
use crate::rights::{Rights, refused};
use crate::{find_program, modules};

const STEP: &[&str] = &["network"];

/// The lines about the network.
pub fn checks(rights: &Rights) -> Vec<Check> {
    let nft = find_program("nft");
    let nftables = nftables(rights, nft.as_deref());
    let program = match nft {
        Some(path) => Ok(path.display().to_string()),
        None => Err(Lack::new("the program nft is not installed", rights.sudo(&install("nftables")))),
    };
    vec![
        Check::new("veth", STEP, link(rights, "veth", "CONFIG_VETH")),
        Check::new("bridge", STEP, link(rights, "bridge", "CONFIG_BRIDGE")),
        Check::new("nft", STEP, program),
        Check::new("nftables", STEP, nftables),
    ]
}

fn link(rights: &Rights, kind: &str, option: &str) -> Result<String, Lack> {
    purpose("a network link, in a namespace without other processes");
    let in_kernel = || modules::in_kernel(kind);
    rights.attempt(CloneFlags::CLONE_NEWNET, || add_link(kind), in_kernel, |errno| lack(errno, option))
}

/// The kernel's part: it answers, and it translates addresses, if there is a program to ask for that.
fn nftables(rights: &Rights, nft: Option<&Path>) -> Result<String, Lack> {
    purpose("does the kernel answer for nftables?");
    let in_kernel = || modules::in_kernel("nf_tables");
    let why_silent = |errno| lack(errno, "CONFIG_NF_TABLES");
    let answer = rights.attempt(CloneFlags::CLONE_NEWNET, ask_nftables, in_kernel, why_silent)?;
    let Some(nft) = nft else { return Ok(answer) };
    purpose("a rule that translates addresses, in a namespace without other processes");
    rights.attempt(
        CloneFlags::CLONE_NEWNET,
        || masquerade(nft),
        || Some(true),
        |_| {
            let remedy = "is CONFIG_NFT_MASQ in the kernel? a distribution's own has it";
            Lack::new("there, but no rule can be made that translates addresses", remedy)
        },
    )
}

/// Makes a table with such a rule (man 8 nft). It vanishes with the namespace.
fn masquerade(nft: &Path) -> Result<(), Failure> {
    const TABLE: &str = "table ip doctor { chain nat { type nat hook postrouting priority 100; masquerade; }; }\n";
    let quiet = || Stdio::null();
    let status = Command::new(nft).arg(TABLE).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    let made = status.is_ok_and(|status| status.success());
    call(format_args!("nft {TABLE:?}"), if made { Ok(()) } else { Err(Errno::EOPNOTSUPP) })
}

fn lack(errno: Errno, option: &str) -> Lack {
    match errno {
        // No such kind of link; no such netlink family; a family that does not know the message.
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL => modules::lack(option),
        _ => refused(errno),
    }
}

/// How this distribution installs a package.
pub fn install(package: &str) -> String {
    let managers = [("apt-get", "apt-get install"), ("dnf", "dnf install"), ("pacman", "pacman -S")];
    match managers.iter().find(|(program, _)| find_program(program).is_some()) {
        Some((_, command)) => format!("{command} {package}"),
        None => format!("apt-get install {package} (on Debian; here by another name, perhaps)"),
    }
}

/// Makes a network link of a kind, with a name of the kernel's choice.
fn add_link(kind: &str) -> Result<(), Failure> {
    let any_link = [0; 16]; // struct ifinfomsg: no family, kind, index or flags asked for
    let order = Message::order(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &any_link);
    let order = order.nest(libc::IFLA_LINKINFO, &[], |info| info.text(libc::IFLA_INFO_KIND, kind));
    Netlink::route()?.ask(format_args!("RTM_NEWLINK kind={kind}"), order).map(drop)
}

/// Asks nftables for its rule set's generation: nothing changes, but an answer shows that nftables is there.
fn ask_nftables() -> Result<(), Failure> {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN) as u16;
    let any_family = [0; 4]; // struct nfgenmsg
    Netlink::netfilter()?.ask(format_args!("NFT_MSG_GETGEN"), Message::order(kind, 0, &any_family)).map(drop)
}
