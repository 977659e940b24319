//! People of a hub: users of the example district, who sign in with one password.
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::{Hub, project, run};

/// The password of all of them.
pub const PASSWORD: &str = "correct horse battery";

/// Loads the project's example of a district.
pub fn load_district(hub: &Hub) -> Result<()> {
    let example = project("configs/district.toml");
    run(hub.command()?.args(["org", "load"]).arg(example))?;
    Ok(())
}

/// Runs a command with a line on its standard input.
pub fn with_line(command: &mut Command, line: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("its input")?;
    writeln!(input, "{line}")?;
    drop(input);
    Ok(child.wait_with_output()?)
}

/// Adds a user on the command line.
pub fn add_user(hub: &Hub, login: &str, role: &str, org: &str) -> Result<Output> {
    let mut command = hub.command()?;
    command.args(["user", "add", login, "--role", role, "--org", org]);
    with_line(&mut command, PASSWORD)
}

/// Signs in; the status and the JSON.
pub async fn sign_in(hub: &Hub, login: &str, password: &str) -> Result<(u16, Value)> {
    let body = json!({ "login": login, "password": password });
    hub.ask(Method::POST, "/api/v1/sessions", None, Some(&body))
        .await
}

/// A user who is signed in: the token.
pub async fn user(hub: &Hub, login: &str, role: &str, org: &str) -> Result<String> {
    let added = add_user(hub, login, role, org)?;
    ensure!(added.status.success(), "{added:?}");
    let (status, session) = sign_in(hub, login, PASSWORD).await?;
    ensure!(status == 201, "{session}");
    Ok(session["token"].as_str().context("a token")?.to_owned())
}
