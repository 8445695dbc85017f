//! Real-time budgets (cgroup v1): time of the CPU for processes with the policies SCHED_FIFO and SCHED_RR, in microseconds of
//! each period (Documentation/scheduler/sched-rt-group.rst).
//!
//! The groups in a group together can have no larger part of the CPU than the group itself, and a new group has none. So
//! before a container's group gets its budget, each group above it that is ours gets what the groups in it need, from the top
//! down. After a budget has become smaller, or is gone, they get less again. An administrator's group stays as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use cgroups::Setting;
use kernel::sys::cgroup;
use kernel::{Errno, Failure};

use super::Cgroup;
use super::members::groups_in;
use super::resources::nonzero;
use crate::spec::Cpu;

const RUNTIME: &str = "cpu.rt_runtime_us";
const PERIOD: &str = "cpu.rt_period_us";
/// How long a try waits for the kernel to free groups that have gone.
const PAUSE: Duration = Duration::from_millis(5);

/// Microseconds in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    runtime: i64,
    period: i64,
}

impl Budget {
    /// What a group has; `None` where the kernel gives no budgets.
    fn of(group: &Path) -> Option<Budget> {
        let number = |file| cgroup::read(group, file).trim().parse::<i64>().ok();
        Some(Budget { runtime: number(RUNTIME)?, period: number(PERIOD)?.max(1) })
    }

    /// Its runtime, counted in periods of another length. -1 is all of the time.
    fn in_periods_of(self, period: i64) -> i64 {
        let runtime = if self.runtime < 0 { self.period } else { self.runtime };
        let scaled = (i128::from(runtime) * i128::from(period) + i128::from(self.period) - 1) / i128::from(self.period);
        i64::try_from(scaled).unwrap_or(i64::MAX)
    }
}

impl Cgroup {
    /// Gives the group the real-time budget that is asked for, and the groups above it that are ours what they need for it.
    ///
    /// # Errors
    /// A kernel without real-time groups; EINVAL: more than a group above has that is not ours.
    pub(super) fn limit_real_time(&self, cpu: &Cpu) -> Result<()> {
        let period = nonzero(cpu.realtime_period).map(|time| Setting::new(PERIOD, time.to_string()));
        let runtime = nonzero(cpu.realtime_runtime).map(|time| Setting::new(RUNTIME, time.to_string()));
        let settings: Vec<Setting> = period.into_iter().chain(runtime).collect();
        if settings.is_empty() {
            return Ok(());
        }
        const NEEDED: &str =
            "real-time budgets need a kernel with CONFIG_RT_GROUP_SCHED, started without rt_group_sched=0";
        let group = self.directory_with(RUNTIME).map_err(|failure| failure.hint(NEEDED))?;
        let now = Budget::of(group).unwrap_or(Budget { runtime: 0, period: 1 });
        let wanted = Budget {
            runtime: nonzero(cpu.realtime_runtime).unwrap_or(now.runtime),
            period: nonzero(cpu.realtime_period).map_or(now.period, |time| i64::try_from(time).unwrap_or(i64::MAX)),
        };
        let above = self.ours_above(group);
        let given = self.give(group, wanted, &above, &settings);
        lower(&above);
        given.map_err(|error| if is_too_much(&error) { more_than_there_is(group, &error).into() } else { error })
    }

    /// Another launcher may lower the groups above at this very moment, because its container goes, or a group that has gone
    /// still counts for a moment: then we begin again.
    fn give(&self, group: &Path, wanted: Budget, above: &[PathBuf], settings: &[Setting]) -> Result<()> {
        let mut tries = 1..20;
        loop {
            match raise(above, group, wanted).and_then(|()| self.apply(settings)) {
                Err(error) if is_too_much(&error) && tries.next().is_some() => std::thread::sleep(PAUSE),
                given => return given,
            }
        }
    }

    /// Gives the budget back, before the group is removed: a group that has gone counts until the kernel has freed it. A group
    /// that was there before keeps what it has.
    pub(super) fn give_back_real_time(&self) {
        let Some(group) =
            self.directories.with_file(RUNTIME).filter(|group| !self.found.iter().any(|found| found == group))
        else {
            return;
        };
        if Budget::of(group).is_some_and(|budget| budget.runtime != 0) {
            let above = self.ours_above(group);
            clear(group);
            lower(&above);
        }
    }

    /// The groups above a directory of this group whose budget is ours to change, the nearest first. Those are the groups that
    /// were made by us. One at our default place that was not is ours as long as it has nothing that its groups do not use.
    fn ours_above(&self, directory: &Path) -> Vec<PathBuf> {
        let is_default = |above: &Path| self.parents.iter().any(|parent| parent == above) && is_used_up(above);
        let above = directory.ancestors().skip(1).take_while(|above| cgroup::is_ours(above) || is_default(above));
        above.map(Path::to_owned).collect()
    }
}

/// Takes the budgets of a group and of those that its processes have made in it, the innermost first. It is refused where a
/// real-time process is in one: then that is not removed either.
fn clear(group: &Path) {
    let mut all = vec![group.to_owned()];
    let mut next = 0;
    while let Some(group) = all.get(next) {
        all.extend(groups_in(group));
        next += 1;
    }
    all.iter().rev().for_each(|group| drop(cgroup::write(group, RUNTIME, "0")));
}

fn is_used_up(group: &Path) -> bool {
    Budget::of(group).is_some_and(|budget| budget.runtime == needed(group, budget.period, None))
}

fn is_too_much(error: &anyhow::Error) -> bool {
    Failure::errno_in(error) == Some(Errno::EINVAL)
}

/// The failure, with the group that decides: the nearest one above that was not made by us.
fn more_than_there_is(group: &Path, error: &anyhow::Error) -> Failure {
    let above = group.ancestors().skip(1).find(|above| !cgroup::is_ours(above)).unwrap_or(group);
    let hint = "the groups in it together can have no larger part of the CPU than it has itself";
    Failure::from_error(error).hint(format!("cat {}/cpu.rt_*_us: {hint}", above.display()))
}

/// What the groups in a group need together, in its periods. One of them is about to get another budget.
fn needed(group: &Path, period: i64, changed: Option<(&Path, Budget)>) -> i64 {
    let budget = |inside: PathBuf| match changed {
        Some((path, budget)) if path == inside => Some(budget),
        _ => Budget::of(&inside),
    };
    groups_in(group)
        .into_iter()
        .filter_map(budget)
        .map(|budget| budget.in_periods_of(period))
        .fold(0, i64::saturating_add)
}

/// Gives the groups above what they need, from the top down, before a group gets its budget.
fn raise(above: &[PathBuf], group: &Path, wanted: Budget) -> Result<()> {
    let (mut below, mut budget, mut raised) = (group, wanted, Vec::new());
    for group in above {
        let Some(now) = Budget::of(group) else { break };
        let runtime = needed(group, now.period, Some((below, budget))).max(now.runtime);
        (below, budget) = (group, Budget { runtime, ..now });
        if runtime > now.runtime {
            raised.push((group, runtime));
        }
    }
    for (group, runtime) in raised.into_iter().rev() {
        cgroup::write(group, RUNTIME, &runtime.to_string())?;
    }
    Ok(())
}

/// Takes from groups what those in them do not need, from the nearest to the topmost. A value that the kernel refuses is one
/// that another launcher needs meanwhile.
fn lower(above: &[PathBuf]) {
    for group in above {
        let Some(now) = Budget::of(group) else { return };
        let needed = needed(group, now.period, None);
        if needed < now.runtime {
            let _ = cgroup::write(group, RUNTIME, &needed.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_counted_in_other_periods() {
        let budget = |runtime, period| Budget { runtime, period };
        assert_eq!(budget(10, 1000).in_periods_of(1000), 10);
        assert_eq!(budget(10, 1000).in_periods_of(1_000_000), 10_000);
        assert_eq!(budget(1, 3).in_periods_of(1000), 334, "rather more than less");
        assert_eq!(budget(-1, 1000).in_periods_of(500), 500);
        assert_eq!(budget(i64::MAX, 1).in_periods_of(i64::MAX), i64::MAX);
    }
}
