//! The filter by hand: what it answers, and how it is told.

use super::super::first;
use super::super::listing::listing;
use super::super::profile::Architecture::{X32, X86, X86_64};
use super::*;

#[test]
fn the_first_filter_refuses_one_call() {
    let [native, x32, x86] = [X86_64, X32, X86].map(|name| way(&calls::X86_64, name));
    let program = first::refuse(native, number(native, "chdir"));
    let ask =
        |abi: &Abi, name: &str| run(&program, &Call { number: number(abi, name), audit: abi.audit, arguments: [0; 6] });
    assert_eq!(ask(native, "chdir"), Answer::error(1));
    assert_eq!(ask(native, "fchdir"), Answer::ALLOW);
    assert_eq!(ask(x86, "chdir"), Answer::KILL_THREAD, "the same kernel, another table of numbers");
    assert_eq!(ask(x32, "chdir"), Answer::ALLOW, "its hole: x32 has the same architecture");
}

/// Every program has an end that can be read: no jump leads behind it, and each instruction has a name.
#[test]
fn a_listing_tells_every_instruction() {
    let plan = super::super::default_profile(|_| false);
    let compiled = Compiled::new(&plan, &calls::X86_64, &[]);
    let told = listing(&compiled.program);
    assert_eq!(told.lines().count(), compiled.program.len());
    assert!(!told.contains("instruction 0x") && !told.contains("the 32 bits at"), "{told}");
    assert!(told.contains("register = argument 1, lower half") && told.contains("answer ERRNO ENOSYS"), "{told}");
}
