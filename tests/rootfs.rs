//! The root filesystems of scripts/rootfs: real distributions, run by the newest step.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use classroom::lab::{not_run, script, workspace};
use classroom::world::sh;
use classroom::{Lab, World, lab};

const NEWEST: &str = "pivot-root";

/// Runs a command in one of the slow root filesystems, read-only, for all tests share it.
fn run_in(lab: &Lab, rootfs: &str, command: &[&str]) -> String {
    let rootfs = workspace().join("target/rootfs").join(rootfs);
    let mut arguments = vec!["--read-only", "--rootfs", rootfs.to_str().expect("a plain path")];
    arguments.extend(command);
    let output = lab.run(NEWEST, &arguments);
    assert_eq!(output.code, 0, "{output}");
    output.text
}

/// Whether it has been made. `scripts/test --all` makes all; a plain `scripts/test` does not wait for them.
fn is_made(test: &str, rootfs: &str) -> bool {
    let made = workspace().join("target/rootfs").join(rootfs).is_dir();
    if !made {
        not_run(test, &format!("there is no target/rootfs/{rootfs}; scripts/test --all makes it"));
    }
    made
}

#[test]
fn debian() {
    if is_made("debian", "debian") {
        lab!(World::Root, |lab| {
            assert!(run_in(lab, "debian", &["apt-get", "--version"]).starts_with("apt "));
            let packages: u32 = run_in(lab, "debian", &["sh", "-c", "dpkg -l | wc -l"]).trim().parse().unwrap();
            assert!(packages > 50, "{packages}");
            assert_eq!(run_in(lab, "debian", &["bash", "-c", "echo $$"]), "1\n");
        });
    }
}

/// Another processor's programs: the kernel hands them to an emulator, which it opened before the container began.
#[test]
fn debian_for_arm64() {
    if is_made("debian_for_arm64", "debian-arm64") {
        lab!(World::Root, |lab| {
            assert_eq!(run_in(lab, "debian-arm64", &["uname", "-m"]), "aarch64\n");
            assert!(run_in(lab, "debian-arm64", &["inmate", "report"]).contains("pid 1, parent 0"));
        });
    }
}

/// What root of a cell does with the interpreter of a foreign program that ran in there: it changes its mode, and writes to
/// it when nothing keeps it busy any more. The program waits on standard input.
const SEIZE: &str = "
    sleep 100 | /bin/foreign & program=$!
    until readlink /proc/$program/exe | grep -vq busybox; do sleep 0.1; done
    exec 5</proc/$program/exe
    [ $(head -c 4 <&5 | tail -c 3) = ELF ] && echo held
    chmod 7777 /proc/self/fd/5; chown 1:1 /proc/self/fd/5; chmod 2777 /proc/self/fd/5
    kill $program; killall sleep; wait
    echo >/gone; until [ -e /unregistered ]; do sleep 0.1; done
    echo x >>/proc/self/fd/5 && echo ESCAPED: it can be written; echo tried";

/// A program for arm64 that reads one byte and ends (man 5 elf): its code, in a file of two headers.
fn waiting_for_input() -> Vec<u8> {
    const CODE: [u32; 8] = [
        0xd280_0000, // mov x0, 0
        0x9100_03e1, // mov x1, sp
        0xd280_0022, // mov x2, 1
        0xd280_07e8, // mov x8, READ
        0xd400_0001, // svc 0
        0xd280_0000, // mov x0, 0
        0xd280_0ba8, // mov x8, EXIT
        0xd400_0001, // svc 0
    ];
    const PLACE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    [2_u16, 183].iter().for_each(|number| file.extend(number.to_le_bytes())); // an executable, for arm64
    file.extend(1_u32.to_le_bytes());
    [PLACE + HEADERS, 64, 0].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64_u16, 56, 1, 0, 0, 0].iter().for_each(|number| file.extend(number.to_le_bytes()));
    [1_u32, 5].iter().for_each(|number| file.extend(number.to_le_bytes())); // PT_LOAD, read and execute
    let length = HEADERS + 4 * CODE.len() as u64;
    [0, PLACE, PLACE, length, length, 0x1000].iter().for_each(|number| file.extend(number.to_le_bytes()));
    CODE.iter().for_each(|word| file.extend(word.to_le_bytes()));
    file
}

/// Runs the attack with a registration of this kind, in a binfmt_misc that is the lab's own; what the cell said, and whether
/// the interpreter outside is as it was.
fn seize_interpreter(lab: &Lab, register: &str) -> (String, bool) {
    let (interpreter, place) = (lab.folder.join("interpreter"), "/proc/sys/fs/binfmt_misc");
    let look = || {
        let found = fs::metadata(&interpreter).unwrap();
        (fs::read(&interpreter).unwrap(), found.mode(), found.uid())
    };
    fs::copy(QEMU, &interpreter).unwrap();
    let before = look();
    let rule = format!(
        ":qemu-aarch64:M::{}:{}:{}:F",
        r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        interpreter.display()
    );
    sh(&format!("mount -t binfmt_misc lab {place}; rule='{rule}'; {register}"));
    let cell =
        lab.launcher(NEWEST, &["sh", "-c", SEIZE]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let gone = lab.rootfs.join("gone");
    assert!(
        (0..100).any(|_| gone.exists() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }),
        "it hangs"
    );
    sh(&format!("echo -1 >{place}/qemu-aarch64; umount {place}"));
    fs::write(lab.rootfs.join("unregistered"), "").unwrap();
    let output = cell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let unchanged = look() == before;
    [gone, lab.rootfs.join("unregistered"), interpreter].iter().for_each(|file| fs::remove_file(file).unwrap());
    (said, unchanged)
}

const QEMU: &str = "/usr/bin/qemu-aarch64-static";

/// A cell gets the interpreter of foreign programs as their /proc/PID/exe. The ordinary registration hands it the host's file.
#[test]
fn foreign() {
    if !std::path::Path::new(QEMU).exists() {
        return not_run("foreign", "there is no qemu: scripts/bootstrap --with debian");
    }
    lab!(World::Rootless, |lab| {
        let own = "mount -t binfmt_misc lab /proc/sys/fs/binfmt_misc && umount /proc/sys/fs/binfmt_misc";
        if !Command::new("sh").args(["-c", own]).stderr(Stdio::null()).status().unwrap().success() {
            return not_run("foreign", "a user namespace has no binfmt_misc of its own before Linux 6.7");
        }
        let program = lab.rootfs.join("bin/foreign");
        fs::write(&program, waiting_for_input()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (ordinary, unchanged) = seize_interpreter(lab, "echo \"$rule\" >/proc/sys/fs/binfmt_misc/register");
        assert!(ordinary.contains("held") && ordinary.contains("ESCAPED") && !unchanged, "{ordinary}");
        let (sealed, unchanged) = seize_interpreter(lab, &format!("'{}' \"$rule\"", script("foreign").display()));
        assert!(sealed.contains("held") && sealed.contains("tried") && !sealed.contains("ESCAPED"), "{sealed}");
        assert!(unchanged, "{sealed}");
        fs::remove_file(program).unwrap();
    });
}

#[test]
fn every_applet_of_busybox_is_linked() {
    lab!(World::Root, |lab| {
        let listed = lab.run(NEWEST, &["busybox", "--list"]).text;
        let script = "for applet in $(busybox --list); do type $applet > /dev/null || echo $applet is missing; done";
        assert_eq!(lab.run(NEWEST, &["sh", "-c", script]).text, "");
        assert!(listed.lines().count() > 200, "it is a whole busybox");
        assert_eq!(lab.run(NEWEST, &["id", "-un"]).text, "root\n", "/etc/passwd is there");
        assert_eq!(lab.run(NEWEST, &["cat", "/etc/hosts"]).code, 0);
    });
}
