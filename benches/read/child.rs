//! A child process from its parent's side.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child as Process, ChildStdin, ChildStdout, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{job::Job, rig::Result};

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu_seconds: f64,
    /// Most memory that was resident at once.
    pub(crate) peak_megabytes: f64,
}

impl Child {
    pub(crate) fn start(job: &Job) -> Result<Self> {
        let mut process = job.command()?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = process.stdin.take().ok_or("the child has no stdin")?;
        let answers = BufReader::new(process.stdout.take().ok_or("the child has no stdout")?);
        Ok(Self { process, questions, answers })
    }

    /// Its next line.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("a child has ended: {}", self.process.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T> {
        writeln!(self.questions, "{question}")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Freezes it: it uses no CPU time until it is let go on.
    pub(crate) fn stop(&self) -> Result {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> Result {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(Pid::from_child(&self.process), signal)?)
    }

    /// # Errors
    /// Where there is no `/proc`.
    pub(crate) fn usage(&self) -> Result<Usage> {
        usage(self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; a stopped process dies of this as well.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What the system says of the process with this id.
///
/// # Errors
/// Where there is no `/proc`.
pub(crate) fn usage(id: u32) -> Result<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).map_err(|e| format!("/proc/{id}/{file}: {e}"));
    let stat = read("stat")?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok()).ok_or("/proc: a field is missing");
    // Linux reports to user space in hundredths of a second, whatever its own clock.
    let cpu_seconds = (ticks(14)? + ticks(15)?) / 100.0;
    let status = read("status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(Usage { cpu_seconds, peak_megabytes: peak.ok_or("/proc: no VmHWM")? * 1024.0 / 1e6 })
}
