//! What a centre does around its cases: who gets them, who hears of them, who sees what, and what stays right when
//! the config changes.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Agent, Centre, DOORS_TOKEN, Hub, Receiver, load_district, quarrel, run, signed_events, until,
    user, words,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::ops::Range;
use tempfile::tempdir;

const SECRET: &str = "secret-of-the-webhook-0123456789";

fn violence() -> Value {
    json!({ "kind": "01-dv", "title": "求助", "place": "yuyuan-b3" })
}

fn code_of(case: &Value) -> Result<String> {
    Ok(case["code"].as_str().context("a code")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_dispatches_to_who_has_least_to_do_and_proposes_where_it_is_not_automatic()
-> Result<()> {
    let rules = "[[rule]]\nkinds = [\"02\"]\nwithin = [\"yuyuan\"]\nto = [\"room-4\", \"room-3\"]\nautomatic = true\n\
                 [[rule]]\nkinds = [\"13\", \"01-dv\"]\nto = [\"station\"]\nautomatic = false\n";
    let centre = Centre::with_files(
        "[cases]\ndispatch = \"dispatch.toml\"\nnamed_handlers = [\"dispatch\"]\n",
        &[("dispatch.toml", rules)],
    )
    .await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let mut leads = Vec::new();
    for _ in 0..4 {
        let case = centre.register(&dispatcher, quarrel()).await?;
        assert_eq!(words(&case), ["registered", "accept", "dispatch"]);
        assert_eq!(case["actions"][2]["actor"], "hub");
        leads.push(case["lead"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(leads, ["room-4", "room-3", "room-4", "room-3"]);
    // Other kinds are proposed, by their rule, or to the office of the place.
    let of = |kind: &str| {
        let mut new = quarrel();
        new["kind"] = json!(kind);
        new
    };
    let station = centre.register(&dispatcher, of("13")).await?;
    let office = centre.register(&dispatcher, of("03")).await?;
    let named = centre.register(&dispatcher, violence()).await?;
    assert_eq!(
        (&station["state"], &station["proposed_lead"]),
        (&json!("registered"), &json!("station-2"))
    );
    assert_eq!(office["proposed_lead"], "office-1");
    assert_eq!(
        (&named["state"], &named["proposed_lead"]),
        (&json!("registered"), &json!("station-2"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_dispatch_rule_is_named_before_the_hub_starts() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::new(&directory.path().join("hub"))?;
    hub.configure("[cases]\ndispatch = \"dispatch.toml\"\n")?;
    let path = directory.path().join("hub/dispatch.toml");
    std::fs::write(&path, "[[rule]]\nkinds = [\"77\"]\nto = [\"office\"]\n")?;
    let done = hub.command()?.arg("validate").output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success());
    assert!(
        said.contains("dispatch.toml") && said.contains("rule[0].kinds") && said.contains("77"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_case_is_told_by_signed_webhooks_once_and_without_what_people_wrote()
-> Result<()> {
    let receiver = Receiver::start().await?;
    let channel = |name: &str| {
        format!(
            "[[channel]]\nname = {name:?}\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/{name}\"\nsecret_file = \"secret\"\n\
             rate = {{ messages = 1000, per = \"1s\" }}\n[[route]]\nname = {name:?}\nchannels = [{name:?}]\n",
            receiver.port
        )
    };
    let more = format!(
        "[cases]\nnamed_handlers = [\"dispatch\"]\n{}{}{}\
         [[case_notice]]\nroute = \"all\"\nwhat = [\"opened\", \"moved\"]\n\
         [[case_notice]]\nroute = \"all\"\nwhat = [\"moved\"]\n\
         [[case_notice]]\nroute = \"elsewhere\"\nwhat = [\"opened\", \"moved\"]\norgs = [\"office-2\"]\n\
         [[case_notice]]\nroute = \"named\"\nwhat = [\"opened\"]\nnamed_only = true\n",
        channel("all"),
        channel("elsewhere"),
        channel("named"),
    ) + &["duty-centre", "property", "office", "mediation", "police"]
        .map(|route| format!("[[route]]\nname = {route:?}\n"))
        .concat();
    let mut centre = Centre::with_files(&more, &[("secret", SECRET)]).await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let handler = centre.user("room3", "handler", "room-3").await?;
    let code = code_of(&centre.register(&dispatcher, quarrel()).await?)?;
    let violent = code_of(&centre.register(&dispatcher, violence()).await?)?;
    for (token, wanted) in [
        (&dispatcher, json!({ "move": "accept" })),
        (
            &dispatcher,
            json!({ "move": "dispatch", "organisation": "room-3" }),
        ),
        (&handler, json!({ "move": "sign" })),
        (
            &handler,
            json!({ "move": "note", "text": "王小明称已联系物业" }),
        ),
    ] {
        centre.made(token, &code, wanted).await?;
    }
    let got = async |path: &str, count: usize| {
        until(&format!("{count} events at {path}"), async || {
            let mut events = Vec::new();
            for received in receiver.received(path) {
                events.extend(signed_events(&received, SECRET)?);
            }
            ensure!(events.len() <= count, "{events:?}");
            Ok((events.len() == count).then_some(events))
        })
        .await
    };
    let events = got("/all", 4).await?;
    let told: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|event| {
            let word = |value: &'static str| event[value].as_str().unwrap_or_default();
            let state = event["data"]["news"]["state"].as_str().unwrap_or_default();
            (word("id"), word("type"), state)
        })
        .collect();
    let id = |number: u32| format!("case/{code}/{number}/all");
    let ids: Vec<String> = (1..5).map(id).collect();
    assert_eq!(
        told,
        [
            (ids[0].as_str(), "cn.linli.case.opened", "registered"),
            (ids[1].as_str(), "cn.linli.case.moved", "accepted"),
            (ids[2].as_str(), "cn.linli.case.moved", "dispatched"),
            (ids[3].as_str(), "cn.linli.case.moved", "handling"),
        ]
    );
    let last = &events[3]["data"];
    assert_eq!(
        (
            &last["case"],
            &last["news"]["organisation"],
            &last["rule_name"]
        ),
        (&json!(code), &json!("room-3"), &json!("邻里纠纷"))
    );
    assert!(last["news"]["due_ms"].is_i64(), "{last}");
    let named = got("/named", 1).await?;
    assert_eq!(named[0]["subject"], format!("case/{violent}"));
    assert_eq!(
        (
            &named[0]["data"]["rule"],
            &named[0]["data"]["place"],
            &named[0]["data"]["site"]
        ),
        (&json!("named-only"), &json!(""), &json!(""))
    );
    let all: String = receiver.all().iter().map(|got| got.body.clone()).collect();
    for secret in ["王小明", "楼上漏水", "13800138000", "3号楼301", "01-dv"] {
        assert!(!all.contains(secret), "{secret} goes out: {all}");
    }
    assert!(receiver.received("/elsewhere").is_empty());
    // They stand in the list of notifications, for the centre.
    let (status, page) = centre.hub.api("/api/v1/notifications?channel=all").await?;
    assert_eq!(
        (status, page["items"].as_array().map(Vec::len)),
        (200, Some(4))
    );
    assert_eq!(centre.get("/api/v1/notifications", &handler).await?.0, 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_of_the_centre_watches_own_sites_and_a_station_its_own_agent() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    load_district(&hub)?;
    hub.start().await?;
    let mut agents = Vec::new();
    for (name, site) in [("gw-1", "yuyuan"), ("gw-2", "jingan")] {
        let mut agent = Agent::joined(&directory.path().join(name), &hub, name, site)?;
        agent.start().await?;
        let fire = json!({ "serial": name, "device": "d", "building": "3号楼", "type": "fire",
                           "time": jiff::Timestamp::now().to_string() });
        let answer = agent.push(&[fire]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        agent.drained().await?;
        agents.push(agent);
    }
    let all = user(&hub, "all", "operator", "centre").await?;
    let own = user(&hub, "own", "operator", "office-1").await?;
    let room = user(&hub, "room", "handler", "room-3").await?;
    let sites = async |path: &str, token: &str| -> Result<Vec<String>> {
        let (status, page) = hub.api_with(path, Some(token)).await?;
        ensure!(status == 200, "{path}: {page}");
        let items = page["items"].as_array().context("items")?;
        let mut sites: Vec<String> = items
            .iter()
            .filter_map(|item| item["site"].as_str().map(str::to_owned))
            .collect();
        sites.sort();
        sites.dedup();
        Ok(sites)
    };
    let both = ["jingan", "yuyuan"];
    until("both fires to be raised", async || {
        Ok((sites("/api/v1/warnings", &all).await? == both).then_some(()))
    })
    .await?;
    for path in ["/api/v1/events", "/api/v1/warnings", "/api/v1/agents"] {
        assert_eq!(sites(path, &all).await?, both, "{path}");
        assert_eq!(sites(path, &own).await?, ["yuyuan"], "{path}");
        assert!(sites(path, &room).await?.is_empty(), "{path}");
    }
    // One warning: that of another is not there, and cannot be acknowledged.
    let (_, page) = hub.api_with("/api/v1/warnings", Some(&all)).await?;
    let items = page["items"].as_array().context("items")?;
    let of = |site: &str| {
        let found = items.iter().find(|item| item["site"] == site);
        found
            .and_then(|item| item["id"].as_i64())
            .context("a warning")
    };
    let (here, there) = (of("yuyuan")?, of("jingan")?);
    let acknowledge = async |id: i64| {
        let path = format!("/api/v1/warnings/{id}/acknowledge");
        let body = json!({ "by": "own" });
        let asked = hub.ask(Method::POST, &path, Some(&own), Some(&body)).await;
        asked.map(|(status, _)| status)
    };
    let (status, _) = hub
        .api_with(&format!("/api/v1/warnings/{there}"), Some(&own))
        .await?;
    assert_eq!(status, 404);
    assert_eq!(
        (acknowledge(there).await?, acknowledge(here).await?),
        (404, 200)
    );
    // Mutes of an own site alone; what concerns all is for the centre.
    let until_time = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let mute = async |site: &str| {
        let body = json!({ "site": site, "reason": "检修", "owner": "own", "until": until_time });
        let asked = hub
            .ask(Method::POST, "/api/v1/mutes", Some(&own), Some(&body))
            .await;
        asked.map(|(status, _)| status)
    };
    assert_eq!((mute("jingan").await?, mute("yuyuan").await?), (403, 201));
    for (method, path) in [
        (Method::POST, "/api/v1/rules/reload"),
        (Method::GET, "/api/v1/notifications"),
        (Method::POST, "/api/v1/notifications/1/resend"),
    ] {
        let (status, _) = hub.ask(method, path, Some(&own), None).await?;
        assert_eq!(status, 403, "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_wrote_is_read_with_an_entry_and_without_numbers_but_for_a_reason() -> Result<()>
{
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let auditor = centre.user("audit", "auditor", "centre").await?;
    let operator = centre.user("watch", "operator", "centre").await?;
    let code = code_of(&centre.register(&dispatcher, quarrel()).await?)?;
    let path = format!("/api/v1/cases/{code}");
    let note = json!({ "move": "note", "text": "来电 138-0013-8000，身份证 11010519491231002X" });
    centre.made(&dispatcher, &code, note).await?;
    for _ in 0..3 {
        let (_, case) = centre.get(&path, &dispatcher).await?;
        assert_eq!(case["actions"][1]["note"], "来电 …，身份证 …");
        let (_, case) = centre.get(&path, &operator).await?;
        assert_eq!(case["actions"][1]["note"], "");
    }
    let asked = json!({ "reason": "电话回访" });
    let unmask = format!("{path}/unmask");
    let (status, shown) = centre
        .ask(Method::POST, &unmask, &dispatcher, &asked)
        .await?;
    assert_eq!(status, 200);
    assert_eq!(shown["parties"][0]["phone"], "13800138000");
    let note = shown["actions"][1]["note"].as_str().unwrap_or_default();
    assert!(note.contains("138-0013-8000"), "{shown}");
    let (_, log) = centre.get("/api/v1/audit?limit=500", &auditor).await?;
    let reads: Vec<&Value> = log["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter(|entry| entry["object"] == format!("case/{code}"))
        .collect();
    let deeds: Vec<(&str, &str)> = reads
        .iter()
        .map(|entry| {
            let word = |key: &str| entry[key].as_str().unwrap_or_default();
            (word("actor"), word("action"))
        })
        .collect();
    // Once for all looks of an hour; who reads no texts is not noted.
    assert_eq!(
        deeds
            .iter()
            .filter(|deed| **deed == ("dispatch", "case.read"))
            .count(),
        1,
        "{deeds:?}"
    );
    assert!(deeds.contains(&("dispatch", "case.unmask")), "{deeds:?}");
    assert!(
        deeds.iter().all(|(actor, _)| *actor == "dispatch"),
        "{deeds:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_for_named_handlers_always_gets_one_and_the_last_is_kept() -> Result<()> {
    let mut centre = Centre::new("").await?;
    let wang = centre.user("wang", "dispatcher", "centre").await?;
    let li = centre.user("li", "dispatcher", "centre").await?;
    // Nobody is named by the config: who registers it is told its code, and that it is not theirs to see.
    let (status, told) = centre
        .ask(Method::POST, "/api/v1/cases", &wang, &violence())
        .await?;
    assert_eq!(status, 202, "{told}");
    let code = code_of(&told)?;
    let path = format!("/api/v1/cases/{code}");
    assert_eq!(centre.get(&path, &wang).await?.0, 404);
    centre.hub.stop()?;
    centre
        .hub
        .configure("[cases]\nnamed_handlers = [\"wang\"]\n")?;
    centre.hub.start().await?;
    let (status, case) = centre.get(&path, &wang).await?;
    assert_eq!(status, 200);
    assert_eq!(words(&case), ["registered", "name_handler"]);
    assert_eq!(centre.get(&path, &li).await?.0, 404);
    let unname =
        |person: &str| json!({ "move": "unname_handler", "person": person, "reason": "调岗" });
    let (status, problem) = centre.make(&wang, &code, unname("wang")).await?;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("case-last-handler")),
        "{problem}"
    );
    let name = json!({ "move": "name_handler", "person": "li" });
    centre.made(&wang, &code, name).await?;
    centre.made(&wang, &code, unname("wang")).await?;
    assert_eq!(
        (
            centre.get(&path, &wang).await?.0,
            centre.get(&path, &li).await?.0
        ),
        (404, 200)
    );
    Ok(())
}

/// Brings cases of a compound in as rows; each kind is by its number.
async fn import(
    centre: &Centre,
    token: &str,
    numbers: Range<usize>,
    kind: impl Fn(usize) -> &'static str,
) -> Result<()> {
    let row = |number| {
        let external = format!("c-{number}");
        let row = json!({ "kind": kind(number), "title": "漏水", "place": "yuyuan", "external": external });
        row.to_string() + "\n"
    };
    let answer = centre
        .hub
        .client()?
        .post(centre.hub.url("/api/v1/imports/cases"))
        .bearer_auth(token)
        .header("content-type", "application/jsonl")
        .body(numbers.clone().map(row).collect::<String>())
        .send()
        .await?;
    let done: Value = answer.json().await?;
    ensure!(done["taken"] == numbers.len(), "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_an_organisation_are_those_of_the_centre_also_where_few_are_wanted()
-> Result<()> {
    let centre = Centre::new("").await?;
    let all = centre.user("all", "dispatcher", "centre").await?;
    let own = centre.user("own", "dispatcher", "office-1").await?;
    let other = centre.user("other", "dispatcher", "office-2").await?;
    // More than an organisation's part of one look.
    const CASES: usize = 1_300;
    let kind = |number| if number % 100 == 7 { "02" } else { "13" };
    for numbers in [0..1_000, 1_000..CASES] {
        import(&centre, &all, numbers, kind).await?;
    }
    let pages = async |token: &str, filter: &str| -> Result<Vec<String>> {
        let (mut codes, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = centre
                .get(&format!("/api/v1/cases?{filter}{cursor}"), token)
                .await?;
            ensure!(status == 200, "{page}");
            for case in page["items"].as_array().context("items")? {
                codes.push(code_of(case)?);
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(codes),
            }
        }
    };
    for (filter, count) in [
        ("limit=500", CASES),
        ("limit=499", CASES),
        ("limit=5&kind=02", 13),
        ("limit=50&kind=02", 13),
        ("limit=500&kind=13&state=registered", CASES - 13),
        ("limit=50&kind=02&state=handling", 0),
        ("limit=50&kind=99", 0),
    ] {
        let of_all = pages(&all, filter).await?;
        assert_eq!(of_all.len(), count, "{filter}");
        assert_eq!(pages(&own, filter).await?, of_all, "{filter}");
        assert!(pages(&other, filter).await?.is_empty(), "{filter}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_go_with_their_place_to_another_office_also_where_a_kill_cuts_it_off() -> Result<()> {
    let mut centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let before = centre.user("before", "dispatcher", "office-1").await?;
    let after = centre.user("after", "dispatcher", "office-2").await?;
    let admin = centre.user("boss", "admin", "centre").await?;
    // Each second a hundred are looked at again: enough for a kill in between.
    const CASES: usize = 400;
    import(&centre, &dispatcher, 0..CASES, |_| "02").await?;
    let count = async |centre: &Centre, token: &str| -> Result<usize> {
        let (status, page) = centre.get("/api/v1/cases?limit=500", token).await?;
        ensure!(status == 200, "{page}");
        Ok(page["items"].as_array().context("items")?.len())
    };
    assert_eq!(
        (
            count(&centre, &before).await?,
            count(&centre, &after).await?
        ),
        (CASES, 0)
    );
    let (_, places) = centre.get("/api/v1/places", &admin).await?;
    let places = places["items"].as_array().context("places")?;
    let place = places.iter().find(|place| place["id"] == "yuyuan");
    let mut place = place.context("the compound")?.clone();
    place["office"] = json!("office-2");
    place["grid"] = json!("grid-3");
    let (status, answer) = centre
        .ask(Method::PUT, "/api/v1/places/yuyuan", &admin, &place)
        .await?;
    ensure!(status == 200, "{status} {answer}");
    until("some to have gone", async || {
        let gone = count(&centre, &after).await?;
        ensure!(gone < CASES, "all have: the kill comes too late");
        Ok((gone > 0).then_some(()))
    })
    .await?;
    centre.hub.kill()?;
    centre.hub.start().await?;
    until("all to have gone", async || {
        let gone = count(&centre, &after).await?;
        ensure!(gone == CASES, "{gone} have");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(count(&centre, &before).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_named_handlers_only_is_in_no_list_of_others() -> Result<()> {
    let receiver = Receiver::start().await?;
    let others =
        ["duty-centre", "property", "office"].map(|route| format!("[[route]]\nname = {route:?}\n"));
    let more = format!(
        "[cases]\nnamed_handlers = [\"named\"]\n\
         [[channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/hook\"\nsecret_file = \"secret\"\n\
         [[route]]\nname = \"police\"\nchannels = [\"hook\"]\n[[route]]\nname = \"mediation\"\nchannels = [\"hook\"]\n{}",
        receiver.port,
        others.concat()
    );
    let centre = Centre::with_files(&more, &[("secret", SECRET)]).await?;
    let named = centre.user("named", "supervisor", "centre").await?;
    let other = centre.user("other", "supervisor", "centre").await?;
    let mut station = centre.station("st-2", "station-2", "")?;
    station.start().await?;
    // Twice at one address: violence by its own rule, and a repeat by an ordinary one. A push about hours ago would also
    // report the station's clock as off, which everybody may see.
    for (number, minutes) in [("D1", 1), ("D2", 0)] {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
        let incident = json!({
            "jqbh": number, "category": "家庭暴力", "address_key": "yuyuan/3/301", "station": "st-2",
            "level": "2", "reported_at": at.to_string(),
        });
        let body = serde_json::to_vec(&incident)?;
        let answer = station.push_raw("police", DOORS_TOKEN, body).await?;
        ensure!(answer.status == 200, "{:?}", answer.body);
        station.drained().await?;
    }
    let items = async |path: &str, token: &str| -> Result<Vec<Value>> {
        let (status, page) = centre.get(path, token).await?;
        ensure!(status == 200, "{path}: {page}");
        Ok(page["items"].as_array().context("items")?.clone())
    };
    let rules = async |token: &str| -> Result<Vec<String>> {
        let warnings = items("/api/v1/warnings", token).await?;
        let mut rules: Vec<String> = warnings
            .iter()
            .filter_map(|warning| warning["rule"].as_str().map(str::to_owned))
            .collect();
        rules.sort();
        rules.dedup();
        Ok(rules)
    };
    until("both rules to hold", async || {
        let rules = rules(&named).await?;
        let both = ["dispute-repeat-place", "domestic-violence"];
        ensure!(
            both.iter()
                .all(|rule| rules.iter().any(|found| found == rule)),
            "{rules:?}"
        );
        Ok(Some(()))
    })
    .await?;
    // No case of its own tells of them: all belongs to the two of the incidents.
    let cases = items("/api/v1/cases", &named).await?;
    let kinds: Vec<&str> = cases
        .iter()
        .filter_map(|case| case["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["01-dv", "01-dv"], "{cases:?}");
    let told = until("the violence to be told", async || {
        let told = items("/api/v1/notifications", &named).await?;
        Ok((!told.is_empty()).then_some(told))
    })
    .await?;
    assert!(
        told.iter()
            .all(|told| told["notice"]["rule"] == "domestic-violence"),
        "{told:?}"
    );
    assert!(
        !items("/api/v1/events?kind=dispute.reported", &named)
            .await?
            .is_empty()
    );
    assert_eq!(rules(&other).await?, [""; 0]);
    for path in [
        "/api/v1/cases",
        "/api/v1/notifications",
        "/api/v1/events?kind=dispute.reported",
        "/api/v1/events?address=yuyuan/3/301",
    ] {
        let found = items(path, &other).await?;
        assert!(found.is_empty(), "{path}: {found:?}");
    }
    // Nor can it be linked to a case that others see, nor looked at by its number.
    let warnings = items("/api/v1/warnings", &named).await?;
    let code = code_of(&centre.register(&other, quarrel()).await?)?;
    for warning in &warnings {
        let path = format!("/api/v1/warnings/{}", warning["id"]);
        assert_eq!(centre.get(&path, &other).await?.0, 404);
        let link = json!({ "move": "link_warning", "warning": warning["id"] });
        let (status, problem) = centre.make(&other, &code, link).await?;
        assert_eq!(status, 400, "{problem}");
    }
    let id = told[0]["id"].clone();
    let resend = format!("/api/v1/notifications/{id}/resend");
    let (status, _) = centre
        .hub
        .ask(Method::POST, &resend, Some(&other), None)
        .await?;
    assert_eq!(status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_is_an_actor_that_sees_no_named_only_case_and_stands_in_the_audit_log()
-> Result<()> {
    let centre = Centre::new("[cases]\nnamed_handlers = [\"named\"]\n").await?;
    let boss = centre.user("boss", "supervisor", "centre").await?;
    let open = centre.register(&boss, quarrel()).await?;
    let open = open["code"].as_str().context("a code")?.to_owned();
    let (_, hidden) = centre
        .ask(Method::POST, "/api/v1/cases", &boss, &violence())
        .await?;
    let hidden = code_of(&hidden)?;
    let words = |words: &[&str]| run(centre.hub.command()?.args(words));
    let listed = words(&["cases", "--json"])?;
    assert!(listed.contains(&open), "{listed}");
    assert!(!listed.contains(&hidden), "{listed}");
    words(&["events", "--site", "yuyuan"])?;
    words(&["warnings"])?;
    words(&["notifications", "list"])?;
    for (object, detail) in [
        ("cases", ""),
        ("events", "site=yuyuan"),
        ("warnings", ""),
        ("notifications", ""),
    ] {
        let entries = centre.hub.audit(object)?;
        let entry = entries.first().context("an entry")?;
        assert_eq!(entry["action"], "console.read", "{object}");
        assert_eq!(entry["detail"], detail, "{object}");
        let actor = entry["actor"].as_str().context("an actor")?;
        assert!(actor.starts_with("os:") && actor.len() > 3, "{actor}");
    }
    // Tokens have entries of their own, in the transaction that makes them.
    words(&["api-token", "create", "--name", "dashboard"])?;
    let made = centre.hub.audit("api-token/dashboard")?;
    assert_eq!(
        made.first().context("an entry")?["action"],
        "api-token.created"
    );
    words(&["audit", "verify"])?;
    Ok(())
}
