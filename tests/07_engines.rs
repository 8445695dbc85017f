//! Step 7, the prison at work: podman, containerd and Docker drive the runtime, each in a lab of its own.
//!
//! Each engine has a list of steps, as one would type them. It is gone through with the peers that are installed, and
//! with ours: a step that ours fails and a peer passes is a fault; one that every peer fails as well is only told of.

use std::sync::Mutex;

use classroom::{World, lab};

mod engines;

use engines::{containerd, docker, podman};

/// An engine at a time: they are many processes, and a learner's machine has few cores.
static MACHINE: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn podman() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::goes_through_its_list(lab, &podman::ENGINE));
}

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn containerd() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::goes_through_its_list(lab, &containerd::ENGINE));
}

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn docker() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::goes_through_its_list(lab, &docker::ENGINE));
}

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn inmate_of_podman() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::holds_the_inmate(lab, &podman::ENGINE));
}

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn inmate_of_containerd() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::holds_the_inmate(lab, &containerd::ENGINE));
}

#[test]
#[ignore = "takes a minute: scripts/test --all"]
fn inmate_of_docker() {
    let _alone = MACHINE.lock();
    lab!(World::Root, |lab| engines::holds_the_inmate(lab, &docker::ENGINE));
}
