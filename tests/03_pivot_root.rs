//! Step 3, the floor: no path leads out any more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use classroom::{World, check, every_step, lab};

const STEP: &str = "pivot-root";

#[test]
fn ps_shows_pid_1() {
    lab!(World::Root, |lab| check!("pivot_root_ps", lab.run(STEP, &["ps"])));
}

#[test]
fn ps_shows_pid_1_rootless() {
    lab!(World::Rootless, |lab| check!("pivot_root_ps", lab.run(STEP, &["ps"])));
}

/// What is masked differs between kernels, so the story is shown without it.
fn without_masks(story: &str) -> String {
    let mut masks = false;
    let mut keep = |line: &&str| {
        if line.contains(" > ") {
            masks = line.contains("cover what") || line.contains("would change the host");
        }
        !masks || line.contains(" > ")
    };
    story.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn explained() {
    lab!(World::Root, |lab| {
        let story = lab.run(STEP, &["--explain", "ps"]).to_string();
        check!("pivot_root_explained", without_masks(&story));
        (0..20).for_each(|_| assert_eq!(lab.run(STEP, &["--explain", "ps"]).to_string(), story));
    });
}

#[test]
fn explained_rootless() {
    lab!(World::Rootless, |lab| {
        let story = lab.run(STEP, &["--explain", "ps"]).to_string();
        check!("pivot_root_explained@rootless", without_masks(&story));
    });
}

#[test]
fn report() {
    lab!(World::Root, |lab| check!("pivot_root_report", lab.run(STEP, &["--hostname", "cell", "inmate", "report"])));
}

#[test]
fn report_rootless() {
    lab!(World::Rootless, |lab| {
        check!("pivot_root_report@rootless", lab.run(STEP, &["--hostname", "cell", "inmate", "report"]));
    });
}

/// The climb out of a chroot ends at the root filesystem: ESCAPED on steps 1 and 2, HELD here.
#[test]
fn not_broken_out_of() {
    lab!(World::Root, |lab| check!("pivot_root_attack_chroot", lab.run(STEP, &["inmate", "attack", "chroot"])));
}

#[test]
fn devices() {
    lab!(World::Root, |lab| {
        check!("pivot_root_dev", lab.run(STEP, &["ls", "-1F", "/dev"]));
        let script = "cat /dev/null; head -c 4 /dev/zero | hexdump; echo x > /dev/full; head -c 8 /dev/urandom | wc -c; \
                      stat -c %a /dev/null /dev/shm /dev/mqueue; touch /dev/shm/file && echo shared";
        check!("pivot_root_devices_work", lab.run(STEP, &["sh", "-c", script]));
    });
}

/// New files get the mode that the launcher's caller wants, not that which the making of /dev needed.
#[test]
fn the_umask_stays() {
    lab!(World::Root, |lab| {
        let script = "umask 027; exec \"$0\" sh -c 'umask; stat -c %a /dev/null /dev/pts'";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(classroom::lab::binary(STEP));
        command.env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
        assert_eq!(lab.output(String::new(), command).text, "0027\n666\n755\n");
    });
}

/// What is made of memory, or is the kernel's, opens no device and lends nobody its owner's rights.
#[test]
fn what_each_mount_forbids() {
    lab!(World::Root, |lab| {
        let table = lab.run(STEP, &["--tmpfs", "/mnt", "cut", "-d", " ", "-f", "5,6", "/proc/self/mountinfo"]).text;
        for (place, forbids) in [
            ("/dev", "nosuid noexec"),
            ("/dev/pts", "nosuid noexec"),
            ("/dev/shm", "nosuid nodev noexec"),
            ("/dev/mqueue", "nosuid nodev noexec"),
            ("/proc", "nosuid nodev noexec"),
            ("/sys", "ro nosuid nodev noexec"),
            ("/mnt", "nosuid nodev"),
        ] {
            let options = table.lines().find_map(|line| line.strip_prefix(place)?.strip_prefix(' ')).expect(place);
            let forbidden = options.split(',').filter(|option| ["ro", "nosuid", "nodev", "noexec"].contains(option));
            assert_eq!(forbidden.collect::<Vec<_>>().join(" "), forbids, "{place}");
        }
        let script = "for d in /mnt /dev/shm; do mknod $d/null c 1 3; cat $d/null && echo opened; done";
        let output = lab.run(STEP, &["--tmpfs", "/mnt", "sh", "-c", script]);
        assert_eq!(output.text.matches("Permission denied").count(), 2, "{output}");
    });
}

#[test]
fn settings_cannot_be_written() {
    lab!(World::Root, |lab| {
        let script = "echo x > /proc/sys/kernel/core_pattern; touch /sys/x; cat /proc/keys; ls -A /sys/firmware; \
                      rm /proc/keys; touch /sys/firmware/x";
        check!("pivot_root_read_only", lab.run(STEP, &["sh", "-c", script]));
    });
}

#[test]
fn volumes() {
    lab!(World::Root, |lab| {
        let shared = lab.folder.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("letter"), "hello\n").unwrap();
        let volume = |end: &str| format!("{}:{end}", shared.display());
        let script = "cat /mnt/letter && echo answer > /mnt/answer";
        let output = lab.run(STEP, &["--volume", &volume("/mnt"), "sh", "-c", script]);
        assert_eq!((output.text.as_str(), output.code), ("hello\n", 0));
        assert_eq!(fs::read_to_string(shared.join("answer")).unwrap(), "answer\n", "it is the host's own folder");
        let output = lab.run(STEP, &["-v", &volume("/mnt:ro"), "sh", "-c", script]);
        assert!(output.code != 0 && output.text.contains("Read-only file system"), "{output}");
        let letter = format!("{}/letter:/etc/letter", shared.display());
        let output = lab.run(STEP, &["-v", &letter, "cat", "/etc/letter"]);
        assert_eq!(output.text, "hello\n", "a file, on a place that was made for it");
        fs::remove_dir_all(&shared).unwrap();
        fs::remove_file(lab.rootfs.join("etc/letter")).unwrap();
    });
}

/// A file system with a letter in it, mounted on a folder for as long as `then` runs.
fn with_mount_on(place: &Path, then: impl FnOnce()) {
    let succeed = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    fs::create_dir_all(place).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(place));
    fs::write(place.join("letter"), "hello from below\n").unwrap();
    then();
    succeed(Command::new("umount").arg(place));
}

/// A folder may have other mounts below it: they come along, and read-only means all of them.
#[test]
fn volumes_with_mounts_below() {
    lab!(World::Root, |lab| {
        let shared = lab.folder.join("shared");
        with_mount_on(&shared.join("below"), || {
            let volume = format!("{}:/mnt:ro", shared.display());
            let script = "cat /mnt/below/letter; touch /mnt/below/answer";
            let output = lab.run(STEP, &["-v", &volume, "sh", "-c", script]);
            assert!(output.text.contains("hello from below\n"), "{output}");
            assert!(output.code != 0 && output.text.contains("Read-only file system"), "{output}");
        });
        fs::remove_dir_all(&shared).unwrap();
        with_mount_on(&lab.rootfs.join("opt"), || {
            assert_eq!(lab.run(STEP, &["cat", "/opt/letter"]).text, "hello from below\n");
        });
    });
}

#[test]
fn the_shallow_volume_does_not_hide_the_deep_one() {
    lab!(World::Root, |lab| {
        let deep = format!("{}:/mnt/deep", lab.rootfs.join("etc").display());
        let arguments = ["-v", &deep, "--tmpfs", "/mnt:size=1m", "ls", "/mnt/deep/passwd"];
        assert_eq!(lab.run(STEP, &arguments).text, "/mnt/deep/passwd\n");
    });
}

#[test]
fn memory_of_its_own() {
    lab!(World::Root, |lab| {
        let script =
            "df -k /mnt | tail -n 1 | awk '{print $2}'; stat -c %a /mnt; dd if=/dev/zero of=/mnt/full bs=1k count=2048";
        let output = lab.run(STEP, &["--tmpfs", "/mnt:size=1m", "sh", "-c", script]);
        assert!(output.text.starts_with("1024\n1777\n") && output.text.contains("No space left"), "{output}");
    });
}

#[test]
fn a_read_only_root() {
    lab!(World::Root, |lab| {
        let script = "touch /file; touch /mnt/file && echo but volumes can";
        check!("pivot_root_read_only_root", lab.run(STEP, &["--read-only", "--tmpfs", "/mnt", "sh", "-c", script]));
    });
}

/// A stranger's root filesystem may have links where the kernel's own file systems belong: to a place inside, which a
/// volume covers before the masks are laid, or to one on the host.
#[test]
fn a_link_in_place_of_proc_leads_nowhere() {
    lab!(World::Root, |lab| {
        for place in ["proc", "sys", "dev"] {
            let refused = || {
                let output = lab.run(STEP, &["true"]);
                assert_eq!(output.code, 125, "{output}");
                assert!(output.text.contains(&format!("/{place} is a symbolic link")), "{output}");
            };
            let link = lab.rootfs.join(place);
            fs::remove_dir(&link).unwrap();
            symlink("/mnt", &link).unwrap();
            refused();
            fs::remove_file(&link).unwrap();
            let canary = every_step::canary(lab, place);
            refused();
            assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "nothing was made outside");
            fs::remove_file(&link).unwrap();
            fs::create_dir(&link).unwrap();
            fs::remove_dir(canary).unwrap();
        }
    });
}

/// A volume's place may lie behind a link: it is followed below the root, whatever it says.
#[test]
fn a_link_in_place_of_a_volume_stays_inside() {
    lab!(World::Root, |lab| {
        let canary = every_step::canary(lab, "escape");
        let inside = lab.rootfs.join(canary.strip_prefix("/").unwrap());
        fs::create_dir_all(&inside).unwrap();
        let volume = format!("{}:/escape/place", lab.rootfs.join("etc").display());
        let output = lab.run(STEP, &["-v", &volume, "ls", &format!("{}/place/passwd", canary.display())]);
        assert_eq!(output.code, 0, "{output}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "nothing was made outside");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 1, "but inside, where the link leads from in there");
        fs::remove_dir(canary).unwrap();
        lab.restore();
    });
}

/// A link in place of a volume may have no end yet, as a distribution's /etc/resolv.conf: it is made, inside.
#[test]
fn a_link_without_an_end_gets_one() {
    lab!(World::Root, |lab| {
        let canary = every_step::canary(lab, "escape");
        fs::remove_file(lab.rootfs.join("escape")).unwrap();
        let (etc, passwd) = (lab.rootfs.join("etc"), lab.rootfs.join("etc/passwd"));
        let (etc, passwd) = (etc.display(), passwd.display());
        symlink("../run/systemd/resolve/stub", lab.rootfs.join("etc/stub")).unwrap();
        symlink("/nosuch/folder", lab.rootfs.join("dangling")).unwrap();
        symlink(format!("{}/below", canary.display()), lab.rootfs.join("escape")).unwrap();
        for (volume, shown) in [
            (format!("{passwd}:/etc/stub"), "/etc/stub"),
            (format!("{etc}:/dangling"), "/nosuch/folder/passwd"),
            (format!("{passwd}:/dangling/deep/file"), "/nosuch/folder/deep/file"),
            (format!("{etc}:/escape"), "/escape/passwd"),
        ] {
            let output = lab.run(STEP, &["--volume", &volume, "ls", shown]);
            assert_eq!((output.text.as_str(), output.code), (&*format!("{shown}\n"), 0), "{volume}: {output}");
        }
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "nothing was made outside");
        fs::remove_dir(canary).unwrap();
        lab.restore();
    });
}

/// Places are made for whoever lives in the cell, not for the caller's shell alone.
#[test]
fn the_callers_umask_closes_no_place() {
    lab!(World::Root, |lab| {
        let script = "umask 077; exec \"$0\" -v \"$CELLBLOCK_ROOTFS/etc:/data/deep/etc\" stat -c %a /data /data/deep";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(classroom::lab::binary(STEP));
        command.env("CELLBLOCK_ROOTFS", &lab.rootfs).stdin(Stdio::null());
        assert_eq!(lab.output(String::new(), command).text, "755\n755\n");
        lab.restore();
    });
}

#[test]
fn failures() {
    lab!(World::Root, |lab| {
        symlink("/proc/self/attr", lab.rootfs.join("sly")).unwrap();
        let more: &[&[&str]] = &[
            &["--volume", "/etc", "true"],
            &["--volume", "/nosuch:/mnt", "true"],
            &["--volume", "/etc:mnt", "true"],
            &["--volume", "/etc:/mnt:rx", "true"],
            &["--volume", "/etc:/../mnt", "true"],
            &["--volume", "/etc:/proc/self", "true"],
            &["--volume", "/etc:/sly", "true"],
            &["--volume", "/etc:/bin/sh/below", "true"],
            &["--volume", "/etc:/etc/passwd", "true"],
            &["--tmpfs", "/mnt:size=much", "true"],
            &["--tmpfs", "/", "true"],
        ];
        check!("pivot_root_failures", every_step::failures(lab, STEP, more));
        lab.restore(); // the broken programs were the test's own
    });
}

#[test]
fn no_descriptor_leads_out() {
    lab!(World::Root, |lab| every_step::no_descriptor_leads_out(lab, STEP));
}

#[test]
fn exit_codes() {
    lab!(World::Root, |lab| every_step::exit_codes(lab, STEP, &["--init"]));
}

#[test]
fn exit_codes_rootless() {
    lab!(World::Rootless, |lab| every_step::exit_codes(lab, STEP, &["--init"]));
}

#[test]
fn started_anyhow() {
    lab!(World::Root, |lab| every_step::started_anyhow(lab, STEP));
}

#[test]
fn started_by_an_ordinary_user() {
    lab!(World::User, |lab| {
        let output = every_step::as_root(lab, STEP, &["sh", "-c", "echo $$; id -u"]);
        assert_eq!((output.text.as_str(), output.code), ("1\n0\n", 0), "{output}");
        let output = every_step::as_root(lab, STEP, &["inmate", "attack", "chroot"]);
        assert!(output.text.contains("HELD"), "{output}");
        // In there it is the host's /sys, with all that is mounted below it.
        let output = every_step::as_root(lab, STEP, &["cut", "-d", " ", "-f", "5,6", "/proc/self/mountinfo"]);
        let mut sys = output.text.lines().filter(|line| line.starts_with("/sys")).peekable();
        assert!(sys.peek().is_some() && sys.all(|line| line.contains(" ro,")), "{output}");
    });
}

#[test]
fn killed_at_every_moment() {
    lab!(World::Root, |lab| every_step::killed_at_every_moment(lab, STEP, &["--init"]));
}

#[test]
fn killed_at_every_moment_rootless() {
    lab!(World::Rootless, |lab| every_step::killed_at_every_moment(lab, STEP, &[]));
}
