//! Settings of the machine that keep ordinary users from user namespaces: Debian's, the kernel's own, and Ubuntu's. A look at
//! them explains a refusal.

/// A setting, the value that forbids, and one that allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// Its name for sysctl(8).
    pub name: &'static str,
    /// What it says where user namespaces are forbidden.
    pub forbids: &'static str,
    /// What must be written to allow them.
    pub allows: &'static str,
}

const SWITCHES: [Switch; 3] = [
    Switch { name: "kernel.unprivileged_userns_clone", forbids: "0", allows: "1" },
    Switch { name: "user.max_user_namespaces", forbids: "0", allows: "10000" },
    Switch { name: "kernel.apparmor_restrict_unprivileged_userns", forbids: "1", allows: "0" },
];

impl Switch {
    /// The first one that forbids user namespaces, by what `setting` says of each name.
    pub fn that_forbids(setting: impl Fn(&str) -> String) -> Option<Switch> {
        SWITCHES.into_iter().find(|switch| setting(switch.name).trim() == switch.forbids)
    }
}
