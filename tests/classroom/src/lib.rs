//! The classroom: how the lessons are tested.
//!
//! Each test runs in a [`lab`] of its own, a small machine made of namespaces, in which it is root (or an ordinary
//! user), alone, and can break nothing. There it runs the real launchers on a real root filesystem. What they print is
//! a snapshot, which the book shows; and when the test ends, the lab must look as it did before.
//!
//! ```ignore
//! #[test]
//! fn ps_shows_pid_1() {
//!     lab!(World::Root, |lab| check!("ps", lab.run("pivot-root", &["ps"])));
//! }
//! ```

pub mod attacks;
pub mod delegate;
pub mod desk;
pub mod device_program;
pub mod every_step;
pub mod frames;
pub mod groups;
pub mod init;
pub mod lab;
pub mod page;
pub mod run;
pub mod runtimes;
pub mod short;
pub mod sys;
pub mod systemd;
pub mod terminal;
pub mod trace;
pub mod world;

pub use desk::Desk;
pub use insta;
pub use lab::{Lab, World};
pub use run::Output;

/// Runs the body in a lab: `lab!(World::Root, |lab| { ... })`.
#[macro_export]
macro_rules! lab {
    ($world:expr, $body:expr) => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here).trim_end_matches("::here");
        let test = path.split_once("::").map_or(path, |(_, test)| test);
        let test = test.split("::{{closure}}").next().unwrap_or(test); // the test may be within a condition
        $crate::lab::enter($world, test, $body)
    }};
}

/// Compares with the snapshot of that name in tests/snapshots. Its head has three lines, so that the book can skip it.
#[macro_export]
macro_rules! check {
    ($name:expr, $output:expr) => {
        $crate::insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            $crate::insta::assert_snapshot!($name, $output.to_string())
        })
    };
}
