//! The tests beside the rules, run at a reload. A test that fails keeps no rule from its work: it says that
//! the rule does something else than its author thought.
//!
//! They are run on a thread of their own, for [`TIME_MAX`] and then no further, so that a reload is answered.
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

use linli_domain::correlate::rule::Rule;
use linli_domain::correlate::trial;

/// Time limit of the tests; the rest is reported as not run.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Runs the tests beside the rules, and logs the rules that fail theirs.
pub async fn report(rules: Vec<Arc<Rule>>) {
    let (tell, told) = oneshot::channel();
    let deadline = Instant::now() + TIME_MAX;
    let spawned = std::thread::Builder::new()
        .name("rule-tests".to_owned())
        .spawn(move || {
            // The caller waits no longer than the deadline.
            let _ = tell.send(failing(&rules, deadline));
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "the tests beside the rules cannot be run");
        return;
    }
    // One test may go on over the deadline; then its thread ends with it.
    let tried = tokio::time::timeout_at(deadline.into(), told).await;
    let Ok(Ok((failing, is_whole))) = tried else {
        tracing::warn!("{NOT_ALL}");
        return;
    };
    if !failing.is_empty() {
        tracing::warn!(
            rules = failing.join(", "),
            "rules fail the tests beside them and are taken all the same: `linli-hub rules test` says how"
        );
    }
    if !is_whole {
        tracing::warn!("{NOT_ALL}");
    }
}

const NOT_ALL: &str =
    "there was no time for all tests beside the rules: `linli-hub rules test` runs them";

/// The rules that fail a test of theirs; false: some have not been tried.
fn failing(rules: &[Arc<Rule>], deadline: Instant) -> (Vec<String>, bool) {
    let mut failing = Vec::new();
    for rule in rules {
        for entry in &rule.trials {
            if Instant::now() >= deadline {
                return (failing, false);
            }
            if !trial::run(rule, entry).is_empty() {
                failing.push(rule.id.clone());
                break;
            }
        }
    }
    (failing, true)
}
