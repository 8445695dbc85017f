//! What a process in here can see and do, as a table that is the same on every run.

use std::fs;
use std::process::ExitCode;

use inmate::sys;
use nix::sys::resource::{Resource, getrlimit};

/// Prints the report, a line per thing.
pub fn print() -> ExitCode {
    let lines = [
        ("process", process()),
        ("others", others()),
        (
            "hostname",
            nix::unistd::gethostname().map_or_else(|errno| errno.to_string(), |name| name.display().to_string()),
        ),
        ("root", list("/")),
        ("mounts", mounts()),
        ("devices", list("/dev")),
        ("interfaces", interfaces()),
        ("user", format!("uid {}, gid {}", nix::unistd::geteuid(), nix::unistd::getegid())),
        ("uid map", uid_map()),
        ("capabilities", capabilities()),
        ("keyring", keyring()),
        ("seccomp", status("Seccomp").unwrap_or_else(unknown)),
        ("no new privs", status("NoNewPrivs").unwrap_or_else(unknown)),
        ("descriptors", descriptors()),
        ("variables", variables()),
        ("limits", limits()),
    ];
    for (what, found) in lines {
        println!("{what:<14}{found}");
    }
    ExitCode::SUCCESS
}

fn unknown() -> String {
    "unknown: no /proc".to_owned()
}

fn process() -> String {
    format!("pid {}, parent {}", nix::unistd::getpid(), nix::unistd::getppid())
}

fn others() -> String {
    let Ok(entries) = fs::read_dir("/proc") else { return unknown() };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names.filter(|name| is_process(name)).count() {
        0 => unknown(),
        1 => "none".to_owned(),
        count => format!("{} processes", count - 1),
    }
}

/// The names in a directory, sorted.
fn list(directory: &str) -> String {
    let Ok(entries) = fs::read_dir(directory) else { return "none".to_owned() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// The mount points, with ro where nothing can be written. What is masked in /proc and /sys differs between kernels.
fn mounts() -> String {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return unknown() };
    let mount = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let read_only = if fields.get(5)?.split(',').any(|flag| flag == "ro") { " (ro)" } else { "" };
        Some(format!("{}{read_only}", fields.get(4)?))
    };
    let masks = |place: &String| place.starts_with("/proc/") || place.starts_with("/sys/");
    let (masked, mut places): (Vec<String>, Vec<String>) = table.lines().filter_map(mount).partition(masks);
    places.sort(); // older kernels list them in another order
    places.extend((!masked.is_empty()).then(|| "and what covers parts of /proc and /sys".to_owned()));
    places.join(", ")
}

fn interfaces() -> String {
    let Ok(interfaces) = nix::net::if_::if_nameindex() else { return "none".to_owned() };
    interfaces.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn uid_map() -> String {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else { return unknown() };
    let lines = map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let range = |fields: Vec<&str>| match fields[..] {
        ["0", "0", "4294967295"] => "all ids as on the host".to_owned(),
        [inside, outside, count] => format!("{inside} in here is {outside} outside ({count})"),
        _ => fields.join(" "),
    };
    lines.map(range).collect::<Vec<_>>().join(", ")
}

/// A field of /proc/self/status.
fn status(field: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim))?;
    Some(line.to_owned())
}

/// The capabilities: all, as an unhindered root of any machine has them; or all five sets, exactly.
fn capabilities() -> String {
    const SYS_ADMIN: u64 = 1 << 21;
    let set = |name: &str| status(name).and_then(|text| u64::from_str_radix(&text, 16).ok());
    let sets = ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"].map(set);
    match sets {
        [Some(effective), _, _, Some(bounding), _] if effective == bounding && effective & SYS_ADMIN != 0 => {
            "all that could be had".to_owned()
        }
        [Some(effective), Some(permitted), Some(inheritable), Some(bounding), Some(ambient)] => format!(
            "effective {effective:x}, permitted {permitted:x}, inheritable {inheritable:x}, bounding {bounding:x}, ambient {ambient:x}"
        ),
        _ => unknown(),
    }
}

/// What is in the session keyring: one that was made for this process is empty.
fn keyring() -> String {
    match sys::session_keys() {
        Ok(0) => "empty".to_owned(),
        Ok(_) => "has keys".to_owned(),
        Err(errno) => format!("keyctl => {errno:?}"),
    }
}

fn descriptors() -> String {
    (0..1024).filter(|&fd| sys::is_open(fd)).map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")
}

fn variables() -> String {
    let mut names: Vec<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names.join(" ")
}

fn limits() -> String {
    let limit = |resource| match getrlimit(resource) {
        Ok((nix::libc::RLIM_INFINITY, _)) | Err(_) => "unlimited".to_owned(),
        Ok((soft, _)) => soft.to_string(),
    };
    let (files, processes) = (limit(Resource::RLIMIT_NOFILE), limit(Resource::RLIMIT_NPROC));
    format!("{files} open files, {processes} processes")
}
