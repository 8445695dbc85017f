//! What is mounted in the container, and whose numbers are translated: `mounts`, and the id maps.

use kernel::sys::mount::Attributes;
use pivot_root::Standard;

use super::object::object;

object! {
    /// One mount; they are made in the order of the list (config.md, Mounts).
    #[derive(Default)]
    Mount {
        required {
            /// Where: a path in the container. One that is not absolute, which is old usage, counts from `/`.
            destination: String,
        }
        optional {
            /// The file system's name, such as tmpfs. A bind mount needs none.
            #[serde(rename = "type")]
            kind: Option<String>,
            /// What: a file or directory of the host, from the bundle if not absolute; a device; or just a name.
            source: Option<String>,
            /// How, as in fstab; what is no option of the kernel's mounts is one of the file system.
            options: Vec<String>,
            /// How the owners of its files are translated (man 2 mount_setattr, ID-mapped mounts).
            uid_mappings: Vec<IdMapping>,
            /// How the groups of its files are translated.
            gid_mappings: Vec<IdMapping>,
        }
    }
}

impl Mount {
    /// A mount with its options as mount(8) takes them, but with a space between the words.
    pub fn new(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
        Mount {
            destination: destination.to_owned(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.split(' ').map(str::to_owned).collect(),
            ..Mount::default()
        }
    }

    /// The file systems that every container has: step 3's, and step 5's view of the cgroups.
    pub fn standard() -> Vec<Mount> {
        let groups = Mount::new("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev ro");
        pivot_root::STANDARD.iter().map(Mount::of).chain([groups]).collect()
    }

    fn of(standard: &Standard) -> Mount {
        const WORDS: [(Attributes, &str); 4] = [
            (Attributes::NOSUID, "nosuid"),
            (Attributes::NOEXEC, "noexec"),
            (Attributes::NODEV, "nodev"),
            (Attributes::RDONLY, "ro"),
        ];
        let forbidden = WORDS.iter().filter(|(attribute, _)| standard.attributes.contains(*attribute));
        let words: Vec<&str> = forbidden.map(|(_, word)| *word).chain(standard.options.iter().copied()).collect();
        Mount::new(&format!("/{}", standard.place), standard.kind, standard.kind, &words.join(" "))
    }

    /// Whether it shows what is mounted elsewhere already, and is not a new file system.
    pub fn is_bind(&self) -> bool {
        self.kind.as_deref() == Some("bind") || self.has_option("bind") || self.has_option("rbind")
    }

    /// Whether this option is given.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }
}

object! {
    /// One range of user or group numbers (config-linux.md, User namespace mappings; man 7 user_namespaces).
    #[derive(Default)]
    IdMapping {
        required {
            /// The first number in the container.
            #[serde(rename = "containerID")]
            container_id: u32,
            /// The host's number for it.
            #[serde(rename = "hostID")]
            host_id: u32,
            /// How many.
            size: u32,
        }
    }
}
