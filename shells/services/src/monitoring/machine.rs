//! The figures of this process and of this machine, from `/proc` (proc(5)) or a tree like it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::{Limits, Stat};
use procfs::{CpuTime, FromRead, FromReadSI, KernelStats, LoadAverage, Meminfo, Uptime};

use crate::monitoring::metric::Metric;

/// Measures this process and this machine. What cannot be read is left out.
#[derive(Debug)]
pub(crate) struct Machine {
    root: PathBuf,
    /// What the processors had done when they were measured last.
    cpu: Option<Ticks>,
    /// Processor time of this process when it was measured last, in ticks, and when that was.
    process: Option<(u64, Duration)>,
}

impl Machine {
    /// Reads below `root`, usually `/proc`.
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root, cpu: None, process: None }
    }

    /// All figures at `now`, which never goes back.
    pub(crate) fn read(&mut self, now: Duration) -> Vec<Metric> {
        let mut metrics = Vec::with_capacity(20);
        let kernel = self.parse_si::<KernelStats>("stat");
        metrics.extend(kernel.as_ref().and_then(|kernel| self.cpu(&kernel.total)));
        self.read_machine(&mut metrics);
        self.read_process(kernel.map(|kernel| kernel.btime), now, &mut metrics);
        metrics.retain(|metric| metric.value.is_finite());
        metrics
    }

    /// How busy the processors were since the last time.
    fn cpu(&mut self, total: &CpuTime) -> Option<Metric> {
        let ticks = Ticks::from(total);
        let before = self.cpu.replace(ticks)?;
        let all = ticks.all.checked_sub(before.all).filter(|all| *all > 0)?;
        // The time that was idle may go back a little by itself.
        let idle = ticks.idle.saturating_sub(before.idle).min(all);
        Some(Metric::gauge("machine.cpu_percent", 100.0 * float(all - idle) / float(all)))
    }

    fn read_machine(&self, metrics: &mut Vec<Metric>) {
        if let Some(load) = self.parse::<LoadAverage>("loadavg") {
            metrics.push(Metric::gauge("machine.load1", load.one.into()));
            metrics.push(Metric::gauge("machine.load5", load.five.into()));
        }
        if let Some(memory) = self.parse::<Meminfo>("meminfo") {
            let total = memory.mem_total;
            let available = memory.mem_available.unwrap_or(memory.mem_free).min(total);
            metrics.push(Metric::gauge("machine.memory_total_bytes", float(total)));
            metrics.push(Metric::gauge("machine.memory_available_bytes", float(available)));
            let used = 100.0 * float(total - available) / float(total);
            metrics.push(Metric::gauge("machine.memory_percent", used));
            let swap = memory.swap_total.saturating_sub(memory.swap_free);
            metrics.push(Metric::gauge("machine.swap_used_bytes", float(swap)));
        }
        if let Some(uptime) = self.parse::<Uptime>("uptime") {
            metrics.push(Metric::gauge("machine.uptime_seconds", uptime.uptime));
        }
    }

    fn read_process(&mut self, boot_s: Option<u64>, now: Duration, metrics: &mut Vec<Metric>) {
        if let Some(stat) = self.parse::<Stat>("self/stat") {
            let per_second = float(procfs::ticks_per_second());
            let ticks = stat.utime.saturating_add(stat.stime);
            let mut seconds = Metric::counter("process.cpu_seconds", 0);
            seconds.value = float(ticks) / per_second;
            metrics.push(seconds);
            if let Some((before, at)) = self.process.replace((ticks, now)) {
                let share =
                    float(ticks.saturating_sub(before)) / per_second / now.saturating_sub(at).as_secs_f64();
                metrics.push(Metric::gauge("process.cpu_percent", 100.0 * share));
            }
            let resident = stat.rss.saturating_mul(procfs::page_size());
            metrics.push(Metric::gauge("process.resident_memory_bytes", float(resident)));
            metrics.push(Metric::gauge("process.virtual_memory_bytes", float(stat.vsize)));
            metrics.push(Metric::gauge("process.threads", stat.num_threads as f64));
            let started = boot_s.map(|boot| float(boot) + float(stat.starttime) / per_second);
            metrics.extend(started.map(|at| Metric::gauge("process.start_time_seconds", at)));
        }
        self.read_files(metrics);
    }

    fn read_files(&self, metrics: &mut Vec<Metric>) {
        let open = fs::read_dir(self.root.join("self/fd")).map(|entries| entries.take(MOST_FILES).count());
        let open = open.ok().map(|open| open as f64);
        metrics.extend(open.map(|open| Metric::gauge("process.open_fds", open)));
        let limits = self.parse::<Limits>("self/limits").map(|limits| limits.max_open_files.soft_limit);
        if let Some(procfs::process::LimitValue::Value(most)) = limits {
            metrics.push(Metric::gauge("process.max_fds", float(most)));
            metrics.extend(open.map(|open| Metric::gauge("process.fds_percent", 100.0 * open / float(most))));
        }
    }

    fn parse<T: FromRead>(&self, file: &str) -> Option<T> {
        T::from_read(&*read(&self.root.join(file)).ok()?).ok()
    }

    fn parse_si<T: FromReadSI>(&self, file: &str) -> Option<T> {
        T::from_read(&*read(&self.root.join(file)).ok()?, procfs::current_system_info()).ok()
    }
}

/// What processors have done since the machine started.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl From<&CpuTime> for Ticks {
    /// A guest's time is in `user` and `nice` already (proc_stat(5)).
    fn from(time: &CpuTime) -> Self {
        let idle = time.idle.saturating_add(time.iowait.unwrap_or(0));
        let others = [time.irq, time.softirq, time.steal].map(|ticks| ticks.unwrap_or(0));
        let busy = [time.user, time.nice, time.system].into_iter().chain(others);
        Self { all: busy.fold(idle, u64::saturating_add), idle }
    }
}

/// A file that is as long as those of `/proc` may be.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "from 2^53 on the last digits are lost, which nobody sees")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Longest file that is read; `/proc/stat` has a line for each processor, and one for all interrupts.
const LONGEST_FILE: u64 = 1 << 20;
/// Most open files that are counted.
const MOST_FILES: usize = 1 << 20;

#[cfg(test)]
mod tests;
