//! Life and death: create, start, signals, exit codes, and whether all is gone afterwards.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Check, Safe, Unsafe, Verdict, judge, safe_if, worst};
use crate::bundle::Bundle;
use crate::case::{Case, Container, eventually, processes, read, wait};

pub const CHECKS: [Check; 14] = [
    Check {
        name: "it-runs",
        known_as: "",
        tries: "run a good bundle, so that the rest proves something",
        run: it_runs,
    },
    Check { name: "exit-codes", known_as: "runc #5208", tries: "end by code and by signal", run: exit_codes },
    Check {
        name: "states",
        known_as: "runtime-spec state",
        tries: "go through created, running and stopped, with every wrong verb on the way",
        run: states,
    },
    Check {
        name: "signals-are-forwarded",
        known_as: "runc signals.go",
        tries: "signal the runtime in the foreground",
        run: signals_are_forwarded,
    },
    Check {
        name: "hundred-short-runs",
        known_as: "runc #5208",
        tries: "run what ends at once, a hundred times, and wait for one that hangs",
        run: hundred_short_runs,
    },
    Check {
        name: "orphans",
        known_as: "zombies",
        tries: "leave a hundred orphans behind, in the container and with the caller",
        run: orphans,
    },
    Check {
        name: "killed-before-start",
        known_as: "runc #4534",
        tries: "kill the waiting init, then start it",
        run: killed_before_start,
    },
    Check {
        name: "paused-is-killed",
        known_as: "runc delete.bats",
        tries: "kill and delete what is paused",
        run: paused_is_killed,
    },
    Check {
        name: "host-pids-are-killed",
        known_as: "runc #4040, #4047",
        tries: "delete what has no pid namespace, when its first process is gone and its children are not",
        run: host_pids_are_killed,
    },
    Check {
        name: "groups-below",
        known_as: "containerd #11087",
        tries: "leave groups of its own in its cgroup",
        run: groups_below,
    },
    Check {
        name: "same-id-at-once",
        known_as: "runc create",
        tries: "create the same id thirty-two times at once",
        run: same_id_at_once,
    },
    Check {
        name: "many-at-once",
        known_as: "",
        tries: "run thirty-two containers at once, and delete them at once",
        run: many_at_once,
    },
    Check { name: "memory-runs-out", known_as: "OOM", tries: "take more memory than allowed", run: memory_runs_out },
    Check {
        name: "delete-of-nothing",
        known_as: "runc delete.go",
        tries: "delete an unknown id, by force and without",
        run: delete_of_nothing,
    },
];

fn it_runs(case: &Case) -> Verdict {
    let output = case.run(case.bundle().script("echo tried"));
    safe_if(output.code == 0 && output.text == "tried\n", "it does", format!("{}: {}", output.code, output.text))
}

/// A container that is started, or the verdict that it is not.
fn boot<'a>(case: &'a Case, script: &str) -> Result<Container<'a>, Verdict> {
    let refused = |output: crate::case::Output| Unsafe(format!("it does not start: {}", output.line()));
    case.boot(case.bundle().script(script)).map_err(refused)
}

fn exit_codes(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let ends = [("exit 0", 0), ("exit 1", 1), ("exit 7", 7), ("exit 126", 126), ("exit 255", 255)];
    let run = ends.map(|(script, code)| {
        let output = case.run(bundle.script(script));
        safe_if(output.code == code, "its own code", format!("run {script:?} ends with {}", output.code))
    });
    let container = match boot(case, "sleep 60") {
        Ok(container) => container,
        Err(verdict) => return verdict,
    };
    let exec = ends.into_iter().chain([("kill -TERM $$", 143), ("kill -KILL $$", 137)]).map(|(script, code)| {
        let output = container.exec(script);
        safe_if(output.code == code, "its own code", format!("exec {script:?} ends with {}", output.code))
    });
    worst(run.into_iter().chain(exec))
}

fn states(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let container = match case.create(bundle.script("sleep 60")) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let fails = |verb: &str, words: &[&str], when: &str| {
        let output = container.call(verb, words);
        safe_if(output.code != 0, "refused", format!("{verb} works when {when}"))
    };
    let is = |status: &str| {
        safe_if(container.becomes(status), "as it should", format!("{} instead of {status}", container.state("status")))
    };
    let mut all = vec![is("created")]; // some runtimes delete what is created; the specification would not
    all.push(safe_if(container.call("start", &[]).code == 0, "it starts", "it does not start"));
    all.extend([is("running"), fails("start", &[], "running"), fails("delete", &[], "running")]);
    all.push(fails("resume", &[], "running"));
    container.call("kill", &["KILL"]);
    all.extend([is("stopped"), fails("start", &[], "stopped"), fails("kill", &["TERM"], "stopped")]);
    all.extend([fails("exec", &["--", "true"], "stopped"), fails("pause", &[], "stopped")]);
    all.push(safe_if(container.call("delete", &[]).code == 0, "deleted", "it cannot be deleted when stopped"));
    all.extend([fails("state", &[], "deleted"), fails("kill", &["KILL"], "deleted"), fails("start", &[], "deleted")]);
    worst(all)
}

fn signals_are_forwarded(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let id = case.place(bundle.script("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"));
    let file = case.folder.join("forwarded");
    let mut child = case.start(case.command(&["run", "--bundle", &bundle.folder.display().to_string(), &id]), &file);
    let up = eventually(|| read(&file).contains("up"));
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    let code = wait(&mut child);
    case.call(&["delete", "--force", &id]);
    safe_if(up && code == 7, "the container's trap takes it", format!("it ends with {code}: {}", read(&file).trim()))
}

fn hundred_short_runs(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.args(&["true"]);
    let codes: Vec<i32> = (0..100).map(|_| case.run(&mut bundle).code).filter(|code| *code != 0).collect();
    safe_if(
        codes.is_empty(),
        "all of them end well",
        format!("{} fail, the first with {:?}", codes.len(), codes.first()),
    )
}

fn orphans(case: &Case) -> Verdict {
    let script = "for n in $(seq 100); do (sleep 0.01 &) ; done; sleep 0.2; echo tried";
    match judge(&case.run(case.bundle().script(script))) {
        Safe(_) => {}
        verdict => return verdict,
    }
    let zombie = |pid: &i32| read(std::path::Path::new(&format!("/proc/{pid}/stat"))).contains(") Z ");
    let none = eventually(|| !processes().iter().any(|(pid, _)| zombie(pid)));
    safe_if(none, "none is left", "the caller has inherited zombies")
}

fn killed_before_start(case: &Case) -> Verdict {
    let container = match case.create(&mut case.bundle()) {
        Ok(container) => container,
        Err(output) => return Unsafe(output.text),
    };
    let _ = kill(Pid::from_raw(container.pid()), Signal::SIGKILL);
    let stopped = container.becomes("stopped");
    let output = container.call("start", &[]);
    let refused = output.code != 0 && output.code != 124;
    safe_if(stopped && refused, output.line(), format!("stopped: {stopped}, start: {}", output.line()))
}

fn paused_is_killed(case: &Case) -> Verdict {
    let by_force = match boot(case, "sleep 60") {
        Ok(container) => container,
        Err(verdict) => return verdict,
    };
    let paused = by_force.call("pause", &[]);
    if paused.code != 0 {
        return Unsafe(format!("it cannot be paused: {}", paused.line()));
    }
    let state = by_force.state("status");
    let deleted = by_force.call("delete", &["--force"]).code == 0;
    let killed = match boot(case, "sleep 60") {
        Ok(container) => container,
        Err(verdict) => return verdict,
    };
    killed.call("pause", &[]);
    killed.call("kill", &["KILL"]);
    let died = killed.becomes("stopped");
    killed.call("resume", &[]); // so that a runtime that does not thaw leaves no process behind
    worst([
        safe_if(state == "paused", "paused", format!("paused, its state is {state}")),
        safe_if(deleted, "deleted", "delete --force of what is paused fails"),
        safe_if(died, "it dies", "what is paused and killed does not die"),
    ])
}

fn host_pids_are_killed(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let others = ["network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    bundle.set("/linux/namespaces", others.to_vec());
    bundle.script("sleep 61 & sleep 61 & echo up; exec sleep 61");
    let container = match case.boot(&mut bundle) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    let sleepers = || processes().iter().filter(|(_, name)| name == "sleep").count();
    let up = eventually(|| sleepers() == 3);
    let _ = kill(Pid::from_raw(container.pid()), Signal::SIGKILL);
    let stopped = container.becomes("stopped");
    let output = container.call("delete", &["--force"]);
    let gone = eventually(|| sleepers() == 0);
    let told = format!("up {up}, stopped {stopped}, delete {}, {} left", output.code, sleepers());
    safe_if(up && stopped && output.code == 0 && gone, "all are gone", told)
}

fn groups_below(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    let container = match case.boot(bundle.args(&["sleep", "60"])) {
        Ok(container) => container,
        Err(output) => return judge(&output),
    };
    for group in crate::groups::directories(&format!("{}/{}", case.sandbox.parent, container.id)) {
        let _ = std::fs::create_dir_all(group.join("below/deeper"));
    }
    let output = container.call("delete", &["--force"]);
    let left = crate::groups::directories(&format!("{}/{}", case.sandbox.parent, container.id));
    safe_if(output.code == 0 && left.is_empty(), "they go with it", format!("{} groups are left", left.len()))
}

fn same_id_at_once(case: &Case) -> Verdict {
    const TIMES: usize = 32;
    let mut bundle = case.bundle();
    let id = case.place(bundle.args(&["sleep", "60"]));
    let folder = bundle.folder.display().to_string();
    let create = |number: usize| {
        let file = case.folder.join(format!("at-once-{number}"));
        case.start(case.command(&["create", "--bundle", &folder, &id]), &file)
    };
    let mut children: Vec<_> = (0..TIMES).map(create).collect();
    let won = children.iter_mut().map(wait).filter(|code| *code == 0).count();
    let started = case.call(&["start", &id]);
    case.call(&["delete", "--force", &id]);
    let told = format!("{won} of {TIMES} win; start: {}", started.line());
    safe_if(won == 1 && started.code == 0, "one wins, and it starts", told)
}

fn many_at_once(case: &Case) -> Verdict {
    const COUNT: usize = 32;
    let bundles: Vec<_> = (0..COUNT)
        .map(|_| case.bundle())
        .map(|mut bundle| (case.place(bundle.args(&["sleep", "60"])), bundle))
        .collect();
    let run = |(id, bundle): &(String, Bundle)| {
        let folder = bundle.folder.display().to_string();
        case.start(case.command(&["run", "--detach", "--bundle", &folder, id]), &case.folder.join(format!("run-{id}")))
    };
    let mut runs: Vec<_> = bundles.iter().map(run).collect();
    let running = runs.iter_mut().map(wait).filter(|code| *code == 0).count();
    let delete = |(id, _): &(String, Bundle)| {
        case.start(case.command(&["delete", "--force", id]), &case.folder.join(format!("delete-{id}")))
    };
    let mut deletes: Vec<_> = bundles.iter().map(delete).collect();
    let deleted = deletes.iter_mut().map(wait).filter(|code| *code == 0).count();
    let told = format!("{running} run and {deleted} are deleted of {COUNT}");
    safe_if(running == COUNT && deleted == COUNT, "all of them", told)
}

fn memory_runs_out(case: &Case) -> Verdict {
    let mut bundle = case.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 16 << 20 }));
    let output = case.run(bundle.args(&["tail", "/dev/zero"]));
    safe_if(output.code == 137, "killed, and told by 137", format!("it ends with {}: {}", output.code, output.line()))
}

fn delete_of_nothing(case: &Case) -> Verdict {
    let (forced, plain) = (case.call(&["delete", "--force", "unknown"]), case.call(&["delete", "unknown"]));
    let told = format!("by force {}, without {}", forced.code, plain.code);
    safe_if(forced.code == 0 && plain.code != 0, plain.line(), told)
}
