//! Step 4: what a cell may do to those on the same cable, and what the cable does to the host.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use classroom::world::{self, HOST, fetch, sh};
use classroom::{Lab, World, every_step, lab};

const STEP: &str = "network";
/// The address of the first cell's network card.
const FIRST: &str = "02:cb:0a:4c:00:02";

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

/// What the launcher recommends there, done to the letter, keeps the host's way out.
#[test]
fn the_hint_keeps_the_hosts_router() {
    lab!(World::Root, |lab| {
        let outside = world::World::new();
        let inmate = lab.rootfs.join("bin/inmate");
        let sent = outside.sh(&format!(
            "ip link set street down; ip link set street name eth0; ip link set eth0 up; {} advertise 2001:db8:9::",
            inmate.display()
        ));
        assert!(sent.contains("sent"), "{sent}");
        let way_out = || host("ip -6 route show default").contains("proto ra");
        assert!(way_out(), "the host has listened");
        let said = lab.run(STEP, &["true"]).text;
        let hint = said.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_else(|| panic!("{said}"));
        sh(&format!("{hint} >/dev/null"));
        assert!(way_out(), "it still has its way out, after: {hint}");
        assert_eq!(lab.run(STEP, &["true"]).text, "", "and forwards");
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
        let visit = || outside.sh("timeout 3 busybox wget -qO- http://127.0.0.1:8080/page");
        assert!(!visit().contains("hello"), "from the LAN: {}", visit());
        assert_eq!(fetch("127.0.0.1:8080"), "hello\n", "from the host, still");
        sh("nft flush chain inet cellblock_cellblock0 no_loopback_from_other_links");
        assert!(!visit().contains("hello"), "no rule leads it in: {}", visit());
        sh(
            "nft 'add rule inet cellblock_cellblock0 arriving ip daddr 127.0.0.1 tcp dport 8080 dnat ip to 10.76.0.2:80'",
        );
        assert_eq!(visit(), "hello\n", "the wrong output");
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
/// A cell that takes another's addresses reaches nothing with them, and takes nothing from the other.
#[test]
fn a_cell_that_answers_for_its_neighbour() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let victim = serve(lab, &[]);
        let known = |address: &str| host(&format!("ip neighbour show to {address} dev cellblock0"));
        assert_eq!(fetch("10.76.0.2:80"), "hello\n");
        assert_eq!(fetch("[fd76:ce11:a4c::2]:80"), "hello\n");
        assert!(known("10.76.0.2").contains(FIRST) && known("fd76:ce11:a4c::2").contains(FIRST));
        sleep(Duration::from_millis(1200)); // what was learned is kept for a second, whatever comes
        let attack = |script: &str| lab.run(STEP, &["sh", "-c", script]);
        attack("ip address add 10.76.0.2/32 dev eth0; arping -q -U -c 3 -I eth0 10.76.0.2");
        assert!(known("10.76.0.2").contains(FIRST), "ARP: {}", known("10.76.0.2"));
        let sent = attack("inmate claim fd76:ce11:a4c::2");
        assert!(sent.text.contains("sent"), "{sent}");
        assert!(known("fd76:ce11:a4c::2").contains(FIRST), "IPv6: {}", known("fd76:ce11:a4c::2"));
        let stolen = attack(&format!(
            "ip link set eth0 down; ip link set eth0 address {FIRST}; ip link set eth0 up
             ip address add 10.76.0.2/16 dev eth0; ping -c 1 -W 1 -I 10.76.0.2 10.76.0.1"
        ));
        assert!(stolen.text.contains("100% packet loss"), "its card's address: {stolen}");
        let source = attack("ip address add 10.76.0.99/16 dev eth0; ping -c 1 -W 1 -I 10.76.0.99 10.76.0.1");
        assert!(source.text.contains("100% packet loss"), "an address of its own choice: {source}");
        let honest =
            attack("ping -c 1 -W 3 10.76.0.2; ping -c 1 -W 3 fd76:ce11:a4c::2; wget -qO- http://10.76.0.2/page");
        assert_eq!(honest.text.matches(" 0% packet loss").count(), 2, "cells reach one another: {honest}");
        assert!(honest.text.ends_with("hello\n"), "{honest}");
        assert_eq!(end(victim), "");
    });
}

/// Where the kernel cannot filter on a bridge, the launcher says what is not held, and goes on.
#[test]
fn without_a_filter_for_bridges() {
    lab!(World::Root, |lab| {
        lab.run(STEP, &["true"]);
        let nft = host("PATH=$PATH:/usr/sbin:/sbin; command -v nft");
        let nft = nft.trim();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = -f ] || exec {nft} \"$@\"\ninput=$(cat)\n\
             case $input in *'table bridge'*) echo 'Error: Operation not supported' >&2; exit 1;; esac\n\
             echo \"$input\" | {nft} -f -\n"
        );
        let folder = lab.folder.join("old");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("nft"), script).unwrap();
        sh(&format!("chmod 755 {}/nft", folder.display()));
        let mut launcher = lab.launcher(STEP, &["ping", "-c", "1", "-W", "3", "10.76.0.1"]);
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let output = launcher.env("PATH", path).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(
            text.contains(" 0% packet loss") && text.contains("a cell can take its neighbours' addresses"),
            "{text}"
        );
        fs::remove_dir_all(folder).unwrap();
    });
}

/// Two networks beside the host that know it as their router. The second is the usual [`world::World`].
fn two_networks() -> (world::World, world::World) {
    let first = world::World::new();
    sh("ip link set uplink down; ip link set uplink name first; ip address flush dev first
        ip address add 203.0.113.1/24 dev first; ip -6 address add 2001:db8:2::1/64 dev first nodad; ip link set first up");
    first.sh("ip address flush dev street
         ip address add 203.0.113.2/24 dev street; ip -6 address add 2001:db8:2::2/64 dev street nodad
         ip route add default via 203.0.113.1; ip -6 route add default via 2001:db8:2::1");
    let second = world::World::new();
    second.sh(&format!("ip route add default via {HOST}; ip -6 route add default via 2001:db8::1"));
    // A new link's own address of IPv6 is good for something only after a second.
    let wait = |world: &world::World, router: &str| {
        let answer = world.sh(&format!("for i in 1 2 3 4 5 6 7 8; do busybox ping -c 1 -W 1 {router} && break; done"));
        assert!(answer.contains(" 0% packet loss"), "{answer}");
    };
    wait(&first, "2001:db8:2::1");
    wait(&second, "2001:db8::1");
    (first, second)
}

/// A setting of the lab's host.
fn setting(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap().trim().to_owned()
}

fn forwarding() -> [String; 2] {
    ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(setting)
}

/// Whether a packet of each family gets through the host, from one network to the other.
fn passes(from: &world::World) -> [bool; 2] {
    [world::WORLD, "2001:db8::2"].map(|to| from.sh(&format!("busybox ping -c 1 -W 2 {to}")).contains(" 0% packet loss"))
}

/// A host that was no router is one for its cells alone, and no longer than they live.
#[test]
fn a_router_for_cells_alone() {
    lab!(World::Root, |lab| {
        let (first, _second) = two_networks();
        sh("sysctl -qw net.ipv4.conf.all.accept_redirects=0");
        let ping = ["ping", "-c", "1", "-W", "3", world::WORLD];
        let bystander = cell(lab, &[], "", "true");
        assert_eq!(forwarding(), ["1", "1"]);
        assert_eq!(passes(&first), [false, false], "between links that are not ours");
        let other = cell(lab, &["--bridge", "other", "--subnet", "10.78.0.0/24"], "", "true");
        let out = lab.run(STEP, &ping);
        assert!(out.text.contains(" 0% packet loss"), "from a cell to the world: {out}");
        end(bystander);
        assert_eq!(forwarding(), ["1", "1"], "the other bridge still needs it");
        assert_eq!(passes(&first), [false, false], "and still for cells alone");
        sh("nft flush ruleset");
        let again = lab.run(STEP, &[&["--bridge", "other"], &ping[..]].concat());
        assert!(again.text.contains(" 0% packet loss"), "{again}");
        assert_eq!(passes(&first), [false, false], "the next launch has seen that the policy was gone");
        end(other);
        assert_eq!(forwarding(), ["0", "0"], "the last cell is gone");
        assert_eq!(setting("ipv4/conf/all/accept_redirects"), "0", "the kernel sets it with forwarding");
        assert!(!host("nft list tables").contains("cellblock"), "{}", host("nft list tables"));
    });
}

/// What a killed launcher has switched on, `--prune` switches off; also where a bridge was removed by hand.
#[test]
fn a_router_after_a_crash() {
    lab!(World::Root, |lab| {
        for by_hand in [false, true] {
            let mut killed = cell(lab, &[], "", "true");
            killed.kill().unwrap();
            killed.wait().unwrap();
            let gone =
                || !fs::read_to_string("/proc/net/dev").unwrap().lines().any(|line| line.trim().starts_with("cb"));
            assert!((0..100).any(|_| gone() || {
                sleep(Duration::from_millis(20));
                false
            }));
            assert_eq!(forwarding(), ["1", "1"], "nobody has switched it off");
            if by_hand {
                sh("ip link delete cellblock0");
            }
            let pruned = lab.run(STEP, &["--prune"]);
            assert_eq!(forwarding(), ["0", "0"], "{pruned}");
            assert!(!host("nft list tables").contains("cellblock"), "{}", host("nft list tables"));
        }
        // Killed at any moment: what is on, a note tells of.
        for round in 0..20 {
            let mut child = lab.start(STEP, &["sleep", "20"]);
            sleep(Duration::from_micros(round * 2000));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(classroom::trace::orphans_end_within(Duration::from_secs(3)));
            sleep(Duration::from_millis(100));
            lab.run(STEP, &["--prune"]);
            assert_eq!(forwarding(), ["0", "0"], "after a kill at {} ms", round * 2);
        }
    });
}

/// A host that is a router stays one, as it is.
#[test]
fn a_host_that_was_a_router() {
    lab!(World::Root, |lab| {
        let (first, _second) = two_networks();
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        assert_eq!(passes(&first), [true, true]);
        let cell = cell(lab, &[], "", "true");
        assert_eq!(passes(&first), [true, true], "nothing of the host's is touched");
        end(cell);
        assert_eq!(forwarding(), ["1", "1"]);
        assert_eq!(passes(&first), [true, true]);
    });
}
