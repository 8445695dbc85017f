//! `update`: other limits for a container that runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use kernel::Failure;

use super::Context;
use crate::resources;
use crate::spec::{self, Cpu, Memory, Pids, Resources, Status};

/// Change a container's limits
#[derive(clap::Args, Debug)]
pub struct Update {
    /// All of them from a file, as in config.json's linux.resources; - is standard input
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Memory limit in bytes, such as 64m; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory: Option<i64>,

    /// Memory that is left to it when memory is short, in bytes
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory_reservation: Option<i64>,

    /// Limit of memory and swap together, in bytes
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = size)]
    memory_swap: Option<i64>,

    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,

    /// How long a period is
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// The share against others that want the CPU too
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,

    /// How much unused quota can be saved for later, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,

    /// 1: it runs only when no other process wants the CPU; 0: it does not wait
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,

    /// Time of its real-time processes in each real-time period, in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,

    /// How long a real-time period is (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,

    /// Which CPUs
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Which memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// The share of disks, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,

    /// Limit of processes; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    /// The container's name
    id: String,
}

impl Update {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let asked = self.resources()?; // standard input may take its time: no other command waits for it
        spec::check_resources(&asked, "")?;
        let container = context.store.open(&self.id)?.lock()?;
        if matches!(container.status(), Status::Stopped | Status::Unknown) {
            drop(container.process()?); // says why
        }
        let no_group = || Failure::new(format!("container {:?}: it has no group", self.id));
        let group = container.group()?.ok_or_else(no_group)?;
        resources::update(group, container.record.scope.as_ref(), &asked)?;
        Ok(ExitCode::SUCCESS)
    }

    fn resources(&self) -> Result<Resources> {
        match &self.resources {
            Some(file) if file.as_os_str() == "-" => {
                let text = kernel::outside::bounded(std::io::stdin())
                    .map_err(|why| Failure::new(format!("cannot read standard input: {why}")))?;
                Ok(spec::parse("standard input", &text)?)
            }
            Some(file) => Ok(spec::read(file)?),
            None => Ok(self.given()),
        }
    }

    fn given(&self) -> Resources {
        let memory = Memory {
            limit: self.memory,
            reservation: self.memory_reservation,
            swap: self.memory_swap,
            ..Memory::default()
        };
        let cpu = Cpu {
            quota: self.cpu_quota,
            period: self.cpu_period,
            shares: self.cpu_share,
            burst: self.cpu_burst,
            idle: self.cpu_idle,
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period,
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
        };
        Resources {
            memory,
            cpu,
            pids: self.pids_limit.map(|limit| Pids { limit: Some(limit) }),
            block_io: spec::BlockIo { weight: self.blkio_weight, ..Default::default() },
            ..Resources::default()
        }
    }
}

/// A number of bytes, with k, m, g or t behind it or nothing; -1 is no limit.
fn size(text: &str) -> Result<i64, String> {
    let bytes = if text == "-1" { Some(-1) } else { cgroups::size(text).and_then(|bytes| i64::try_from(bytes).ok()) };
    bytes.ok_or_else(|| "it is not a size: such as 64m, or -1 for no limit".to_owned())
}
