//! What systemd is asked for: its object `Manager` (man 5 org.freedesktop.systemd1).
//!
//! Starting and stopping a unit is a *job*: the answer is only the job's name, and a signal, `JobRemoved`, tells how it
//! has ended. So we listen before we ask.

use std::env;

use anyhow::{Context, Result};
use kernel::explain::purpose_now;
use kernel::sys::socket::Address;
use kernel::{Failure, purpose};

use super::bus::{self, Bus};
use super::message::{Body, Message, Method, Property, Value};

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// systemd itself, without a bus between.
const PRIVATE: &str = "systemd/private";
const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
                           member='JobRemoved'";

/// The machine's systemd, or a user's own.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    /// Jobs that have ended, and how.
    ended: Vec<(String, String)>,
}

/// Why systemd does not do what it was asked for.
#[derive(Debug)]
pub struct Refusal {
    name: String,
    text: String,
}

impl Refusal {
    /// Whether it is this error of systemd's.
    pub fn is(&self, name: &str) -> bool {
        self.name.strip_prefix("org.freedesktop.systemd1.") == Some(name)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let hint = match refusal.name.rsplit('.').next() {
            Some("AccessDenied" | "InteractiveAuthorizationRequired") => "only root may ask the machine's systemd",
            Some("PropertyReadOnly" | "UnknownProperty") => "an annotation org.systemd.property.* that no scope takes?",
            _ => "journalctl --boot --unit=init.scope may say more",
        };
        Failure::new(format!("systemd refuses: {} ({})", refusal.text, refusal.name)).hint(hint)
    }
}

/// What came of a question.
type Reply<T> = Result<std::result::Result<T, Refusal>>;

impl Manager {
    /// Goes to systemd: to that of this user, or to the machine's.
    ///
    /// # Errors
    /// No bus is there, or it does not let us in.
    pub fn connect(of_user: bool) -> Result<Manager> {
        purpose("to systemd: by the bus, or where there is none by its own door");
        let (buses, private) = if of_user { of_this_user() } else { of_the_machine() };
        let bus = Bus::connect(&buses).map(|bus| (bus, true));
        let found = bus.or_else(|failure| match &private {
            Some(address) => Bus::connect(std::slice::from_ref(address)).map(|bus| (bus, false)),
            None => Err(failure),
        });
        let (bus, is_shared) = found.map_err(|failure| match of_user {
            true => {
                failure.hint("your own systemd is found by XDG_RUNTIME_DIR: log in anew, or loginctl enable-linger")
            }
            false => failure.hint("systemctl status; systemctl start dbus"),
        })?;
        let mut manager = Manager { bus, ended: Vec::new() };
        if is_shared {
            manager.listen()?;
        }
        Ok(manager)
    }

    /// A bus passes on only what one has asked to hear.
    fn listen(&mut self) -> Result<()> {
        purpose("on the bus, one says hello, and what one wants to hear");
        let to_bus = |name| Method {
            service: "org.freedesktop.DBus",
            object: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            name,
        };
        self.bus.ask(&to_bus("Hello"), &Body::default())?;
        self.bus.ask(&to_bus("AddMatch"), &Body::default().text(JOB_REMOVED))?;
        self.bus.ask(&to_manager("Subscribe"), &Body::default())?;
        Ok(())
    }

    /// Makes a unit that lasts until it is stopped, or empty.
    pub fn start(&mut self, unit: &str, properties: &[Property]) -> Reply<()> {
        let body = Body::default().text(unit).text("replace").properties(properties).no_units();
        purpose("systemd makes a scope, and moves the child into it");
        match self.ask("StartTransientUnit", &body)? {
            Ok(answer) => self.wait_for(&answer).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Ends a unit, with everybody in it.
    pub fn stop(&mut self, unit: &str) -> Reply<()> {
        match self.ask("StopUnit", &Body::default().text(unit).text("replace"))? {
            Ok(answer) => self.wait_for(&answer).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Sends SIGKILL to everybody in a unit.
    pub fn kill(&mut self, unit: &str) -> Reply<()> {
        let body = Body::default().text(unit).text("all").with(&Value::Int32(kernel::sys::signal::SIGKILL));
        Ok(self.ask("KillUnit", &body)?.map(drop))
    }

    /// Forgets that a unit has failed.
    pub fn reset_failed(&mut self, unit: &str) -> Reply<()> {
        Ok(self.ask("ResetFailedUnit", &Body::default().text(unit))?.map(drop))
    }

    /// Changes a unit, until it goes.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Reply<()> {
        let body = Body::default().text(unit).with(&Value::Bool(true)).properties(properties);
        purpose("systemd must know the limits, too: else it would undo them one day");
        Ok(self.ask("SetUnitProperties", &body)?.map(drop))
    }

    /// Moves a process into a unit, or into a group below: `/inner`.
    pub fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Reply<()> {
        let body = Body::default().text(unit).text(below).with(&Value::Numbers(vec![pid as u32]));
        purpose("systemd moves the child into the container's scope");
        Ok(self.ask("AttachProcessesToUnit", &body)?.map(drop))
    }

    /// The first text of the answer.
    fn ask(&mut self, name: &'static str, body: &Body) -> Reply<String> {
        let serial = self.bus.ask(&to_manager(name), body)?;
        loop {
            let message = self.bus.next().with_context(|| format!("systemd: {name}"))?;
            self.note(&message);
            let first = message.texts().first().copied().unwrap_or_default().to_owned();
            if !message.refusal.is_empty() {
                return Ok(Err(Refusal { name: message.refusal, text: first })); // a refused Hello, too
            }
            if message.is_answer_to(serial) {
                return Ok(Ok(first));
            }
        }
    }

    /// Remembers what a message tells of a job.
    fn note(&mut self, message: &Message) {
        if let ("JobRemoved", [job, _, result]) = (message.name.as_str(), message.texts().as_slice()) {
            self.ended.push(((*job).to_owned(), (*result).to_owned()));
        }
    }

    // ANCHOR: job
    /// Waits for a job's end.
    fn wait_for(&mut self, job: &str) -> Result<()> {
        purpose_now("the answer is the name of a job: wait until that is done");
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| ended == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Failure::new(format!("systemd's job ended as {other:?}, not as \"done\""))
                        .hint("journalctl --boot --unit=init.scope may say why")
                        .into()),
                };
            }
            let message = self.bus.next().with_context(|| format!("systemd: {job}"))?;
            self.note(&message);
        }
    }
    // ANCHOR_END: job
}

fn to_manager(name: &str) -> Method<'_> {
    Method {
        service: "org.freedesktop.systemd1",
        object: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        name,
    }
}

/// Its buses, and its own socket.
type Addresses = (Vec<Address>, Option<Address>);

fn of_the_machine() -> Addresses {
    let named = env::var("DBUS_SYSTEM_BUS_ADDRESS").map(|address| bus::parse_addresses(&address)).unwrap_or_default();
    let usual = Address::Path(SYSTEM_BUS.to_owned());
    (named.into_iter().chain([usual]).collect(), Some(Address::Path(format!("/run/{PRIVATE}"))))
}

fn of_this_user() -> Addresses {
    let mut buses =
        env::var("DBUS_SESSION_BUS_ADDRESS").map(|address| bus::parse_addresses(&address)).unwrap_or_default();
    let folder = env::var("XDG_RUNTIME_DIR").ok();
    let below = |name: &str| folder.as_ref().map(|folder| Address::Path(format!("{folder}/{name}")));
    buses.extend(below("bus"));
    (buses, below(PRIVATE))
}
