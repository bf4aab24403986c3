//! What a process has used, from `/proc`.

use std::fs;
use std::time::Duration;

/// Processor time of all its threads, to the nanosecond; of threads that have ended, nothing is known.
///
/// # Panics
/// If the process has ended, or the kernel keeps no account (`/proc/PID/task/TID/schedstat`).
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    // A thread may end between being listed and being read.
    let accounts = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let nanoseconds = |account: String| account.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
    let total: u64 = accounts.map(|account| nanoseconds(account).expect("schedstat begins with a number")).sum();
    assert!(total > 0, "process {pid} has ended, or its kernel has no schedstat");
    Duration::from_nanos(total)
}

/// Whether it is there and has not ended.
pub fn is_running(pid: u32) -> bool {
    // The process state is the first letter after the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What it has in memory now (resident), in bytes.
///
/// # Panics
/// If the process has ended.
pub fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// The most that it ever had in memory, in bytes.
///
/// # Panics
/// If the process has ended.
pub fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let kib = status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_else(|| panic!("process {pid} has ended: {status}")) * 1024
}
