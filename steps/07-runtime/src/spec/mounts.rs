//! What is mounted in the container, and whose numbers are translated: `mounts`, and the id maps.

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
