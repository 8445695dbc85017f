//! Whom the command runs as: `--user`, looked up in the cell's own /etc/passwd and /etc/group (man 5 passwd, man 5 group).

use std::path::Path;

use anyhow::{Context, Result};
use kernel::sys::{inside, mount, privilege};
use kernel::{Errno, Failure, Remedy};

/// A user, as it was asked for: names or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    user: String,
    group: Option<String>,
}

/// A user of the cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// The other groups that it belongs to.
    pub groups: Vec<u32>,
    /// Its home directory, if /etc/passwd knows it.
    pub home: Option<String>,
}

impl Asked {
    /// Reads `USER[:GROUP]`, each a name or a number.
    ///
    /// # Errors
    /// Something is empty, or a user cannot have that number.
    pub fn parse(text: &str) -> Result<Asked, Failure> {
        let refuse =
            |why: &str| Failure::new(format!("--user {text:?}: {why}")).hint("such as 1000, 1000:1000 or www-data");
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        for part in std::iter::once(user).chain(group) {
            if part.is_empty() {
                return Err(refuse("something is missing"));
            }
            // 4294967295 is -1, which means "leave it as it is" to the kernel.
            let odd = part.starts_with(['-', '+']) || part.contains(char::is_whitespace);
            if odd
                || (part.bytes().all(|byte| byte.is_ascii_digit())
                    && part.parse::<u32>().is_ok_and(|id| id == u32::MAX))
            {
                return Err(refuse("that is neither a name nor a number"));
            }
        }
        Ok(Asked { user: user.to_owned(), group: group.map(str::to_owned) })
    }

    /// Looks it up. Call it inside the new root: no symbolic link leads out of there.
    ///
    /// # Errors
    /// A name that is not in the files.
    pub fn find(&self) -> Result<User> {
        let read = |path| text(inside::read(Path::new(path), inside::MOST));
        Ok(self.find_in(&read("/etc/passwd"), &read("/etc/group"))?)
    }

    /// The same from outside, for a root filesystem that nobody has entered yet. No link in it leads out (CVE-2018-15664).
    ///
    /// # Errors
    /// A name that is not in the files; a root filesystem that cannot be opened.
    pub fn find_below(&self, rootfs: &Path) -> Result<User> {
        let root = mount::open_path(rootfs, "rootfs")?;
        let read = |path| text(inside::read_below(&root, Path::new(path), inside::MOST));
        Ok(self.find_in(&read("etc/passwd"), &read("etc/group"))?)
    }

    // ANCHOR: find
    /// A number need not be in the files. It is in group 0 then, unless one was named.
    fn find_in(&self, passwd: &str, group: &str) -> Result<User, Failure> {
        let entry = entries(passwd).find(|entry| entry[0] == self.user || entry.get(2) == Some(&&*self.user));
        let number = |at: usize| entry.as_ref().and_then(|entry| entry.get(at)?.parse().ok());
        let uid = number(2).or_else(|| self.user.parse().ok());
        let uid = uid.ok_or_else(|| not_there("user", &self.user, "/etc/passwd"))?;
        let gid = match &self.group {
            Some(wanted) => find_group(group, wanted)?,
            None => number(3).unwrap_or(0),
        };
        let name = entry.as_ref().map(|entry| entry[0]).filter(|_| self.group.is_none());
        let member = |entry: &Vec<&str>| entry.get(3)?.split(',').any(|member| Some(member) == name).then_some(());
        let groups = entries(group).filter(|entry| member(entry).is_some());
        let groups = groups.filter_map(|entry| entry.get(2)?.parse().ok()).filter(|id| *id != gid).collect();
        let home = entry.as_ref().and_then(|entry| home_in(entry));
        Ok(User { uid, gid, groups, home })
    }
    // ANCHOR_END: find
}

/// A file of users or groups, in which a missing one has none. A byte that is not UTF-8 spoils its own line only.
fn text(file: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&file.unwrap_or_default()).into_owned()
}

fn find_group(text: &str, wanted: &str) -> Result<u32, Failure> {
    let named = entries(text).find(|entry| entry[0] == wanted).and_then(|entry| entry.get(2)?.parse().ok());
    named.or_else(|| wanted.parse().ok()).ok_or_else(|| not_there("group", wanted, "/etc/group"))
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect())
}

fn not_there(what: &str, name: &str, file: &str) -> Failure {
    Failure::new(format!("there is no {what} {name:?} in the cell"))
        .hint(format!("its {file} has the names; a number works always"))
}

/// The home directory of a user, as /etc/passwd has it. Call it inside the new root.
pub fn home_of(uid: u32) -> Option<String> {
    let passwd = text(inside::read(Path::new("/etc/passwd"), inside::MOST));
    let found = entries(&passwd).find(|entry| entry.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    home_in(&found)
}

/// A home directory, if the line has one. The line is the image's: what would forge lines where HOME is printed is no home.
fn home_in(entry: &[&str]) -> Option<String> {
    let home = entry.get(5).filter(|home| !home.is_empty() && !home.contains(char::is_control))?;
    Some((*home).to_owned())
}

/// The name of a user, in the text of an /etc/passwd.
pub(crate) fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let found = entries(passwd).find(|entry| entry.get(2).and_then(|id| id.parse().ok()) == Some(uid));
    found.map(|entry| entry[0].to_owned())
}

const NO_SUCH_ID: &str = "this cell's user namespace has no such id: --userns gives it more";

impl User {
    /// The user with this number, from outside of its root filesystem: a name of digits is never meant. Without an entry it is
    /// in group 0 alone.
    ///
    /// # Errors
    /// A root filesystem that cannot be opened.
    pub fn numbered_below(uid: u32, rootfs: &Path) -> Result<User> {
        let root = mount::open_path(rootfs, "rootfs")?;
        let read = |path| text(inside::read_below(&root, Path::new(path), inside::MOST));
        Ok(numbered(uid, &read("etc/passwd"), &read("etc/group"))?)
    }

    // ANCHOR: switch_to
    /// Becomes the user: the other groups first, the user last, for root's rights are gone then.
    ///
    /// # Errors
    /// EINVAL: the cell's user namespace has no such id.
    pub fn switch_to(&self) -> Result<()> {
        // Where a single id is all there is, groups are shut: there are none to lose.
        let groups = privilege::set_groups(&self.groups);
        if !self.groups.is_empty() || !is_shut(&groups) {
            groups.hint_on(Errno::EINVAL, NO_SUCH_ID).context("cannot leave the caller's groups")?;
        }
        self.switch_ids()
    }
    // ANCHOR_END: switch_to

    /// Becomes the user, and stays in the other groups that this process belongs to: the caller's, where these are to be kept.
    ///
    /// # Errors
    /// EINVAL: the cell's user namespace has no such id.
    pub fn switch_ids(&self) -> Result<()> {
        privilege::set_group(self.gid)
            .hint_on(Errno::EINVAL, NO_SUCH_ID)
            .with_context(|| format!("cannot become group {}", self.gid))?;
        privilege::set_user(self.uid)
            .hint_on(Errno::EINVAL, NO_SUCH_ID)
            .with_context(|| format!("cannot become user {}", self.uid))
    }
}

fn numbered(uid: u32, passwd: &str, group: &str) -> Result<User, Failure> {
    let is_it = |line: &&str| name_of(line, uid).is_some();
    match passwd.lines().find(is_it).and_then(|line| Some((line, name_of(line, uid)?))) {
        Some((line, user)) => Ok(User { uid, ..Asked { user, group: None }.find_in(line, group)? }),
        None => Ok(User { uid, ..User::default() }),
    }
}

/// Whether a refused setgroups means that this user namespace denies it (man 7 user_namespaces, "/proc/PID/setgroups"): a
/// process with CAP_SETGID hears EPERM for no other reason. The file cannot be asked where /proc shows other processes.
fn is_shut(result: &Result<(), Failure>) -> bool {
    const SETGID: u64 = 1 << 6;
    let may = || privilege::capabilities().is_ok_and(|sets| sets.effective & SETGID != 0);
    result.as_ref().is_err_and(|refused| refused.errno() == Some(Errno::EPERM)) && may()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n7:x:70:70::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nlog:x:4:www,other\nlone:x:9:\n";

    fn find(text: &str) -> Result<User, Failure> {
        Asked::parse(text)?.find_in(PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers() {
        let www = User { uid: 33, gid: 33, groups: vec![4], home: Some("/var/www".to_owned()) };
        assert_eq!(find("www").unwrap(), www);
        assert_eq!(find("33").unwrap(), www, "by number");
        assert_eq!(find("www:log").unwrap(), User { gid: 4, groups: vec![], ..www });
        assert_eq!(find("1000").unwrap(), User { uid: 1000, ..User::default() });
        assert_eq!(find("1000:50").unwrap(), User { uid: 1000, gid: 50, ..User::default() });
        assert_eq!(find("7").unwrap().uid, 70, "a name of digits is a name first");
    }

    #[test]
    fn a_number_alone() {
        let www = User { uid: 33, gid: 33, groups: vec![4], home: Some("/var/www".to_owned()) };
        assert_eq!(numbered(33, PASSWD, GROUP).unwrap(), www);
        assert_eq!(numbered(7, PASSWD, GROUP).unwrap(), User { uid: 7, ..User::default() }, "no name of digits");
        assert_eq!(numbered(1000, PASSWD, GROUP).unwrap(), User { uid: 1000, ..User::default() });
    }

    #[test]
    fn lines_are_bytes() {
        let passwd = text(Some(b"ana:x:1001:1:Ana Mu\xf1oz:/home/ana:\nbob:x:1000:1::/home/bob:\n".to_vec()));
        let home = |name: &str| Asked::parse(name).unwrap().find_in(&passwd, "").unwrap().home;
        assert_eq!((home("ana").as_deref(), home("bob").as_deref()), (Some("/home/ana"), Some("/home/bob")));
    }

    #[test]
    fn a_home_has_no_control_characters() {
        for wrong in ["", "/a\x1b[2J", "/a\r", "/a\0b", "/a\u{9b}1m"] {
            assert_eq!(home_in(&["a", "x", "1", "1", "", wrong, "/bin/sh"]), None, "{wrong:?}");
        }
    }

    #[test]
    fn nobody_else() {
        for wrong in ["", ":", "www:", ":33", "-1", "4294967295", "4294967296", " 1", "nosuch", "www:nosuch", "0x10"] {
            assert!(find(wrong).is_err(), "{wrong:?}");
        }
    }
}
