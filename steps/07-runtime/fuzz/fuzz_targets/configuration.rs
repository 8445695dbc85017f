//! Any bytes as a configuration, as a process for `exec` and as limits for `update`.

#![no_main]

use cellblock::spec::{self, Known, Process, Resources, Spec};
use kernel::Failure;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let known = Known { capability: &|name| name.starts_with("CAP_"), rlimit: &|name| name.starts_with("RLIMIT_") };
    match spec::parse::<Spec>("config.json", text) {
        Ok(read) => {
            let written = spec::to_json(&read);
            assert_eq!(spec::parse::<Spec>("config.json", written.as_bytes()).unwrap(), read);
            one_line(spec::check(&read, &known));
        }
        Err(failure) => one_line(Err(failure)),
    }
    one_line(spec::parse("process.json", text).and_then(|read: Process| spec::check_process(&read, "", &known)));
    one_line(spec::parse("limits.json", text).and_then(|read: Resources| spec::check_resources(&read, "")));
    one_line(std::str::from_utf8(text).map_or(Ok(()), spec::check_id));
});

/// A failure is one line, not endless, and a second with the remedy.
fn one_line(result: Result<(), Failure>) {
    if let Err(failure) = result {
        let lines = failure.lines("cellblock");
        assert!(lines.lines().count() == 2 && lines.len() < 4000, "{lines:?}");
        assert!(!lines.replace('\n', "").contains(char::is_control), "{lines:?}");
    }
}
