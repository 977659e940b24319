//! Users, their rights, organisations, and the log of what they did.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, Hub, PASSWORD, add_user, connect, load_district, project, run, sign_in, user, with_line,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row as _;
use std::process::Output;
use tempfile::{TempDir, tempdir};

/// A hub with the project's example of a district.
async fn district() -> Result<(TempDir, Hub)> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    load_district(&hub)?;
    hub.start().await?;
    Ok((directory, hub))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_what_it_may_and_what_it_may_not_is_noted() -> Result<()> {
    let (_directory, hub) = district().await?;
    let admin = user(&hub, "admin", "admin", "centre").await?;
    let operator = user(&hub, "op", "operator", "centre").await?;
    let auditor = user(&hub, "audit", "auditor", "centre").await?;
    for (path, wanted) in [
        ("/api/v1/warnings", [403, 200, 403]),
        ("/api/v1/events", [403, 200, 403]),
        ("/api/v1/users", [200, 403, 403]),
        ("/api/v1/audit", [403, 403, 200]),
        ("/api/v1/orgs", [200, 200, 200]),
        ("/api/v1/me", [200, 200, 200]),
    ] {
        for (token, wanted) in [&admin, &operator, &auditor].into_iter().zip(wanted) {
            let (status, answer) = hub.api_with(path, Some(token)).await?;
            assert_eq!(status, wanted, "{path}: {answer}");
        }
    }
    let (status, _) = hub.post_with("/api/v1/rules/reload", &auditor).await?;
    assert_eq!(status, 403);
    let (_, log) = hub
        .api_with("/api/v1/audit?actor=audit", Some(&auditor))
        .await?;
    let refused: Vec<&str> = log["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter(|entry| entry["action"] == "refused")
        .filter_map(|entry| entry["object"].as_str())
        .collect();
    let wanted = [
        "/api/v1/rules/reload",
        "/api/v1/users",
        "/api/v1/events",
        "/api/v1/warnings",
    ];
    assert_eq!(refused, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_user_a_new_password_or_by_itself_and_guessing_takes_time()
-> Result<()> {
    let (_directory, hub) = district().await?;
    let first = user(&hub, "wang", "operator", "centre").await?;
    let me = async |token: &str| anyhow::Ok(hub.api_with("/api/v1/me", Some(token)).await?.0);
    assert_eq!(me(&first).await?, 200);
    let ended = hub
        .ask(Method::DELETE, "/api/v1/sessions", Some(&first), None)
        .await?;
    assert_eq!(ended.0, 204);
    assert_eq!(me(&first).await?, 401);
    let second = sign_in(&hub, "wang", PASSWORD).await?.1;
    let second = second["token"].as_str().context("a token")?.to_owned();
    let set = with_line(
        hub.command()?.args(["user", "password", "wang"]),
        "another long password",
    )?;
    assert!(set.status.success(), "{set:?}");
    assert_eq!(me(&second).await?, 401);
    assert_eq!(sign_in(&hub, "wang", PASSWORD).await?.0, 401);
    let third = sign_in(&hub, "wang", "another long password").await?.1;
    let third = third["token"].as_str().context("a token")?.to_owned();
    run(hub.command()?.args(["user", "disable", "wang"]))?;
    assert_eq!(me(&third).await?, 401);
    // Whether there is such a login does not show.
    let (_, disabled) = sign_in(&hub, "wang", "another long password").await?;
    let (_, unknown) = sign_in(&hub, "ghost", "another long password").await?;
    assert_eq!(disabled, unknown);
    for _ in 0..4 {
        assert_eq!(sign_in(&hub, "ghost", PASSWORD).await?.0, 401);
    }
    let (status, answer) = sign_in(&hub, "ghost", PASSWORD).await?;
    assert_eq!(status, 429, "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_of_the_audit_log_is_found_and_so_is_a_cut_end() -> Result<()> {
    let (_directory, hub) = district().await?;
    user(&hub, "wang", "operator", "centre").await?;
    let verify = |more: &[&str]| -> Result<Output> {
        Ok(hub
            .command()?
            .args(["audit", "verify"])
            .args(more)
            .output()?)
    };
    let good = verify(&[])?;
    assert!(good.status.success(), "{good:?}");
    let said = String::from_utf8(good.stdout)?;
    let last = said.trim().rsplit(' ').next().context("a hash")?.to_owned();
    assert!(verify(&["--hash", &last])?.status.success());
    let mut connection = connect(hub.database_url()).await?;
    let row = sqlx::query("SELECT actor FROM audit WHERE number = 3");
    let actor: String = row.fetch_one(&mut connection).await?.get(0);
    assert!(actor.starts_with("os:"), "{actor}");
    let change = "UPDATE audit SET actor = $1 WHERE number = 3";
    sqlx::query(change)
        .bind("li")
        .execute(&mut connection)
        .await?;
    let found = verify(&[])?;
    assert_eq!(found.status.code(), Some(65));
    let said = String::from_utf8(found.stderr)?;
    assert!(said.contains("entry 3 is not what was written"), "{said}");
    sqlx::query(change)
        .bind(actor)
        .execute(&mut connection)
        .await?;
    let cut = "DELETE FROM audit WHERE number = (SELECT MAX(number) FROM audit)";
    sqlx::query(cut).execute(&mut connection).await?;
    assert!(verify(&[])?.status.success(), "what is left is whole");
    let found = verify(&["--hash", &last])?;
    assert!(String::from_utf8(found.stderr)?.contains("its end was cut off"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_are_loaded_changed_and_retired_and_a_bad_change_changes_nothing()
-> Result<()> {
    let (directory, hub) = district().await?;
    let admin = user(&hub, "admin", "admin", "centre").await?;
    let count = async |path: &str| -> Result<usize> {
        let (status, found) = hub.api_with(path, Some(&admin)).await?;
        assert_eq!(status, 200);
        Ok(found["items"].as_array().context("items")?.len())
    };
    assert_eq!(count("/api/v1/orgs").await?, 56);
    let put =
        async |path: &str, body: Value| hub.ask(Method::PUT, path, Some(&admin), Some(&body)).await;
    let room = json!({ "id": "room-15", "name": "新调解室", "kind": "room", "parent": "office-1" });
    let (status, answer) = put("/api/v1/orgs/room-15", room).await?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(count("/api/v1/orgs").await?, 57);
    let bad = json!({ "id": "room-16", "name": "x", "kind": "room", "parent": "station-1" });
    let (status, answer) = put("/api/v1/orgs/room-16", bad).await?;
    assert_eq!(status, 400);
    assert!(
        answer["detail"]
            .as_str()
            .context("detail")?
            .contains("centre, town, office"),
        "{answer}"
    );
    assert_eq!(count("/api/v1/orgs").await?, 57);
    // The file again: what came by the API is not in it. The hub that runs sees it.
    let example = project("configs/district.toml");
    let said = run(hub.command()?.args(["org", "load"]).arg(&example))?;
    assert!(said.contains("retired: 1"), "{said}");
    assert_eq!(count("/api/v1/orgs").await?, 56);
    let broken = directory.path().join("broken.toml");
    let text =
        std::fs::read_to_string(&example)?.replace("parent = \"office-1\"", "parent = \"nowhere\"");
    std::fs::write(&broken, text)?;
    let refused = hub.command()?.args(["org", "load"]).arg(&broken).output()?;
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stderr)?;
    assert!(
        said.contains("broken.toml") && said.contains("nowhere"),
        "{said}"
    );
    assert_eq!(count("/api/v1/orgs").await?, 56);
    let log = run(hub
        .command()?
        .args(["audit", "list", "--object", "org/room-15"]))?;
    assert!(
        log.contains("org.added") && log.contains("org.retired"),
        "{log}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_is_refused_at_the_api_and_what_is_wrong_with_a_user_is_said() -> Result<()> {
    let (_directory, hub) = district().await?;
    let operator = user(&hub, "op", "operator", "centre").await?;
    let (status, answer) = hub
        .api_with("/api/v1/warnings?site=a%00b", Some(&operator))
        .await?;
    assert_eq!(
        (status, answer["type"].as_str()),
        (400, Some("urn:linli:problem:nul"))
    );
    let mute = json!({ "rule": "fire-alarm", "reason": "a\u{0}b", "owner": "x", "until": "2126-01-01T00:00:00Z" });
    let (status, _) = hub
        .ask(Method::POST, "/api/v1/mutes", Some(&operator), Some(&mute))
        .await?;
    assert_eq!(status, 400);
    for (login, role, org, says) in [
        ("op", "operator", "centre", "already"),
        ("Wang", "operator", "centre", "lower-case"),
        ("li", "operator", "office-9", "org list"),
    ] {
        let refused = add_user(&hub, login, role, org)?;
        assert_eq!(refused.status.code(), Some(65), "{login}");
        let said = String::from_utf8(refused.stderr)?;
        assert!(said.contains(says), "{said}");
    }
    let short = with_line(
        hub.command()?
            .args(["user", "add", "li", "--role", "handler"]),
        "short",
    )?;
    assert!(String::from_utf8(short.stderr)?.contains("12 to 128"));
    Ok(())
}

/// The audit log of an object, oldest first: action and detail.
fn entries(hub: &Hub, object: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in hub.audit(object)? {
        let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        found.insert(0, (part("action"), part("detail")));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_sign_ins_from_outside_are_counted_and_not_written_one_by_one() -> Result<()> {
    let (_directory, mut hub) = district().await?;
    for number in 0..30 {
        let (status, _) = sign_in(&hub, &format!("guess-{number}"), PASSWORD).await?;
        assert_eq!(status, 401);
    }
    // The first of them stands there at once, and no other.
    let first = entries(&hub, "user/guess-0")?;
    let wanted = ("session.refused".to_owned(), "address/127.0.0.1".to_owned());
    assert_eq!(first, [wanted]);
    assert_eq!(entries(&hub, "user/guess-1")?, []);
    hub.stop()?;
    let told = entries(&hub, "address/127.0.0.1")?;
    let count: u64 = told
        .iter()
        .filter_map(|(_, detail)| detail.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(count, 29, "{told:?}");
    assert!(told.len() <= 2, "{told:?}");
    assert!(told[0].1.contains("user/guess-1 "), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_about_a_user_ends_no_session_and_is_not_noted() -> Result<()> {
    let (_directory, hub) = district().await?;
    let admin = user(&hub, "admin", "admin", "centre").await?;
    let session = user(&hub, "wang", "operator", "centre").await?;
    let disable = async |login: &str, disabled: bool| -> Result<u16> {
        let (path, body) = (
            format!("/api/v1/users/{login}/disabled"),
            json!({ "disabled": disabled }),
        );
        let answer = hub.ask(Method::PUT, &path, Some(&admin), Some(&body));
        Ok(answer.await?.0)
    };
    let me = async || anyhow::Ok(hub.api_with("/api/v1/me", Some(&session)).await?.0);
    let before = entries(&hub, "user/wang")?;
    assert_eq!(disable("wang", false).await?, 204);
    let enable = ["user", "disable", "wang", "--enable"];
    assert_eq!(
        hub.command()?.args(enable).output()?.status.code(),
        Some(65)
    );
    assert_eq!(me().await?, 200, "they were enabled already");
    assert_eq!(entries(&hub, "user/wang")?, before);
    assert_eq!(disable("nobody", true).await?, 404);
    let set = ["user", "password", "nobody"];
    let set = with_line(hub.command()?.args(set), "another long password")?;
    assert_eq!(set.status.code(), Some(65));
    assert_eq!(entries(&hub, "user/nobody")?, []);
    // What does change something does both.
    assert_eq!(disable("wang", true).await?, 204);
    assert_eq!(me().await?, 401);
    assert_eq!(disable("wang", true).await?, 204);
    let after = entries(&hub, "user/wang")?;
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_actor_whether_user_program_or_agent() -> Result<()> {
    let (directory, hub) = district().await?;
    let _agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    let added = add_user(&hub, "wang", "operator", "centre")?;
    assert!(added.status.success(), "{added:?}");
    let create = |name: &str| -> Result<Output> {
        let words = ["api-token", "create", "--name", name];
        Ok(hub.command()?.args(words).output()?)
    };
    let made = create("robot")?;
    assert!(made.status.success(), "{made:?}");
    for (name, says) in [
        ("robot", "api-token list"),
        ("wang", "login of a user"),
        ("gw-1", "name of an agent"),
        ("", "1 to 100"),
        ("a\nb", "1 to 100"),
    ] {
        let refused = create(name)?;
        let said = String::from_utf8(refused.stderr)?;
        assert!(
            said.contains(says) && said.contains("--name"),
            "{name}: {said}"
        );
        assert!(refused.stdout.is_empty(), "{name}");
    }
    let refused = add_user(&hub, "robot", "operator", "centre")?;
    assert_eq!(refused.status.code(), Some(65));
    assert!(String::from_utf8(refused.stderr)?.contains("api-token list"));
    // One that is revoked has left its name to the next one.
    let token = String::from_utf8(made.stdout)?;
    let id = token.split('.').nth(1).context("an id")?;
    run(hub.command()?.args(["api-token", "revoke", id]))?;
    let again = create("robot")?;
    assert!(again.status.success(), "{again:?}");
    Ok(())
}
