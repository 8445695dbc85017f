//! The configuration to begin with, which `spec` writes: a shell behind all walls.

use super::*;

/// A shell as root of the container, with three capabilities, on a root directory that cannot be written.
///
/// `masked` and `read_only` are what the runtime closes for a container without a configuration; with or without `/` in
/// front.
pub fn template(masked: &[&str], read_only: &[&str]) -> Spec {
    Spec {
        oci_version: NEWEST.to_owned(),
        process: Some(shell()),
        root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
        hostname: Some("cellblock".to_owned()),
        mounts: mounts(),
        linux: Some(Linux {
            namespaces: {
                use NamespaceKind::*;
                [Pid, Network, Ipc, Uts, Mount, Cgroup].map(|kind| Namespace { kind, path: None }).to_vec()
            },
            // No device but those that every container has.
            resources: Some(Resources {
                devices: vec![DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() }],
                ..Resources::default()
            }),
            masked_paths: absolute(masked),
            readonly_paths: absolute(read_only),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// The same for a user who is not root: a user namespace in which they are, and nothing that needs more than that.
///
/// The network is the host's, for nobody could connect one of its own; /sys is then the host's too, because only the
/// owner of a network namespace may make one. Limits need a cgroup that was handed to the user.
pub fn rootless(mut spec: Spec, uid: u32, gid: u32) -> Spec {
    let sys = Mount::new("/sys", "none", "/sys", "rbind nosuid noexec nodev ro");
    spec.mounts.retain(|mount| !mount.destination.starts_with("/sys"));
    for mount in &mut spec.mounts {
        // Groups other than 0 do not exist in there.
        mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
    }
    spec.mounts.push(sys);
    let linux = spec.linux.get_or_insert_default();
    linux.namespaces.retain(|namespace| !matches!(namespace.kind, NamespaceKind::Network | NamespaceKind::User));
    linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: uid, size: 1 }];
    linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: gid, size: 1 }];
    linux.resources = None;
    spec
}

/// A configuration as the text of `config.json`.
pub fn to_json(spec: &Spec) -> String {
    serde_json::to_string_pretty(spec).expect("strings and numbers") + "\n"
}

fn shell() -> Process {
    let kept = || words("CAP_AUDIT_WRITE CAP_KILL CAP_NET_BIND_SERVICE");
    Process {
        terminal: true,
        user: Some(User::default()),
        args: words("sh"),
        env: words("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=xterm"),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: kept(),
            effective: kept(),
            permitted: kept(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 1024, hard: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

/// The standard mounts, some with the options that other runtimes' templates have: programs in /dev may be executed, and
/// terminals belong to the group `tty`, which is number 5 in most images.
fn mounts() -> Vec<Mount> {
    const AS_ELSEWHERE: [(&str, &str, &str); 4] = [
        ("/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        ("/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        ("/dev/shm", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
        ("/sys/fs/cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    ];
    let mut mounts = Mount::standard();
    for mount in &mut mounts {
        if let Some((_, source, options)) = AS_ELSEWHERE.iter().find(|(place, ..)| *place == mount.destination) {
            (mount.source, mount.options) = (Some((*source).to_owned()), words(options));
        }
    }
    mounts
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn absolute(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| format!("/{}", path.trim_start_matches('/'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { capability: &|_| true, rlimit: &|_| true };

    #[test]
    fn both_pass_and_come_back_from_their_text() {
        let root = template(&["proc/kcore", "/sys/firmware"], &["proc/sys"]);
        assert_eq!(root.linux.as_ref().unwrap().masked_paths, ["/proc/kcore", "/sys/firmware"]);
        for spec in [root.clone(), rootless(root, 1000, 100)] {
            check(&spec, &KNOWN).unwrap();
            assert_eq!(parse::<Spec>("config.json", to_json(&spec).as_bytes()).unwrap(), spec);
        }
    }

    #[test]
    fn the_text_begins_as_people_expect_it() {
        let text = to_json(&template(&[], &[]));
        let beginning =
            "{\n  \"ociVersion\": \"1.3.0\",\n  \"process\": {\n    \"cwd\": \"/\",\n    \"terminal\": true,";
        assert!(text.starts_with(beginning), "{text}");
        assert!(!text.contains("null") && !text.contains("[]"), "{text}");
    }
}
