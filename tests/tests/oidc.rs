//! Signing in by OpenID Connect, at panva's oidc-provider over TLS of a private CA, as a browser does it.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Browser, Hub, OidcProvider, PASSWORD, add_user, load_district, metric, oidc_modules, run,
    sign_in, user,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

const STAFF: &str = "scopes = [\"profile\", \"groups\"]\n\
    [[oidc.group]]\nvalue = \"mediators\"\nrole = \"handler\"\norg = \"room-3\"\n\
    [[oidc.group]]\nvalue = \"nowhere\"\nrole = \"handler\"\norg = \"room-99\"\n";
const COOKIE: &str = "__Host-linli-oidc";

struct Scene {
    _directory: TempDir,
    hub: Hub,
    provider: OidcProvider,
}

/// A hub of the example district, and a provider that runs; nothing where the provider is not installed.
async fn scene(more: &str, claims_in_id_token: bool) -> Result<Option<Scene>> {
    let Some(modules) = oidc_modules() else {
        return Ok(None);
    };
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    load_district(&hub)?;
    let place = directory.path().join("provider");
    let mut provider = OidcProvider::new(&place, &modules, &hub, claims_in_id_token)?;
    hub.configure(&provider.config(more))?;
    provider.start().await?;
    hub.start().await?;
    Ok(Some(Scene {
        _directory: directory,
        hub,
        provider,
    }))
}

impl Scene {
    fn browser(&self) -> Result<Browser> {
        self.provider.browser(&self.hub)
    }

    /// A user who signs in by OpenID Connect.
    fn add(&self, login: &str) -> Result<()> {
        let words = [
            "user", "add", login, "--role", "operator", "--org", "centre", "--oidc",
        ];
        run(self.hub.command()?.args(words))?;
        Ok(())
    }

    /// Who the token of a session is of.
    async fn me(&self, session: &Value) -> Result<Value> {
        let token = session["token"].as_str().context("a token")?;
        let (status, me) = self.hub.api_with("/api/v1/me", Some(token)).await?;
        ensure!(status == 200, "{me}");
        Ok(me)
    }

    /// What the audit log tells of an object, oldest first: actor, action, detail.
    fn log(&self, object: &str) -> Result<Vec<[String; 3]>> {
        let mut entries = Vec::new();
        for entry in self.hub.audit(object)? {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            entries.insert(0, [part("actor"), part("action"), part("detail")]);
        }
        Ok(entries)
    }

    fn actions(&self, object: &str) -> Result<Vec<String>> {
        Ok(self
            .log(object)?
            .into_iter()
            .map(|[_, action, _]| action)
            .collect())
    }

    async fn outcome(&self, outcome: &str) -> Result<f64> {
        let name = format!("linli_hub_oidc_sign_ins_total{{outcome=\"{outcome}\"}}");
        metric(&self.hub.metrics().await?, &name).context("a figure")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_marked_signs_in_and_the_account_is_theirs_from_then_on() -> Result<()> {
    for claims_in_id_token in [false, true] {
        let Some(mut scene) = scene("", claims_in_id_token).await? else {
            return Ok(());
        };
        scene.add("wang")?;
        scene.provider.account("a1", "wang", &[])?;
        let mut browser = scene.browser()?;
        let callback = browser.to_callback(&scene.hub, Some("a1")).await?;
        let seen = browser.get(&callback).await?;
        assert_eq!(seen.status, 201, "{seen:?}");
        let me = scene.me(&seen.json()?).await?;
        assert_eq!(
            me,
            json!({ "login": "wang", "role": "operator", "org": "centre" })
        );
        assert!(
            browser.cookies(scene.hub.api_port).is_empty(),
            "the cookie has served"
        );
        let log = scene.log("user/wang")?;
        let words: Vec<&str> = log.iter().map(|entry| entry[1].as_str()).collect();
        assert_eq!(words, ["user.added", "user.linked", "session.begun"]);
        assert_eq!(log[1][0], "wang");
        assert!(log[1][2].ends_with(" a1"), "{log:?}");
        assert_eq!(log[2][2], "oidc");
        // The provider calls them otherwise since; and another account takes the name.
        scene.provider.account("a1", "wang.li", &[])?;
        scene.provider.account("a2", "wang", &[])?;
        let again = scene.browser()?.sign_in(&scene.hub, "a1").await?;
        assert_eq!(scene.me(&again.json()?).await?["login"], "wang");
        let other = scene.browser()?.sign_in(&scene.hub, "a2").await?;
        assert_eq!(
            (other.status, other.problem()?.as_str()),
            (403, "oidc-user")
        );
        let log = scene.log("user/wang")?;
        let last = log.last().context("an entry")?;
        assert_eq!(
            (last[0].as_str(), last[1].as_str()),
            ("nobody", "session.refused")
        );
        assert!(last[2].contains("another account"), "{last:?}");
        // A browser that wants a page gets one, with a token that works and nothing else.
        let mut reader = scene.browser()?;
        reader.accept = "text/html,application/xhtml+xml,*/*;q=0.8";
        let page = reader.sign_in(&scene.hub, "a1").await?;
        assert_eq!(page.status, 201);
        assert!(page.kind.starts_with("text/html"), "{page:?}");
        let token = page
            .body
            .split("<pre id=\"token\">")
            .nth(1)
            .context("a token")?;
        let token = token.split('<').next().context("a token")?;
        assert_eq!(scene.me(&json!({ "token": token })).await?["login"], "wang");
        assert_eq!(scene.outcome("signed_in").await?, 3.0);
        assert_eq!(scene.outcome("user").await?, 1.0);
        scene.hub.stop()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_by_a_name_that_is_not_theirs() -> Result<()> {
    let Some(mut scene) = scene("", false).await? else {
        return Ok(());
    };
    let hub = &scene.hub;
    for (id, login) in [
        ("a1", "li"),
        ("a2", "zhao"),
        ("a3", "nobody"),
        ("a4", "Zhao Wei"),
    ] {
        scene.provider.account(id, login, &[])?;
    }
    // With a password: it is not taken over, and goes on.
    let session = user(hub, "li", "operator", "centre").await?;
    let refused = scene.browser()?.sign_in(hub, "a1").await?;
    assert_eq!(
        (refused.status, refused.problem()?.as_str()),
        (403, "oidc-user")
    );
    assert_eq!(hub.api_with("/api/v1/me", Some(&session)).await?.0, 200);
    // Disabled, unknown, and what can be no login: the same answer.
    scene.add("zhao")?;
    run(hub.command()?.args(["user", "disable", "zhao"]))?;
    for account in ["a2", "a3", "a4"] {
        let seen = scene.browser()?.sign_in(hub, account).await?;
        assert_eq!((seen.status, &seen.body), (403, &refused.body), "{account}");
    }
    // Nobody has a password that is none.
    assert_eq!(sign_in(hub, "zhao", "").await?.0, 401);
    let admin = user(hub, "admin", "admin", "centre").await?;
    let put = async |login: &str, what: &str, on: bool| {
        let path = format!("/api/v1/users/{login}/{what}");
        let body = json!({ what: on });
        let answer = hub.ask(Method::PUT, &path, Some(&admin), Some(&body));
        anyhow::Ok(answer.await?.0)
    };
    // An administrator links them, disables one, and takes it back.
    assert_eq!(put("zhao", "disabled", false).await?, 204);
    assert_eq!(scene.browser()?.sign_in(hub, "a2").await?.status, 201);
    assert_eq!(put("li", "oidc", true).await?, 204);
    let linked = scene.browser()?.sign_in(hub, "a1").await?;
    let linked = linked.json()?;
    assert_eq!(scene.me(&linked).await?["login"], "li");
    assert_eq!(
        sign_in(hub, "li", PASSWORD).await?.0,
        201,
        "their password stays"
    );
    assert_eq!(put("li", "disabled", true).await?, 204);
    assert_eq!(scene.browser()?.sign_in(hub, "a1").await?.status, 403);
    assert!(scene.me(&linked).await.is_err(), "the session has ended");
    assert_eq!(put("li", "disabled", false).await?, 204);
    let linked = scene.browser()?.sign_in(hub, "a1").await?.json()?;
    assert_eq!(put("li", "oidc", false).await?, 204);
    assert!(scene.me(&linked).await.is_err(), "the session has ended");
    assert_eq!(scene.browser()?.sign_in(hub, "a1").await?.status, 403);
    assert_eq!(put("nobody", "oidc", true).await?, 404);
    // Without a change there is no entry, and nothing ends.
    let before = scene.actions("user/li")?;
    assert_eq!(put("li", "oidc", false).await?, 204);
    assert_eq!(scene.actions("user/li")?, before);
    let wanted = [
        "user.oidc",
        "user.linked",
        "session.begun",
        "session.begun",
        "user.disabled",
        "user.enabled",
        "session.begun",
        "user.oidc_off",
    ];
    let changes: Vec<&str> = before
        .iter()
        .map(String::as_str)
        .skip_while(|action| *action != "user.oidc")
        .filter(|action| *action != "session.refused")
        .collect();
    assert_eq!(changes, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_a_group_in_the_map_are_made_users_at_their_first_sign_in() -> Result<()> {
    let Some(mut scene) = scene(STAFF, false).await? else {
        return Ok(());
    };
    let token = ["api-token", "create", "--name", "robot"];
    run(scene.hub.command()?.args(token))?;
    for (id, login, groups) in [
        ("a1", "wang", &["guests", "mediators"][..]),
        ("a2", "li", &["guests"][..]),
        ("a3", "zhao", &["nowhere"][..]),
        ("a4", "robot", &["mediators"][..]),
        ("a5", "chen", &["mediators"][..]),
    ] {
        scene.provider.account(id, login, groups)?;
    }
    for round in 0..2 {
        let seen = scene.browser()?.sign_in(&scene.hub, "a1").await?;
        let me = scene.me(&seen.json()?).await?;
        assert_eq!(
            me,
            json!({ "login": "wang", "role": "handler", "org": "room-3" }),
            "{round}"
        );
    }
    let log = scene.log("user/wang")?;
    assert_eq!(
        log[0][1..],
        ["user.added", "handler of \"room-3\", by OpenID Connect"]
    );
    assert_eq!(log.len(), 4, "made once: {log:?}");
    let users = run(scene.hub.command()?.args(["user", "list"]))?;
    assert!(
        users.contains("wang handler room-3 王某 OpenID Connect"),
        "{users}"
    );
    // No group, an organisation that is not there, and the name of a program.
    for account in ["a2", "a3", "a4"] {
        let seen = scene.browser()?.sign_in(&scene.hub, account).await?;
        assert_eq!(seen.status, 403, "{account}: {seen:?}");
    }
    // Someone who has a password is not made again.
    let added = add_user(&scene.hub, "chen", "auditor", "centre")?;
    ensure!(added.status.success());
    let seen = scene.browser()?.sign_in(&scene.hub, "a5").await?;
    assert_eq!(seen.status, 403);
    let users = run(scene.hub.command()?.args(["user", "list"]))?;
    assert_eq!(users.lines().count(), 2, "{users}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_begun_here_or_has_served_lets_nobody_in() -> Result<()> {
    let Some(mut scene) = scene("", false).await? else {
        return Ok(());
    };
    scene.add("wang")?;
    scene.provider.account("a1", "wang", &[])?;
    let port = scene.hub.api_port;
    let base = format!("https://localhost:{port}/api/v1/sessions/oidc");
    // Where somebody goes afterwards is nothing that a request could say.
    let mut browser = scene.browser()?;
    for parameter in ["return_to", "redirect_uri", "next", "url"] {
        let seen = browser
            .get(&format!("{base}?{parameter}=https://evil.example/"))
            .await?;
        assert_eq!((seen.status, seen.location), (400, None), "{parameter}");
    }
    let begun = browser.get(&base).await?;
    let location: reqwest::Url = begun.location.context("a location")?.parse()?;
    assert_eq!(location.port(), Some(scene.provider.port));
    let has = |name: &str, value: Option<&str>| {
        let mut pairs = location.query_pairs();
        pairs.any(|(key, found)| key == name && value.is_none_or(|value| value == found))
    };
    assert!(has("code_challenge_method", Some("S256")) && has("code_challenge", None));
    assert!(has("nonce", None) && has("state", None) && has("response_type", Some("code")));
    let cookie = begun.cookies.first().context("a cookie")?;
    for word in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let callback = browser
        .at_provider(&scene.hub, location.to_string(), Some("a1"))
        .await?;
    // Another state, another provider, another browser, a cookie that was changed, no code.
    let with = |name: &str, value: Option<&str>| -> Result<String> {
        let mut url: reqwest::Url = callback.parse()?;
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.query_pairs_mut().clear();
        for (key, old) in &pairs {
            let new = if key == name {
                value
            } else {
                Some(old.as_str())
            };
            if let Some(new) = new {
                url.query_pairs_mut().append_pair(key, new);
            }
        }
        Ok(url.to_string())
    };
    for url in [
        with("state", Some("AAAAAAAAAAAAAAAAAAAAAA"))?,
        with("state", None)?,
        with("iss", Some("https://evil.example"))?,
        with("code", None)?,
    ] {
        let seen = browser.get(&url).await?;
        assert_eq!(
            (seen.status, seen.problem()?.as_str()),
            (400, "oidc-state"),
            "{url}"
        );
    }
    let stranger = scene.browser()?.get(&callback).await?;
    assert_eq!(
        (stranger.status, stranger.problem()?.as_str()),
        (400, "oidc-state")
    );
    let good = browser
        .cookies(port)
        .get(COOKIE)
        .context("a cookie")?
        .clone();
    let mut forger = scene.browser()?;
    let (head, tail) = good.split_at(good.len() / 2);
    let letter = if tail.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}{letter}{}", &tail[1..]);
    forger.cookies(port).insert(COOKIE.to_owned(), forged);
    assert_eq!(forger.get(&callback).await?.problem()?, "oidc-state");
    // A code of somebody else, under the state of one's own.
    let mut other = scene.browser()?;
    let theirs = other.to_callback(&scene.hub, Some("a1")).await?;
    let theirs: reqwest::Url = theirs.parse()?;
    let code = theirs
        .query_pairs()
        .find(|(key, _)| key == "code")
        .context("a code")?;
    let seen = browser.get(&with("code", Some(&code.1))?).await?;
    assert_eq!(
        (seen.status, seen.problem()?.as_str()),
        (401, "oidc-refused"),
        "{seen:?}"
    );
    // The good one, from the beginning; once, also for who has kept the cookie.
    let mut browser = scene.browser()?;
    let callback = browser.to_callback(&scene.hub, Some("a1")).await?;
    let kept = browser.cookies(port).clone();
    assert_eq!(browser.get(&callback).await?.status, 201);
    assert_eq!(browser.get(&callback).await?.problem()?, "oidc-state");
    *browser.cookies(port) = kept;
    let replayed = browser.get(&callback).await?;
    assert_eq!(
        (replayed.status, replayed.problem()?.as_str()),
        (401, "oidc-refused")
    );
    // Who changes their mind at the provider.
    let mut browser = scene.browser()?;
    let callback = browser.to_callback(&scene.hub, None).await?;
    let seen = browser.get(&callback).await?;
    assert_eq!(
        (seen.status, seen.problem()?.as_str()),
        (401, "oidc-refused")
    );
    // A hub that starts anew knows none of what was begun.
    let mut browser = scene.browser()?;
    let callback = browser.to_callback(&scene.hub, Some("a1")).await?;
    scene.hub.stop()?;
    scene.hub.start().await?;
    assert_eq!(browser.get(&callback).await?.problem()?, "oidc-state");
    assert_eq!(browser.sign_in(&scene.hub, "a1").await?.status, 201);
    assert_eq!(
        scene
            .actions("user/wang")?
            .iter()
            .filter(|action| *action == "session.begun")
            .count(),
        2
    );
    // What was tried from outside stands in the log: the first at once, the others counted when the hub stopped.
    let refused = scene.log("address/127.0.0.1")?;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0][2].contains("invalid_grant"), "{refused:?}");
    assert!(refused[1][2].starts_with("2 more"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_serve_while_the_provider_is_down_and_it_is_found_again() -> Result<()> {
    let Some(mut scene) = scene("", false).await? else {
        return Ok(());
    };
    scene.provider.kill()?;
    scene.hub.stop()?;
    scene.hub.start().await?;
    let session = user(&scene.hub, "li", "operator", "centre").await?;
    assert_eq!(
        scene.hub.api_with("/api/v1/me", Some(&session)).await?.0,
        200
    );
    scene.add("wang")?;
    scene.provider.account("a1", "wang", &[])?;
    let start = format!(
        "https://localhost:{}/api/v1/sessions/oidc",
        scene.hub.api_port
    );
    let unusable = async |scene: &Scene, what: &str| -> Result<()> {
        let begun = Instant::now();
        let seen = scene.browser()?.get(&start).await?;
        assert_eq!(
            (seen.status, seen.problem()?.as_str()),
            (503, "oidc-provider"),
            "{what}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        Ok(())
    };
    unusable(&scene, "down").await?;
    // A crowd does not wait, nor ask: the failure is known for some seconds.
    let begun = Instant::now();
    for _ in 0..20 {
        unusable(&scene, "down, known").await?;
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(scene.outcome("provider").await?, 21.0);
    // What it says is bounded, in size and time, and only https is believed.
    scene.provider.start().await?;
    for fault in ["huge", "plain", "silent"] {
        scene.provider.fault(fault)?;
        scene.hub.stop()?;
        scene.hub.start().await?;
        unusable(&scene, fault).await?;
        assert_eq!(sign_in(&scene.hub, "li", PASSWORD).await?.0, 201, "{fault}");
    }
    let log = std::fs::read_to_string(scene.hub.log())?;
    assert!(log.contains("more than 262144 bytes"), "{log}");
    assert!(log.contains("is not https"), "{log}");
    scene.provider.fault("")?;
    scene.hub.stop()?;
    scene.hub.start().await?;
    assert_eq!(
        scene.browser()?.sign_in(&scene.hub, "a1").await?.status,
        201
    );
    // It has other keys than the hub knows, and goes down in the middle of a sign-in.
    scene.provider.kill()?;
    scene.provider.start().await?;
    assert_eq!(
        scene.browser()?.sign_in(&scene.hub, "a1").await?.status,
        201
    );
    let mut browser = scene.browser()?;
    let callback = browser.to_callback(&scene.hub, Some("a1")).await?;
    scene.provider.kill()?;
    let seen = browser.get(&callback).await?;
    assert_eq!(
        (seen.status, seen.problem()?.as_str()),
        (503, "oidc-provider")
    );
    // It does not know the hub by this secret.
    scene.provider.forget_the_secret()?;
    scene.provider.start().await?;
    let seen = scene.browser()?.sign_in(&scene.hub, "a1").await?;
    assert_eq!(
        (seen.status, seen.problem()?.as_str()),
        (503, "oidc-provider")
    );
    let log = std::fs::read_to_string(scene.hub.log())?;
    assert!(log.contains("client_secret_file"), "{log}");
    assert!(!log.contains("the secret of the district's hub"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_there_is_no_provider_and_a_bad_one_is_named() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    for path in [
        "/api/v1/sessions/oidc",
        "/api/v1/sessions/oidc/callback?code=a&state=b",
    ] {
        let (status, problem) = hub.api_with(path, None).await?;
        assert_eq!(
            (status, problem["type"].as_str()),
            (404, Some("urn:linli:problem:oidc"))
        );
    }
    hub.stop()?;
    hub.configure("[oidc]\nissuer = \"http://id.example\"\nclient_id = \"linli\"\nclient_secret_file = \"x\"\nredirect_uri = \"https://a/b\"")?;
    let refused = hub.command()?.arg("validate").output()?;
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stderr)?;
    assert!(
        said.contains("oidc.issuer") && said.contains("https"),
        "{said}"
    );
    Ok(())
}
