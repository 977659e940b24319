//! A duty desk: rules whose warnings go to a receiver of the test, and what the desk was told.
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

use super::{Hub, Receiver, signed_events_at};

const SECRET: &str = "SEC-of-the-tests-0123456789";
/// A port where nobody listens: messages wait in the outbox.
pub const NOBODY: u16 = 9;

/// A rule that warns of each event of a kind by these fields, on the route `desk`; `then` is more of its `then`.
pub fn each_by(id: &str, kind: &str, key: &[&str], severity: &str, then: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = \"match\"\nkey = {key:?}\n\
         on = [{{ type = \"{kind}\" }}]\nseverity = \"{severity}\"\nfresh = \"15m\"\n\
         then = {{ route = \"desk\"{then} }}\n"
    )
}

/// A rule that warns of each event of a kind by its building.
pub fn each(id: &str, kind: &str, severity: &str, then: &str) -> String {
    each_by(id, kind, &["site", "building"], severity, then)
}

/// A hub with these rules, whose desk is a webhook on a local port; it does not run yet.
pub fn desk_hub(directory: &Path, rules: &str, wrapper: Vec<String>, port: u16) -> Result<Hub> {
    let mut hub = Hub::with_rules(directory, rules)?;
    std::fs::write(directory.join("secret"), SECRET)?;
    hub.configure(&format!(
        "[[channel]]\nname = \"desk\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/desk\"\n\
         secret_file = \"secret\"\nrate = {{ messages = 1000, per = \"1s\" }}\n\
         [[route]]\nname = \"desk\"\nchannels = [\"desk\"]\nescalate = \"chief\"\n\
         [[route]]\nname = \"chief\"\nchannels = [\"desk\"]\n"
    ))?;
    hub.wrapper = wrapper;
    Ok(hub)
}

/// The notices that the hub has for its desk, newest first, sent or not.
pub async fn notices(hub: &mut Hub) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let first = "/api/v1/notifications?limit=500";
    let mut path = first.to_owned();
    loop {
        let (status, mut page) = hub.api(&path).await?;
        ensure!(status == 200, "{page}");
        let items = page["items"].as_array_mut().context("items")?;
        found.extend(items.iter_mut().map(|item| item["notice"].take()));
        match page["next"].as_str() {
            Some(next) => path = format!("{first}&cursor={next}"),
            None => return Ok(found),
        }
    }
}

/// The notices that the desk has received, in order. One that comes again after a kill of the hub has the id of the first, and
/// is one.
pub fn told(desk: &Receiver) -> Result<Vec<Value>> {
    let (mut told, mut ids) = (Vec::new(), HashSet::new());
    for received in desk.received("/desk") {
        // By the clock of the hub, which a test may have set.
        let (_, events) = signed_events_at(&received, SECRET)?;
        for mut event in events {
            let id = event["id"].as_str().context("an id")?;
            if ids.insert(id.to_owned()) {
                told.push(event["data"].take());
            }
        }
    }
    Ok(told)
}
