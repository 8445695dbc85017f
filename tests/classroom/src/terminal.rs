//! A terminal with a shell at it, and somebody who types: each command, and then the question how it ended.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// No command takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// What was typed ahead can be lost when a program changes the terminal's mode. So the question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A shell at a terminal (man 1 script), and what it has shown.
#[derive(Debug)]
pub struct Terminal {
    shell: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: String,
    asked: usize,
    /// A command was left running.
    pub is_busy: bool,
}

impl Terminal {
    /// Starts `shell`, a command line.
    ///
    /// # Panics
    /// If there is no `script` on this machine.
    pub fn open(shell: &str) -> Terminal {
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--command", shell, "/dev/null"]);
        script.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = script.spawn().expect("script is there");
        let keyboard = shell.stdin.take().expect("a pipe");
        let mut output = shell.stdout.take().expect("a pipe");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { shell, keyboard, screen, shown: String::new(), asked: 0, is_busy: false }
    }

    /// Types a command, and waits until the shell at this terminal reads again: that may be one that the command
    /// started. The exit status, and what was shown meanwhile.
    ///
    /// # Panics
    /// If nothing answers within three minutes.
    pub fn type_line(&mut self, command: &str) -> (i32, String) {
        self.press(&format!("{command}\n"));
        self.asked += 1;
        let (begin, end) = (self.shown.len(), Instant::now() + PATIENCE);
        let mark = format!("[command {} ended: ", self.asked);
        // In two parts, so that what is typed, which the terminal shows, is not the answer.
        let question = format!("echo '[command {} 'ended: $?']'\n", self.asked);
        self.press(&question);
        loop {
            let (what, is_quiet) = (self.shown[begin..].to_owned(), !self.read_for(ASK_AGAIN));
            let answer = self.shown[begin..].split_once(&mark).and_then(|(before, rest)| {
                let status = rest.split_once(']')?.0.parse().ok()?;
                Some((status, before.to_owned()))
            });
            match answer {
                Some(answer) => return answer,
                None if is_quiet => self.press(&question),
                None => {}
            }
            assert!(Instant::now() < end, "no end of: {command}\n{what}");
        }
    }

    /// Types a command that goes on running.
    pub fn leave_running(&mut self, command: &str) {
        self.press(&format!("{command}\n"));
        self.is_busy = true;
    }

    /// Presses Ctrl-C if a command was left running.
    pub fn interrupt(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            self.press("\x03");
            self.type_line("");
        }
    }

    /// What the screen shows.
    pub fn shown(&mut self) -> &str {
        while self.read_for(Duration::from_millis(1)) {}
        &self.shown
    }

    fn press(&mut self, keys: &str) {
        let pressed = self.keyboard.write_all(keys.as_bytes()).and_then(|()| self.keyboard.flush());
        assert!(pressed.is_ok(), "the shell at this terminal has ended:\n{}", self.shown);
    }

    /// Whether something was shown in that time.
    fn read_for(&mut self, time: Duration) -> bool {
        match self.screen.recv_timeout(time) {
            Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes).replace('\r', "")),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => panic!("the shell at this terminal has ended:\n{}", self.shown),
        }
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
