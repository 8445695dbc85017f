//! The outside world: a second network namespace, joined to the lab's host by a cable, as a street joins a house.
//!
//! ```text
//! world 198.51.100.2 ---- 198.51.100.1 host ---- bridge 10.76.0.1 ---- 10.76.0.2 cell
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The host's address in the world.
pub const HOST: &str = "198.51.100.1";
/// The world's own address.
pub const WORLD: &str = "198.51.100.2";

/// The world; it ends when dropped.
#[derive(Debug)]
pub struct World {
    holder: Child,
}

impl World {
    /// Makes the world, and the cable to it.
    pub fn new() -> World {
        let mut sleep = Command::new("unshare");
        sleep.args(["--net", "sh", "-c", "echo up; exec sleep 200"]).stdout(Stdio::piped());
        let mut holder = sleep.spawn().expect("unshare is there");
        crate::every_step::wait_for_a_line(&mut holder);
        let world = World { holder };
        let pid = world.holder.id();
        sh(&format!(
            "ip link add uplink type veth peer name street netns {pid}
             ip address add {HOST}/24 dev uplink; ip -6 address add 2001:db8::1/64 dev uplink nodad; ip link set uplink up
             {enter} ip address add {WORLD}/24 dev street; {enter} ip -6 address add 2001:db8::2/64 dev street nodad
             {enter} ip link set lo up; {enter} ip link set street up",
            enter = world.enter(),
        ));
        world
    }

    /// How to run something out there.
    fn enter(&self) -> String {
        format!("nsenter --net --target {}", self.holder.id())
    }

    /// Runs a shell command out there, and returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        let mut words = self.enter().split(' ').map(str::to_owned).collect::<Vec<_>>();
        words.extend(["sh", "-c", script].map(str::to_owned));
        let output = Command::new(&words[0]).args(&words[1..]).output().expect("nsenter is there");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Starts a shell command out there, with its output piped.
    pub fn start(&self, script: &str) -> Child {
        let mut words = self.enter().split(' ').map(str::to_owned).collect::<Vec<_>>();
        words.extend(["sh", "-c", script].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter is there")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.holder.kill().and_then(|()| self.holder.wait());
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// Runs a shell script on the lab's host; it must succeed.
pub fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().expect("sh is there");
    assert!(status.success(), "{script}");
}

/// Fetches a page, as the host: what comes after the head. Tries for three seconds, for a server may be starting.
pub fn fetch(address: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address and a port");
    let begin = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(mut stream) => {
                let mut page = String::new();
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                let _ = stream.write_all(b"GET /page HTTP/1.0\r\n\r\n");
                let _ = stream.read_to_string(&mut page);
                return page.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
            }
            Err(error) if begin.elapsed() > Duration::from_secs(3) => return format!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Answers every question for an IPv4 address with 192.0.2.7, on the host's port 53, until the test ends.
pub fn name_server() {
    let socket = UdpSocket::bind(("0.0.0.0", 53)).expect("the lab's port 53 is free");
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            let wants_v4 = question[..length].ends_with(&[0, 1, 0, 1]);
            let mut answer = question[..length].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]); // an answer, without error
            answer[6..12].copy_from_slice(&[0, u8::from(wants_v4), 0, 0, 0, 0]);
            if wants_v4 {
                // The name asked for, an address, valid for a minute.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, asker);
        }
    });
}
