//! People are told of warnings, by every kind of channel, with real peers at the other end.
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use linli_tests::harness::{
    Agent, AgentSetup, Alertmanager, DOORS_TOKEN, Hub, MailServer, Receiver, Reply, hmac, metric,
    run, signed_events, until,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use tempfile::tempdir;

const SECRET: &str = "SEC-of-the-tests-0123456789";
const KEY: &str = "key-of-the-robot-0123456789";
/// More than any test sends; nothing of it is a digest.
const FAST: &str = "rate = { messages = 1000, per = \"1s\" }";

fn event(serial: &str, kind: &str, building: &str) -> Value {
    json!({ "serial": serial, "device": "door-1", "building": building, "unit": "1单元", "type": kind,
            "time": jiff::Timestamp::now().to_string() })
}

fn fire(serial: &str, building: &str) -> Value {
    event(serial, "fire", building)
}

/// A channel's block, whose messages go to a path of a local port.
fn channel(name: &str, kind: &str, port: u16, rate: &str) -> String {
    let files = match kind {
        "webhook" => "secret_file = \"secret\"",
        "wecom" => "key_file = \"key\"",
        "dingtalk" | "feishu" => "key_file = \"key\"\nsecret_file = \"secret\"",
        _ => "",
    };
    format!(
        "[[channel]]\nname = {name:?}\nkind = {kind:?}\nurl = \"http://127.0.0.1:{port}/{name}\"\n{files}\n{rate}\n"
    )
}

/// A route, and the others that the rules name, which tell nobody.
fn route(name: &str, channels: &[&str]) -> String {
    let mut routes = format!("[[route]]\nname = {name:?}\nchannels = {channels:?}\n");
    for other in ["duty-centre", "property", "office", "mediation", "police"] {
        if other != name {
            routes.push_str(&format!("[[route]]\nname = {other:?}\n"));
        }
    }
    routes
}

/// A hub with its secrets, and these blocks in its config; it does not run yet.
fn hub(directory: &Path, more: &str) -> Result<Hub> {
    let hub = Hub::new(&directory.join("hub"))?;
    std::fs::write(directory.join("hub/secret"), SECRET)?;
    std::fs::write(directory.join("hub/key"), format!("{KEY}\n"))?;
    hub.configure(more)?;
    Ok(hub)
}

async fn agent(directory: &Path, hub: &Hub) -> Result<Agent> {
    let mut agent = Agent::joined(&directory.join("a"), hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    Ok(agent)
}

async fn push(agent: &Agent, events: &[Value]) -> Result<()> {
    let answer = agent.push(events).await?;
    ensure!(answer.status == 200, "{answer:?}");
    agent.drained().await
}

/// Waits until so many notifications are in a state; they, newest first.
async fn notifications(hub: &mut Hub, state: &str, count: usize) -> Result<Vec<Value>> {
    until(
        &format!("{count} notifications to be {state}"),
        async || {
            let (status, page) = hub
                .api(&format!("/api/v1/notifications?state={state}&limit=500"))
                .await?;
            ensure!(status == 200, "{page}");
            let items = page["items"].as_array().context("items")?.clone();
            ensure!(items.len() <= count, "{page}");
            ensure!(items.len() == count, "{} are", items.len());
            Ok(Some(items))
        },
    )
    .await
}

/// The ids of all events that a webhook has got, with repetitions.
fn ids(receiver: &Receiver, path: &str) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for received in receiver.received(path) {
        for event in signed_events(&received, SECRET)? {
            ids.push(event["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_reaches_every_kind_of_channel_with_valid_signatures() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start(&directory.path().join("alertmanager")).await?;
    let mail = MailServer::start(&directory.path().join("smtp")).await?;
    let port = receiver.port;
    let mut blocks: String = ["webhook", "wecom", "dingtalk", "feishu"]
        .map(|kind| channel(kind, kind, port, FAST))
        .concat();
    blocks.push_str(&format!(
        "[[channel]]\nname = \"mail\"\nkind = \"mail\"\nsmtp = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         from = \"hub@centre.example\"\nto = [\"值班 <duty@centre.example>\", \"second@centre.example\"]\n\
         [[channel]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n",
        mail.port, alertmanager.port
    ));
    let all = ["webhook", "wecom", "dingtalk", "feishu", "mail", "am"];
    blocks.push_str(&route("duty-centre", &all));
    let mut hub = hub(directory.path(), &blocks)?;
    hub.start().await?;
    let agent = agent(directory.path(), &hub).await?;
    push(&agent, &[fire("1", "3号楼")]).await?;
    let sent = notifications(&mut hub, "sent", all.len()).await?;
    let channels: HashSet<&str> = sent
        .iter()
        .filter_map(|item| item["channel"].as_str())
        .collect();
    assert_eq!(channels, HashSet::from(all));
    let (_, cases) = hub.api("/api/v1/cases").await?;
    let case = cases["items"][0]["code"]
        .as_str()
        .context("a case")?
        .to_owned();

    // Webhook: a CloudEvent.
    let got = receiver.received("/webhook");
    assert_eq!(got.len(), 1);
    let events = signed_events(&got[0], SECRET)?;
    assert_eq!(events[0]["specversion"], "1.0");
    assert_eq!(events[0]["id"], "warning/1/raised/webhook");
    assert_eq!(events[0]["type"], "cn.linli.warning.raised");
    let notice = &events[0]["data"];
    assert_eq!(
        (
            &notice["severity"],
            &notice["grade"],
            &notice["place"],
            &notice["case"]
        ),
        (
            &json!("life"),
            &json!("red"),
            &json!("yuyuan 3号楼"),
            &json!(case)
        )
    );

    // The robots: each its own way.
    let says = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        text.starts_with("【红色预警】火警\n")
            && text.contains("yuyuan 3号楼")
            && text.contains(&case)
    };
    let got = receiver.received("/wecom");
    assert_eq!((got.len(), got[0].query["key"].as_str()), (1, KEY));
    assert!(says(&got[0].json()?["text"]["content"]), "{}", got[0].body);
    let got = receiver.received("/dingtalk");
    assert_eq!((got.len(), got[0].query["access_token"].as_str()), (1, KEY));
    let time = &got[0].query["timestamp"];
    let sign = BASE64_STANDARD.encode(hmac(SECRET, &format!("{time}\n{SECRET}"))?);
    assert_eq!(got[0].query["sign"], sign);
    assert!(says(&got[0].json()?["text"]["content"]), "{}", got[0].body);
    let got = receiver.received(&format!("/feishu/{KEY}"));
    assert_eq!(got.len(), 1);
    let body = got[0].json()?;
    let time = body["timestamp"].as_str().context("a time")?;
    let sign = BASE64_STANDARD.encode(hmac(&format!("{time}\n{SECRET}"), "")?);
    assert_eq!(body["sign"], json!(sign));
    assert!(says(&body["content"]["text"]), "{body}");

    // Mail and Alertmanager.
    let mails = mail.mails()?;
    assert_eq!(mails.len(), 1);
    for part in [
        "Subject: 【红色预警】火警 yuyuan 3号楼 #1",
        "duty@centre.example",
        "second@centre.example",
        &case,
    ] {
        assert!(mails[0].contains(part), "{part}: {}", mails[0]);
    }
    let alerts = alertmanager.alerts().await?;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    for (label, value) in [
        ("alertname", "fire-alarm"),
        ("severity", "life"),
        ("grade", "red"),
        ("site", "yuyuan"),
        ("warning", "1"),
    ] {
        assert_eq!(alerts[0]["labels"][label], value, "{label}");
    }

    // The key is nobody's business but the robot's.
    let log = std::fs::read_to_string(hub.log())?;
    assert!(!log.contains(KEY) && !log.contains(SECRET));
    let text = hub.metrics().await?;
    for name in all {
        let counted = metric(
            &text,
            &format!("linli_hub_notifications_total{{channel=\"{name}\",outcome=\"sent\"}}"),
        );
        assert_eq!(counted, Some(1.0), "{name}");
    }

    // 补报 of a danger to life tells the desk too, and says what it is.
    let mut old = fire("2", "9号楼");
    old["time"] = json!((jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2)).to_string());
    old["replayed"] = json!(true);
    push(&agent, &[old]).await?;
    let (_, warnings) = hub.api("/api/v1/warnings").await?;
    assert_eq!(
        (&warnings["items"][0]["id"], &warnings["items"][0]["late"]),
        (&json!(2), &json!(true))
    );
    let (_, page) = hub.api("/api/v1/notifications?limit=500").await?;
    assert_eq!(
        page["items"].as_array().map(Vec::len),
        Some(2 * all.len()),
        "{page}"
    );

    // And by hand.
    for name in all {
        let said = run(hub.command()?.args(["notifications", "test", name]))?;
        assert!(said.contains(&format!("sent: {name}")), "{said}");
        // Also where the peer says nothing beside its status.
        let answered = said.contains("answered: 20") || said.contains("answered: 250");
        assert!(answered, "{said}");
    }
    let said = run(hub.command()?.args(["notifications", "test", "wecom"]))?;
    assert!(said.contains("\"errcode\":0"), "{said}");
    receiver.reply(
        "/wecom",
        Reply::Now(
            200,
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#.to_owned(),
        ),
    );
    let refused = hub
        .command()?
        .args(["notifications", "test", "wecom"])
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("invalid webhook url"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_down_gets_it_once_after_it_is_back_and_holds_up_no_other() -> Result<()>
{
    let directory = tempdir()?;
    let up = Receiver::start().await?;
    let down_port = linli_tests::harness::free_tcp_port()?;
    let blocks = channel("down", "webhook", down_port, FAST)
        + &channel("up", "webhook", up.port, FAST)
        + &route("duty-centre", &["down", "up"]);
    let mut hub = hub(directory.path(), &blocks)?;
    hub.start().await?;
    let agent = agent(directory.path(), &hub).await?;
    push(&agent, &[fire("1", "3号楼")]).await?;
    until("tries to fail", async || {
        let failed = metric(
            &hub.metrics().await?,
            "linli_hub_notify_failures_total{channel=\"down\"}",
        );
        Ok((failed >= Some(2.0)).then_some(()))
    })
    .await?;
    assert_eq!(ids(&up, "/up")?, ["warning/1/raised/up"]);
    let waiting = notifications(&mut hub, "waiting", 1).await?;
    assert_eq!(waiting[0]["channel"], "down");
    let text = hub.metrics().await?;
    assert_eq!(
        metric(&text, "linli_hub_outbox_waiting{channel=\"down\"}"),
        Some(1.0)
    );

    // It comes back, and says first that it is busy.
    let back = Receiver::on(down_port).await?;
    back.reply("/down", Reply::Now(503, "busy".to_owned()));
    until("a busy answer", async || {
        Ok((!back.received("/down").is_empty()).then_some(()))
    })
    .await?;
    back.reply("/down", Reply::Now(204, String::new()));
    let before = back.received("/down").len();
    let sent = notifications(&mut hub, "sent", 2).await?;
    let found = sent
        .iter()
        .find(|item| item["channel"] == "down")
        .context("sent")?;
    assert!(found["attempts"].as_i64() >= Some(4), "{found}");
    let after = back.received("/down").len() - before;
    // Another warning comes, and the first does not come again with it.
    push(&agent, &[fire("2", "5号楼")]).await?;
    notifications(&mut hub, "sent", 4).await?;
    let got = ids(&back, "/down")?;
    assert_eq!(
        got[before..]
            .iter()
            .filter(|id| *id == "warning/1/raised/down")
            .count(),
        after
    );
    assert!(after <= 1, "sent {after} times after it said yes");
    assert_eq!(
        got.last().map(String::as_str),
        Some("warning/2/raised/down")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_between_decision_and_answer_tells_after_its_start_under_the_same_id()
-> Result<()> {
    let directory = tempdir()?;
    let port = linli_tests::harness::free_tcp_port()?;
    let blocks = channel("hook", "webhook", port, FAST) + &route("duty-centre", &["hook"]);
    let mut hub = hub(directory.path(), &blocks)?;
    hub.start().await?;
    let agent = agent(directory.path(), &hub).await?;

    // Decided, and nobody is there to be told.
    push(&agent, &[fire("1", "3号楼")]).await?;
    notifications(&mut hub, "waiting", 1).await?;
    hub.kill()?;
    let receiver = Receiver::on(port).await?;
    hub.start().await?;
    notifications(&mut hub, "sent", 1).await?;
    assert_eq!(ids(&receiver, "/hook")?, ["warning/1/raised/hook"]);

    // Told, and killed before the answer.
    receiver.reply("/hook", Reply::Never);
    push(&agent, &[fire("2", "5号楼")]).await?;
    until("the second to arrive", async || {
        Ok((ids(&receiver, "/hook")?.len() == 2).then_some(()))
    })
    .await?;
    hub.kill()?;
    receiver.reply("/hook", Reply::Now(200, String::new()));
    hub.start().await?;
    notifications(&mut hub, "sent", 2).await?;
    let got = ids(&receiver, "/hook")?;
    assert_eq!(
        got,
        [
            "warning/1/raised/hook",
            "warning/2/raised/hook",
            "warning/2/raised/hook"
        ],
        "the receiver knows the repetition by its id"
    );
    // What is sent stays sent over another start.
    hub.kill()?;
    hub.start().await?;
    push(&agent, &[fire("3", "7号楼")]).await?;
    notifications(&mut hub, "sent", 3).await?;
    assert_eq!(ids(&receiver, "/hook")?[3..], ["warning/3/raised/hook"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_becomes_one_digest_and_lives_go_before_all_others() -> Result<()> {
    let directory = tempdir()?;
    let port = linli_tests::harness::free_tcp_port()?;
    // The rate of a robot: half of 20 a minute at once.
    let blocks = channel("wecom", "wecom", port, "")
        + &channel(
            "hook",
            "webhook",
            port,
            "rate = { messages = 20, per = \"1m\" }",
        )
        + &route("duty-centre", &["wecom", "hook"]).replace(
            "name = \"office\"",
            "name = \"office\"\nchannels = [\"wecom\"]",
        );
    let mut hub = hub(directory.path(), &blocks)?;
    hub.start().await?;
    let agent = agent(directory.path(), &hub).await?;
    // The lesser one first; then twelve fires, while nobody answers.
    push(
        &agent,
        &[
            event("f1", "fallen", "1号楼"),
            event("f2", "fallen", "1号楼"),
        ],
    )
    .await?;
    let fires: Vec<Value> = (1..=12)
        .map(|n| fire(&format!("{n}"), &format!("{n}号楼")))
        .collect();
    push(&agent, &fires).await?;
    notifications(&mut hub, "waiting", 25).await?;
    let receiver = Receiver::on(port).await?;
    notifications(&mut hub, "sent", 25).await?;
    let texts: Vec<String> = receiver
        .received("/wecom")
        .iter()
        .map(|got| {
            Ok(got.json()?["text"]["content"]
                .as_str()
                .context("a text")?
                .to_owned())
        })
        .collect::<Result<_>>()?;
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].starts_with("【预警汇总】12 条预警：红 12\n"),
        "{}",
        texts[0]
    );
    for n in 1..=12 {
        assert!(
            texts[0].contains(&format!("yuyuan {n}号楼 ")),
            "{n}: {}",
            texts[0]
        );
    }
    assert!(texts[0].len() <= 2048);
    assert!(
        texts[1].starts_with("【橙色预警】同楼高空抛物重复\n"),
        "{}",
        texts[1]
    );
    // A webhook's digest is a batch, in which each keeps its own id.
    assert_eq!(receiver.received("/hook").len(), 1);
    let ids = ids(&receiver, "/hook")?;
    assert_eq!(
        (ids.len(), ids.iter().collect::<HashSet<_>>().len()),
        (12, 12)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refuses_is_a_dead_letter_that_can_be_seen_and_sent_again() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let blocks = channel("wecom", "wecom", receiver.port, FAST)
        + &channel("hook", "webhook", receiver.port, FAST)
        + &route("duty-centre", &["wecom", "hook"]);
    let mut hub = hub(directory.path(), &blocks)?;
    // A robot says no with status 200.
    receiver.reply(
        "/wecom",
        Reply::Now(
            200,
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#.to_owned(),
        ),
    );
    receiver.reply("/hook", Reply::Now(403, "who are you?".to_owned()));
    hub.start().await?;
    let agent = agent(directory.path(), &hub).await?;
    push(&agent, &[fire("1", "3号楼")]).await?;
    let dead = notifications(&mut hub, "dead", 2).await?;
    for (channel, says) in [("wecom", "invalid webhook url"), ("hook", "403")] {
        let found = dead
            .iter()
            .find(|item| item["channel"] == channel)
            .context(channel)?;
        let error = found["error"].as_str().unwrap_or_default();
        assert!(error.contains(says) && found["attempts"] == 1, "{found}");
        assert_eq!(
            receiver.received(&format!("/{channel}")).len(),
            1,
            "it was asked once"
        );
    }
    until("the figures to say so", async || {
        let text = hub.metrics().await?;
        let dead = |name: &str| {
            metric(
                &text,
                &format!("linli_hub_outbox_dead{{channel=\"{name}\"}}"),
            )
        };
        Ok((dead("wecom") == Some(1.0) && dead("hook") == Some(1.0)).then_some(()))
    })
    .await?;
    let listed = run(hub
        .command()?
        .args(["notifications", "list", "--state", "dead"]))?;
    assert!(
        listed.contains("invalid webhook url") && listed.contains("warning/1/raised"),
        "{listed}"
    );

    // By the API.
    receiver.reply("/wecom", Reply::Now(200, r#"{"errcode":0}"#.to_owned()));
    receiver.reply("/hook", Reply::Now(200, String::new()));
    let of = |channel: &str| {
        let found = dead.iter().find(|item| item["channel"] == channel);
        found.and_then(|item| item["id"].as_i64()).context("an id")
    };
    let path = |id: i64| format!("/api/v1/notifications/{id}/resend");
    let (status, waiting) = hub.api_post(&path(of("wecom")?)).await?;
    assert_eq!(
        (status, &waiting["decision"]),
        (202, &json!("warning/1/raised"))
    );
    notifications(&mut hub, "sent", 1).await?;
    assert_eq!(receiver.received("/wecom").len(), 2);
    assert_eq!(hub.api_post(&path(of("wecom")?)).await?.0, 409);
    assert_eq!(hub.api_post(&path(4711)).await?.0, 404);
    let (status, problem) = hub.api("/api/v1/notifications?state=lost").await?;
    assert_eq!(status, 400, "{problem}");
    let (_, page) = hub
        .api("/api/v1/notifications?channel=hook&limit=1")
        .await?;
    assert_eq!(
        (&page["items"][0]["channel"], &page["next"]),
        (&json!("hook"), &Value::Null)
    );
    let (_, document) = hub.api("/api/v1/openapi.json").await?;
    assert!(document["paths"]["/api/v1/notifications"]["get"].is_object());
    assert!(document["paths"]["/api/v1/notifications/{id}/resend"]["post"].is_object());

    // By the command line, whether the hub runs or not.
    hub.stop()?;
    let said = run(hub
        .command()?
        .args(["notifications", "resend", "--all-dead"]))?;
    assert!(said.contains(": 1"), "{said}");
    let unknown = hub
        .command()?
        .args(["notifications", "resend", "4711"])
        .output()?;
    assert_eq!(unknown.status.code(), Some(65));
    hub.start().await?;
    notifications(&mut hub, "sent", 2).await?;
    assert_eq!(ids(&receiver, "/hook")?, ["warning/1/raised/hook"; 2]);

    // A channel that is taken out of the config leaves nothing that waits in silence.
    receiver.reply("/hook", Reply::Now(503, String::new()));
    push(&agent, &[fire("2", "5号楼")]).await?;
    notifications(&mut hub, "waiting", 1).await?;
    hub.stop()?;
    let config = std::fs::read_to_string(hub.config())?;
    let without = config
        .replace(&channel("hook", "webhook", receiver.port, FAST), "")
        .replace("\"wecom\", \"hook\"", "\"wecom\"");
    assert!(!without.contains("\"hook\""), "{without}");
    std::fs::write(hub.config(), without)?;
    hub.start().await?;
    let dead = notifications(&mut hub, "dead", 1).await?;
    assert!(
        dead[0]["error"]
            .as_str()
            .unwrap_or_default()
            .contains("not in the config"),
        "{dead:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_numbers_of_people_never_leave_in_a_message() -> Result<()> {
    const NAME: &str = "王小明";
    const PHONE: &str = "13900139000";
    const ID_NUMBER: &str = "11010519491231002X";
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start(&directory.path().join("alertmanager")).await?;
    let mail = MailServer::start(&directory.path().join("smtp")).await?;
    let port = receiver.port;
    let mut blocks: String = ["webhook", "wecom", "dingtalk", "feishu"]
        .map(|kind| channel(kind, kind, port, FAST))
        .concat();
    blocks.push_str(&format!(
        "[[channel]]\nname = \"mail\"\nkind = \"mail\"\nsmtp = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         from = \"hub@centre.example\"\nto = [\"duty@centre.example\"]\n\
         [[channel]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n",
        mail.port, alertmanager.port
    ));
    let all = ["webhook", "wecom", "dingtalk", "feishu", "mail", "am"];
    blocks.push_str(&route("duty-centre", &all));
    let mut hub = hub(directory.path(), &blocks)?;
    // A rule that has what people said in its key, by a name that nobody has thought of; and a source
    // that writes a number where the address should stand.
    std::fs::write(
        directory.path().join("hub/rules/visitors.toml"),
        "schema = 1\n[[rule]]\nid = \"visitor-fire\"\nname = \"访客报火警\"\nkind = \"match\"\n\
         key = [\"site\", \"address\", \"attributes.visitor\", \"attributes.mobile\"]\non = [{ type = \"fire.alarm\" }]\nseverity = \"life\"\n\
         then = { case = \"public-safety\", route = \"duty-centre\" }\n",
    )?;
    hub.start().await?;
    let mut agent = Agent::new(&AgentSetup {
        directory: &directory.path().join("a"),
        name: "gw-1",
        site: "yuyuan",
        hub_address: format!("127.0.0.1:{}", hub.port),
        listen: "127.0.0.1",
        more: "[[source]]\nname = \"calls\"\nmapping = \"mappings/calls.toml\"\ntoken_file = \"secrets/doors.token\"\n",
    })?;
    std::fs::write(
        directory.path().join("a/mappings/calls.toml"),
        "schema = 1\nid = \"/id\"\nkind = \"/kind\"\nseverity = \"/severity\"\naddress = \"/address\"\nbuilding = \"/building\"\nkeep_raw = true\n\
         [occurred_at]\npointer = \"/time\"\nformats = [\"rfc3339\"]\n\
         [attributes.visitor]\npointer = \"/visitor\"\npurpose = \"回访\"\n\
         [attributes.mobile]\npointer = \"/mobile\"\npurpose = \"回访\"\n\
         [attributes.id_card]\npointer = \"/id_card\"\npurpose = \"回访\"\n",
    )?;
    agent.join(&hub, &format!("127.0.0.1:{}", hub.port), "yuyuan")?;
    agent.start().await?;
    let call = json!({
        "id": "1", "kind": "fire.alarm", "severity": "life", "building": "3号楼",
        "address": format!("和平路12号 {PHONE}"), "visitor": NAME, "mobile": PHONE, "id_card": ID_NUMBER,
        "time": jiff::Timestamp::now().to_string(),
    });
    let answer = agent
        .push_raw("calls", DOORS_TOKEN, serde_json::to_vec(&call)?)
        .await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Two rules fire: one with the building as its key, one with all that is personal.
    let sent = notifications(&mut hub, "sent", 2 * all.len()).await?;

    // The hub knows it all: what is not found below was kept back.
    let (_, events) = hub.api("/api/v1/events").await?;
    let (_, warnings) = hub.api("/api/v1/warnings").await?;
    let known = format!("{events}{warnings}");
    for secret in [NAME, PHONE] {
        assert!(known.contains(secret), "{secret}");
        assert!(
            warnings.to_string().contains(secret),
            "the key has {secret}"
        );
    }
    assert!(known.contains(ID_NUMBER));

    let mut told: Vec<String> = Vec::new();
    for received in receiver.all() {
        told.push(format!(
            "{} {:?} {:?} {}",
            received.path, received.query, received.headers, received.body
        ));
    }
    told.extend(mail.mails()?);
    let alerts = alertmanager.alerts().await?;
    assert_eq!(alerts.len(), 2, "{alerts:?}");
    told.extend(alerts.iter().map(Value::to_string));
    assert!(told.len() >= 8, "{told:#?}");
    for text in &told {
        for secret in [NAME, "小明", PHONE, ID_NUMBER] {
            assert!(!text.contains(secret), "{secret} has left: {text}");
        }
    }
    // They say where, all the same.
    let all_told = told.join("\n");
    assert!(
        all_told.contains("yuyuan 3号楼") && all_told.contains("和平路12号 …"),
        "{all_told}"
    );
    // Nor does it stand in what waits to be sent.
    for item in sent {
        let text = item.to_string();
        assert!(!text.contains(NAME) && !text.contains(PHONE), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_cannot_be_set_up_is_named_before_the_hub_starts() -> Result<()> {
    let directory = tempdir()?;
    let blocks = channel("hook", "webhook", 9, FAST) + &route("duty-centre", &["hook"]);
    let hub = hub(directory.path(), &blocks)?;
    let said = run(hub.command()?.arg("validate"))?;
    assert!(said.contains("hook"), "{said}");
    std::fs::remove_file(directory.path().join("hub/secret"))?;
    for command in ["validate", "serve"] {
        let output = hub.command()?.arg(command).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("\"hook\"")
                && said.contains("secret_file")
                && said.contains("hub/secret"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_past_a_wrong_certificate_a_redirect_or_a_missing_starttls() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let mail = MailServer::start(&directory.path().join("smtp")).await?;
    let mut hub = hub(directory.path(), "")?;
    // The hub's own API is a server whose root no system knows.
    let api = format!(
        "https://localhost:{}/api/v1/notifications/1/resend",
        hub.api_port
    );
    let tls = |name: &str, ca_file: &str| {
        format!(
            "[[channel]]\nname = {name:?}\nkind = \"webhook\"\nurl = {api:?}\nsecret_file = \"secret\"\n{ca_file}\n"
        )
    };
    let smtp = |name: &str, tls: &str| {
        format!(
            "[[channel]]\nname = {name:?}\nkind = \"mail\"\nsmtp = \"127.0.0.1\"\nport = {}\ntls = {tls:?}\n\
             from = \"hub@centre.example\"\nto = [\"duty@centre.example\"]\n",
            mail.port
        )
    };
    hub.configure(
        &[
            tls("stranger", ""),
            tls("known", &format!("ca_file = {:?}", hub.root())),
            channel("moved", "webhook", receiver.port, FAST),
            smtp("required", "required"),
            smtp("plain", "none"),
        ]
        .concat(),
    )?;
    hub.start().await?;
    receiver.reply("/moved", Reply::Now(307, String::new()));
    for (name, says) in [
        ("stranger", "certificate"),
        // It got through, and was asked for a token that it does not have.
        ("known", "401"),
        ("moved", "redirects are not followed"),
        ("required", "STARTTLS"),
    ] {
        let output = hub
            .command()?
            .args(["notifications", "test", name])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
    }
    assert_eq!(
        mail.mails()?.len(),
        0,
        "in plaintext, though TLS is required"
    );
    run(hub.command()?.args(["notifications", "test", "plain"]))?;
    assert_eq!(mail.mails()?.len(), 1);
    Ok(())
}
