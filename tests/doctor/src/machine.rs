//! The machine: its kernel's version, its processor, and whether it is one at all.

use std::path::Path;

use crate::check::{Check, Lack, STEPS};
use crate::read;

/// openat2, the new mount calls, mount_setattr and cgroup.kill are all there from this version on.
const OLDEST: (u32, u32) = (5, 14);

/// The lines about the machine.
pub fn checks() -> Vec<Check> {
    vec![
        Check::new("kernel", STEPS, kernel(&kernel_release())),
        Check::new("architecture", STEPS, architecture(std::env::consts::ARCH)),
        Check::note("machine", kind_of_machine()),
    ]
}

/// The running kernel's version, as `uname -r` prints it.
pub fn kernel_release() -> String {
    read("/proc/sys/kernel/osrelease").trim().to_owned()
}

fn kernel(release: &str) -> Result<String, Lack> {
    let (major, minor) = OLDEST;
    match version(release) {
        Some(version) if version >= OLDEST => Ok(format!("{release} ({major}.{minor} or newer)")),
        Some(_) => {
            let remedy = "boot a newer one, or a virtual machine: Debian 12, Ubuntu 22.04 or newer";
            Err(Lack::new(format!("{release} is older than {major}.{minor}"), remedy))
        }
        None => Err(Lack::new(format!("{release:?} is no version of Linux"), "boot Linux itself")),
    }
}

/// `6.1.0-13-amd64` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn architecture(arch: &str) -> Result<String, Lack> {
    match arch {
        "x86_64" | "aarch64" => Ok(arch.to_owned()),
        _ => {
            Err(Lack::new(format!("{arch} is neither x86_64 nor aarch64"), "take another machine, or an emulated one"))
        }
    }
}

/// A container shares its host's kernel, settings and limits; a virtual machine has its own. When something is
/// refused, this says where to look.
fn kind_of_machine() -> String {
    if kernel_release().to_lowercase().contains("microsoft") {
        return "a virtual machine (WSL)".to_owned(); // which gives its distributions pid namespaces of their own
    }
    match (container(), virtual_machine()) {
        (Some(container), Some(machine)) => format!("{container}, in {machine}"),
        (Some(kind), None) | (None, Some(kind)) => kind,
        (None, None) => "neither container nor virtual machine, as far as can be seen".to_owned(),
    }
}

/// The kernel numbers its first pid namespace 0xEFFFFFFC, and another one means a container. The engine's mark alone
/// does not: it stays in an image that became a machine.
fn container() -> Option<String> {
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    if namespace == Path::new("pid:[4026531836]") {
        return None;
    }
    let marks = [("/run/.containerenv", "podman"), ("/.dockerenv", "docker"), ("/run/systemd/container", "systemd")];
    let engine = marks.iter().find(|(path, _)| Path::new(path).exists()).map(|(_, engine)| *engine);
    Some(format!("a container ({})", engine.unwrap_or("it has a pid namespace of its own")))
}

fn virtual_machine() -> Option<String> {
    let firmware = read("/sys/class/dmi/id/sys_vendor") + &read("/sys/class/dmi/id/product_name");
    if let Some(name) = hypervisor(&firmware) {
        return Some(format!("a virtual machine ({name})"));
    }
    let flagged = read("/proc/cpuinfo").split_whitespace().any(|word| word == "hypervisor");
    let declared = ["/sys/hypervisor/type", "/proc/device-tree/hypervisor"].iter().any(|path| Path::new(path).exists());
    (flagged || declared).then(|| "a virtual machine".to_owned())
}

/// Which hypervisor it is that names itself as the machine's maker.
fn hypervisor(firmware: &str) -> Option<&'static str> {
    let names = [
        ("QEMU", "QEMU"),
        ("KVM", "KVM"),
        ("VirtualBox", "VirtualBox"),
        ("VMware", "VMware"),
        ("Xen", "Xen"),
        ("Microsoft Corporation\nVirtual Machine", "Hyper-V"),
        ("Amazon EC2", "Amazon EC2"),
        ("Google Compute Engine", "Google Cloud"),
        ("Apple Virtualization", "Apple"),
    ];
    names.iter().find(|(text, _)| firmware.contains(text)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("7.0-rc1"), Some((7, 0)));
        assert_eq!(version(""), None);
        assert_eq!(version("six.one"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(kernel("5.14.0-427.el9.x86_64").is_ok());
        assert!(kernel("10.0.1").is_ok());
        assert!(kernel("5.4.0-1-generic").is_err());
        assert!(kernel("").is_err());
    }

    #[test]
    fn firmware_names_the_hypervisor() {
        assert_eq!(hypervisor("QEMU\nStandard PC (Q35 + ICH9, 2009)\n"), Some("QEMU"));
        assert_eq!(hypervisor("Microsoft Corporation\nVirtual Machine\n"), Some("Hyper-V"));
        assert_eq!(hypervisor("LENOVO\n20XW00ABCD\n"), None);
    }
}
