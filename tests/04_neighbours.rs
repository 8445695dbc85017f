//! Step 4: what a cell may do to those on the same cable, and what the cable does to the host.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};

use classroom::world::{self, HOST, fetch, sh};
use classroom::{Lab, World, every_step, lab};

const STEP: &str = "network";

/// Starts a cell that says `up`, waits for its standard input to close, and runs `then`.
fn cell(lab: &Lab, options: &[&str], before: &str, then: &str) -> Child {
    let script = format!("{before} echo up; cat; {then}");
    let arguments = [options, &["--tmpfs", "/tmp", "sh", "-c", &script]].concat();
    let mut launcher = lab.launcher(STEP, &arguments);
    let mut child = launcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(every_step::wait_for_a_line(&mut child), "up\n");
    child
}

/// A cell that serves /page.
fn serve(lab: &Lab, options: &[&str]) -> Child {
    cell(lab, options, "echo hello > /tmp/page; httpd -p 80 -h /tmp;", "killall httpd")
}

/// Lets a cell go on, and returns what it still says.
fn end(mut child: Child) -> String {
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

/// What a command on the host prints.
fn host(script: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A host that learned its way out from a router does not forward IPv6, and listens to the next router as well: that must
/// not be a cell. Nor may one cell be another's router.
#[test]
fn a_cell_that_answers_for_the_router() {
    lab!(World::Root, |lab| {
        let _outside = world::World::new();
        sh("ip -6 route add default via 2001:db8::2 proto ra");
        let before = host("ip -6 route show default");
        let victim = cell(lab, &[], "", "ip -6 route; ip -6 address");
        let sent = lab.run(STEP, &["inmate", "advertise", "fd99::"]);
        assert!(sent.text.contains("sent"), "{sent}");
        let after = host("ip -6 route show default; ip -6 address show dev cellblock0 | grep fd99");
        assert_eq!(after, before, "the host's IPv6 way out, and no new address");
        let said = end(victim);
        assert!(!said.contains("fd99") && !said.contains("proto ra"), "{said}");
        for setting in ["ipv6/conf/NAME/accept_ra", "ipv6/conf/NAME/autoconf", "ipv6/conf/NAME/accept_redirects"] {
            let read = format!("cat /proc/sys/net/{}", setting.replace("NAME", "eth0"));
            assert_eq!(
                lab.run(STEP, &["sh", "-c", &format!("{read} 2>&1")]).text.lines().last(),
                Some("0"),
                "{setting}"
            );
        }
    });
}

/// A port published at 127.0.0.1 is for the host alone: a neighbour in its LAN may send packets to that address too.
#[test]
fn a_loopback_port_from_the_lan() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        lab.run(STEP, &["true"]);
        let server = serve(lab, &["-p", "127.0.0.1:8080:80"]);
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "from the host");
        // 127.0.0.1 belongs to every stack: out there it must not, to be sent over the cable.
        outside.sh(&format!(
            "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.street.route_localnet=1
             ip rule add pref 10 to 127.0.0.1 lookup 99; ip rule del pref 0; ip rule add pref 100 lookup local
             ip route add 127.0.0.1/32 via {HOST} dev street src {} table 99",
            world::WORLD
        ));
        let visit = outside.sh("timeout 3 busybox wget -qO- http://127.0.0.1:8080/page");
        assert!(!visit.contains("hello"), "from the LAN: {visit}");
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "from the host, still");
        end(server);
    });
}

/// The kernel's own refusal of 127.0.0.0/8 from outside is switched off only while a published port needs that: not for
/// a cell without one, and not for longer.
#[test]
fn the_hosts_loopback_after_a_flush() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let localnet = || fs::read_to_string("/proc/sys/net/ipv4/conf/cellblock0/route_localnet").unwrap();
        let bystander = cell(lab, &[], "", "true");
        assert_eq!(localnet(), "0\n", "no cell publishes anything");
        let other = serve(lab, &["-p", "8080:80"]);
        assert_eq!(localnet(), "1\n");
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n");
        end(other);
        assert_eq!(localnet(), "0\n", "the last cell with a published port is gone");
        end(bystander);
    });
}
