//! The attacks: a list, and what they have in common.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use kernel::sys::clone::{self, Clone};

mod files;
mod network;
mod privileges;
mod processes;
mod resources;
mod settings;

pub use privileges::{SETUID_PROBE, setuid_probe};

/// A way out, and what it tries.
struct Attack {
    name: &'static str,
    tries: &'static str,
    run: fn() -> Verdict,
}

/// All of them, in the order in which the lessons end them.
const ATTACKS: [Attack; 24] = [
    Attack { name: "host-files", tries: "read a file of the host by its path", run: files::host_files },
    Attack { name: "environment", tries: "find a variable of the host's", run: files::environment },
    Attack { name: "descriptors", tries: "find a file that the launcher left open", run: files::descriptors },
    Attack { name: "host-processes", tries: "signal a process of the host", run: processes::host_processes },
    Attack { name: "ptrace", tries: "trace a process of the host", run: processes::ptrace },
    Attack { name: "init", tries: "find what is the host's at the first process", run: processes::first_process },
    Attack { name: "hostname", tries: "rename the host", run: processes::hostname },
    Attack { name: "shared-memory", tries: "find shared memory of the host", run: processes::shared_memory },
    Attack { name: "mount-leak", tries: "mount something on the host", run: files::mount_leak },
    Attack { name: "chroot", tries: "climb out with a second chroot", run: files::chroot },
    Attack { name: "proc-sys", tries: "change a setting of the host's kernel", run: settings::proc_sys },
    Attack { name: "sysrq", tries: "reach the key that reboots the host", run: settings::sysrq },
    Attack { name: "host-port", tries: "connect to a port on the host's loopback", run: network::host_port },
    Attack { name: "abstract-socket", tries: "connect to an abstract socket", run: network::abstract_socket },
    Attack { name: "fork-bomb", tries: "fill the process table", run: resources::fork_bomb },
    Attack { name: "memory", tries: "take the host's memory", run: resources::memory },
    Attack { name: "mknod", tries: "open the host's disk through a node of its own", run: resources::mknod },
    Attack { name: "remount", tries: "make read-only settings writable again", run: settings::remount },
    Attack { name: "mount", tries: "mount a /proc without masked paths", run: settings::mount },
    Attack { name: "release-agent", tries: "have the kernel run a program on the host", run: settings::release_agent },
    Attack { name: "file-handle", tries: "open the host's root by its inode number", run: files::file_handle },
    Attack { name: "tiocsti", tries: "type into the host's terminal", run: privileges::tiocsti },
    Attack { name: "keyring", tries: "find a key of the host's", run: privileges::keyring },
    Attack { name: "setuid", tries: "become root through a setuid program", run: privileges::setuid },
];

/// What came of an attack, and why.
pub enum Verdict {
    /// It reached the host.
    Escaped(String),
    /// Something held it.
    Held(String),
    /// It makes no sense here.
    NotApplicable(String),
    /// Only a process outside can tell: what to look for, and how it is undone.
    Look(String, fn()),
}

use Verdict::{Escaped, Held, Look, NotApplicable};

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match self {
            Escaped(why) => ("ESCAPED", why),
            Held(why) => ("HELD", why),
            NotApplicable(why) => ("n/a", why),
            Look(why, _) => ("LOOK", why),
        };
        write!(f, "{word:<8}{why}")
    }
}

/// Lists the attacks.
pub fn list() -> ExitCode {
    for Attack { name, tries, .. } in ATTACKS {
        println!("{name:<17}{tries}");
    }
    ExitCode::SUCCESS
}

/// Tries one.
pub fn run(name: &str) -> ExitCode {
    let Some(attack) = ATTACKS.iter().find(|attack| attack.name == name) else {
        eprintln!("inmate: no attack named {name}\nhint: inmate attack lists them");
        return ExitCode::from(125);
    };
    let verdict = (attack.run)();
    println!("{name}: {verdict}");
    match verdict {
        Escaped(_) => ExitCode::from(1),
        Held(_) => ExitCode::SUCCESS,
        NotApplicable(_) => ExitCode::from(2),
        Look(_, undo) => {
            let _ = std::io::stdin().read_line(&mut String::new());
            undo();
            ExitCode::from(2)
        }
    }
}

/// A file that lies on the host, and in no root filesystem: the inmate's own source.
const HOST_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn host_file_is_there() -> bool {
    Path::new(HOST_FILE).exists()
}

/// Whether a kernel setting can be opened for writing. It is not written.
fn writable(path: &Path) -> Verdict {
    match std::fs::OpenOptions::new().write(true).open(path) {
        Ok(_) => Escaped("it can be written".to_owned()),
        Err(error) => Held(reason(&error)),
    }
}

/// The kernel's reason, without the number that differs between machines.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Does something in a child, which may change its root or its user, or be killed: 0 means that it got through.
fn in_child(work: impl FnOnce() -> u8) -> Option<u8> {
    match clone::fork("helper") {
        Ok(Clone::Child) => clone::exit_now(work()),
        Ok(Clone::Parent(helper)) => match helper.wait().ok()? {
            clone::Exit::Code(code) => Some(code),
            clone::Exit::Signal(_) => None,
        },
        Err(_) => None,
    }
}
