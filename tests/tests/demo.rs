//! The demo as a person sees it.
use anyhow::{Context, Result};
use linli_tests::harness::{binary, until};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn a_ctrl_c_ends_the_demo_with_its_summary() -> Result<()> {
    let directory = tempdir()?;
    let log = directory.path().join("demo.log");
    let out = std::fs::File::create(&log)?;
    // A group of its own, as a shell gives it: the signal of a terminal goes to all of the group.
    let mut demo = Command::new(binary("linli-demo")?)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0)
        .spawn()?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the demo to have stored something", async || {
        if let Some(status) = demo.try_wait()? {
            anyhow::bail!("the demo ended with {status}: {}", said());
        }
        Ok(said().contains("已入库 stored").then_some(()))
    })
    .await?;
    let group = Pid::from_raw(demo.id().cast_signed()).context("a process id")?;
    kill_process_group(group, Signal::INT)?;
    let status = until("the demo to end", async || Ok(demo.try_wait()?)).await?;
    assert!(status.success(), "{status}: {}", said());
    assert!(
        said().contains("every acknowledged event is stored once"),
        "{}",
        said()
    );
    Ok(())
}
