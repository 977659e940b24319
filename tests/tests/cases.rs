//! The closed loop of cases over the API: who may do what, in which order, by which clock, and what is kept of it.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Agent, Centre, DOORS_TOKEN, Hub, Receiver, connect, faketime, load_district, quarrel, until,
    words,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn a_case_goes_the_whole_loop_by_the_hands_that_may_and_no_others() -> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let supervisor = centre.user("watch", "supervisor", "centre").await?;
    let handler = centre.user("room3", "handler", "room-3").await?;
    let other = centre.user("room4", "handler", "room-4").await?;
    let caller = centre.user("caller", "revisit", "centre").await?;
    let case = centre.register(&dispatcher, quarrel()).await?;
    let code = case["code"].as_str().context("a code")?.to_owned();
    assert_eq!(
        (case["state"].as_str(), case["lead"].as_str()),
        (Some("registered"), Some("centre"))
    );
    let path = format!("/api/v1/cases/{code}");
    // Whose it is not does not see it.
    assert_eq!(centre.get(&path, &handler).await?.0, 404);
    centre
        .made(&dispatcher, &code, json!({ "move": "accept" }))
        .await?;
    centre
        .made(
            &dispatcher,
            &code,
            json!({ "move": "dispatch", "organisation": "room-3" }),
        )
        .await?;
    assert_eq!(centre.get(&path, &handler).await?.0, 200);
    assert_eq!(centre.get(&path, &other).await?.0, 404);
    let (status, refused) = centre
        .make(&dispatcher, &code, json!({ "move": "sign" }))
        .await?;
    assert_eq!(status, 403, "{refused}");
    centre
        .made(&handler, &code, json!({ "move": "sign" }))
        .await?;
    let (status, refused) = centre
        .make(&handler, &code, json!({ "move": "archive" }))
        .await?;
    assert_eq!(status, 403, "{refused}");
    let ask = json!({ "move": "join", "organisation": "department-12", "task": "查看防水" });
    centre.made(&handler, &code, ask).await?;
    let women = centre.user("women", "handler", "department-12").await?;
    let (status, open) = centre
        .make(&handler, &code, json!({ "move": "answer", "text": "已修" }))
        .await?;
    assert_eq!(status, 409, "a part is open: {open}");
    let done = json!({ "move": "join_done", "organisation": "department-12", "text": "已查看" });
    centre.made(&women, &code, done).await?;
    centre
        .made(
            &handler,
            &code,
            json!({ "move": "answer", "text": "双方达成协议" }),
        )
        .await?;
    centre
        .made(
            &supervisor,
            &code,
            json!({ "move": "verify", "passed": true }),
        )
        .await?;
    // Not satisfied: back to the handler.
    let unhappy = json!({ "move": "revisit", "satisfied": false, "reason": "仍在漏水" });
    centre.made(&caller, &code, unhappy).await?;
    centre
        .made(
            &handler,
            &code,
            json!({ "move": "answer", "text": "已更换管道" }),
        )
        .await?;
    centre.close(&supervisor, &caller, &code).await?;
    let (_, end) = centre.get(&path, &supervisor).await?;
    assert_eq!(end["state"], "archived");
    assert_eq!(end["due_ms"], Value::Null);
    assert_eq!(
        words(&end),
        [
            "registered",
            "accept",
            "dispatch",
            "sign",
            "join",
            "join_done",
            "answer",
            "verify",
            "revisit",
            "answer",
            "verify",
            "revisit",
            "evaluate",
            "archive"
        ]
    );
    assert_eq!(end["version"], 14);
    // What was closed takes nothing but its reopening; the problem says so.
    let (status, closed) = centre
        .make(&supervisor, &code, json!({ "move": "note", "text": "x" }))
        .await?;
    assert_eq!(
        (status, closed["type"].as_str()),
        (409, Some("urn:linli:problem:case-state"))
    );
    assert!(
        closed["detail"]
            .as_str()
            .context("detail")?
            .contains("reopen"),
        "{closed}"
    );
    centre
        .made(
            &supervisor,
            &code,
            json!({ "move": "reopen", "reason": "再次漏水" }),
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_save_at_once_lose_nothing_and_the_second_is_told() -> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let case = centre.register(&dispatcher, quarrel()).await?;
    let code = case["code"].as_str().context("a code")?;
    let path = format!("/api/v1/cases/{code}/moves");
    let note = |text: &str| json!({ "version": case["version"], "move": { "move": "note", "text": text } });
    let mut answers = Vec::new();
    let texts: Vec<Value> = (0..4)
        .map(|number| note(&format!("第 {number} 条")))
        .collect();
    let ask = |body| centre.ask(Method::POST, &path, &dispatcher, body);
    let (a, b, c, d) = tokio::join!(
        ask(&texts[0]),
        ask(&texts[1]),
        ask(&texts[2]),
        ask(&texts[3])
    );
    for answer in [a, b, c, d] {
        answers.push(answer?);
    }
    let taken = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(taken, 1, "{answers:?}");
    for (status, answer) in answers.iter().filter(|(status, _)| *status != 200) {
        assert_eq!(
            (*status, answer["type"].as_str()),
            (409, Some("urn:linli:problem:case-stale"))
        );
    }
    let (_, end) = centre
        .get(&format!("/api/v1/cases/{code}"), &dispatcher)
        .await?;
    assert_eq!(words(&end), ["registered", "note"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_people_is_sealed_masked_and_shown_for_a_reason_that_is_kept() -> Result<()>
{
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let operator = centre.user("op", "operator", "centre").await?;
    let auditor = centre.user("audit", "auditor", "centre").await?;
    let case = centre.register(&dispatcher, quarrel()).await?;
    let code = case["code"].as_str().context("a code")?;
    centre
        .made(
            &dispatcher,
            code,
            json!({ "move": "note", "text": "王小明来电催办" }),
        )
        .await?;
    let masked = &case["narrative"];
    assert_eq!(
        masked["parties"][0],
        json!({ "name": "王**", "phone": "138****8000" })
    );
    assert_eq!(masked["text"], "楼**");
    // Nothing of it stands readable in the database.
    let mut connection = connect(centre.hub.database_url()).await?;
    let rows = sqlx::query(
        "SELECT detail, narrative FROM cases UNION ALL SELECT detail, action FROM case_actions",
    )
    .fetch_all(&mut connection)
    .await?;
    assert_eq!(rows.len(), 3);
    for row in rows {
        for column in [0, 1] {
            let text: String = sqlx::Row::get(&row, column);
            assert!(
                !text.contains("小明") && !text.contains("138") && !text.contains("漏水"),
                "{text}"
            );
        }
    }
    let unmask = format!("/api/v1/cases/{code}/unmask");
    let (status, _) = centre
        .ask(
            Method::POST,
            &unmask,
            &dispatcher,
            &json!({ "reason": " " }),
        )
        .await?;
    assert_eq!(status, 400);
    let reason = json!({ "reason": "电话回访" });
    let (status, answer) = centre
        .ask(Method::POST, &unmask, &operator, &reason)
        .await?;
    assert_eq!(status, 403, "{answer}");
    let (status, shown) = centre
        .ask(Method::POST, &unmask, &dispatcher, &reason)
        .await?;
    assert_eq!(
        (status, &shown["parties"][0]["phone"]),
        (200, &json!("13800138000"))
    );
    let (_, log) = centre
        .get(&format!("/api/v1/audit?object=case/{code}"), &auditor)
        .await?;
    let kept: Vec<(&str, &str, &str)> = log["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter_map(|entry| {
            Some((
                entry["actor"].as_str()?,
                entry["action"].as_str()?,
                entry["reason"].as_str()?,
            ))
        })
        .collect();
    assert_eq!(
        kept,
        [
            ("dispatch", "case.unmask", "电话回访"),
            ("op", "refused", ""),
            ("dispatch", "case.read", "")
        ]
    );
    // Who only watches does not read what people wrote.
    let (_, seen) = centre
        .get(&format!("/api/v1/cases/{code}"), &operator)
        .await?;
    assert_eq!(seen["actions"][1]["note"], "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_of_a_station_is_one_case_however_often_it_is_pushed() -> Result<()> {
    let centre = Centre::new("[cases]\nnamed_handlers = [\"named\"]\n").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let named = centre.user("named", "supervisor", "centre").await?;
    let mut station = centre.station("st-2", "station-2", "")?;
    station.start().await?;
    let incident = |number: &str, category: &str| {
        json!({
            "jqbh": number, "category": category, "address_key": "yuyuan/3/301", "station": "st-2",
            "level": "2", "reported_at": jiff::Timestamp::now().to_string(),
        })
    };
    for _ in 0..3 {
        for pushed in [incident("A1", "邻里"), incident("A2", "家庭暴力")] {
            let body = serde_json::to_vec(&pushed)?;
            let answer = station.push_raw("police", DOORS_TOKEN, body).await?;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
        }
    }
    station.drained().await?;
    let (_, seen) = centre.get("/api/v1/cases", &dispatcher).await?;
    let seen = seen["items"].as_array().context("items")?.clone();
    let kinds: Vec<&str> = seen
        .iter()
        .filter_map(|case| case["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        ["02"],
        "what is for named handlers is not there for others"
    );
    assert_eq!(
        (seen[0]["source"].as_str(), seen[0]["key"].as_str()),
        (Some("police"), Some("yuyuan/3/301"))
    );
    let (_, all) = centre.get("/api/v1/cases", &named).await?;
    let all = all["items"].as_array().context("items")?.clone();
    let kinds: Vec<&str> = all
        .iter()
        .filter_map(|case| case["kind"].as_str())
        .collect();
    let (_, warnings) = centre.get("/api/v1/warnings", &named).await?;
    assert_eq!(kinds, ["01-dv", "02"], "{all:#?} {warnings:#}");
    let hidden = all[0]["code"].as_str().context("a code")?;
    let (status, _) = centre
        .get(&format!("/api/v1/cases/{hidden}"), &dispatcher)
        .await?;
    assert_eq!(status, 404);
    let (status, _) = centre
        .make(&dispatcher, hidden, json!({ "move": "accept" }))
        .await?;
    assert_eq!(status, 404);
    centre
        .made(&named, hidden, json!({ "move": "accept" }))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_reminded_carded_and_supervised_also_over_a_restart() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.configure("[cases]\nterms = \"terms.toml\"\n")?;
    // Two minutes a second are one long step.
    hub.replace_config("[clock]\n", "[clock]\nstep = \"365d\"\n")?;
    let terms = "ordinary_after_minutes = 1\nyellow_after_minutes = 2\nred_after_minutes = 4\n[any]\nsign_minutes = 4\n";
    std::fs::write(directory.path().join("hub/terms.toml"), terms)?;
    load_district(&hub)?;
    // Two minutes a second.
    hub.wrapper = faketime(&["FAKETIME=+0 x120".to_owned()])?;
    hub.start().await?;
    let mut centre = Centre { directory, hub };
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let case = centre.register(&dispatcher, quarrel()).await?;
    let code = case["code"].as_str().context("a code")?.to_owned();
    centre
        .made(&dispatcher, &code, json!({ "move": "accept" }))
        .await?;
    centre
        .made(
            &dispatcher,
            &code,
            json!({ "move": "dispatch", "organisation": "room-3" }),
        )
        .await?;
    let path = format!("/api/v1/cases/{code}");
    let reaches = async |centre: &Centre, mark: &str| {
        until(mark, async || {
            let (status, case) = centre.get(&path, &dispatcher).await?;
            ensure!(status == 200, "{case}");
            Ok(words(&case).iter().any(|word| word == mark).then_some(()))
        })
        .await
    };
    reaches(&centre, "amber").await?;
    centre.hub.kill()?;
    centre.hub.start().await?;
    reaches(&centre, "red_card").await?;
    let (_, end) = centre.get(&path, &dispatcher).await?;
    assert_eq!(
        words(&end),
        [
            "registered",
            "accept",
            "dispatch",
            "reminder",
            "amber",
            "red",
            "ordinary",
            "yellow_card",
            "climbed",
            "red_card",
            "climbed"
        ]
    );
    assert_eq!(end["rung"], "joint_meeting");
    assert_eq!(end["supervision"], "red_card");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_moves_and_bad_cases_are_told_what_would_be_right() -> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let admin = centre.user("admin", "admin", "centre").await?;
    for (change, says) in [
        (json!({ "kind": "99" }), "kind"),
        (json!({ "place": "nowhere" }), "place"),
        (json!({ "risk": "purple" }), "risk"),
        (json!({ "title": "" }), "title"),
        (
            json!({ "narrative": { "text": "x".repeat(10_001) } }),
            "text",
        ),
        (json!({ "surprise": 1 }), "surprise"),
    ] {
        let mut body = quarrel();
        for (key, value) in change.as_object().context("an object")? {
            body[key] = value.clone();
        }
        let (status, answer) = centre
            .ask(Method::POST, "/api/v1/cases", &dispatcher, &body)
            .await?;
        assert_eq!(status, 400, "{says}: {answer}");
        assert!(
            answer["detail"].as_str().context("detail")?.contains(says),
            "{answer}"
        );
    }
    let (status, _) = centre
        .ask(Method::POST, "/api/v1/cases", &admin, &quarrel())
        .await?;
    assert_eq!(status, 403);
    let hostile = json!({
        "kind": "02", "title": "<script>alert(1)</script>'; DROP TABLE cases; --", "key": "' OR 1=1 --",
        "external": "x-1", "narrative": { "text": "<img src=x onerror=alert(1)>" },
    });
    let first = centre.register(&dispatcher, hostile.clone()).await?;
    let again = centre.register(&dispatcher, hostile).await?;
    assert_eq!(
        first["code"], again["code"],
        "the same external number is the same case"
    );
    assert_eq!(
        first["title"],
        "<script>alert(1)</script>'; DROP TABLE cases; --"
    );
    let code = first["code"].as_str().context("a code")?;
    for (wanted, status, says) in [
        (
            json!({ "move": "dispatch", "organisation": "nobody" }),
            409,
            "accept",
        ),
        (json!({ "move": "fly" }), 400, "fly"),
        (json!({ "move": "accept", "reason": "x" }), 400, "reason"),
        (json!({ "move": "decline", "reason": " " }), 400, "reason"),
        (
            json!({ "move": "set_risk", "risk": "purple", "reason": "x" }),
            400,
            "purple",
        ),
    ] {
        let (found, answer) = centre.make(&dispatcher, code, wanted).await?;
        assert_eq!(found, status, "{answer}");
        assert!(
            answer["detail"].as_str().context("detail")?.contains(says),
            "{answer}"
        );
    }
    let (status, _) = centre
        .get("/api/v1/cases/20200101-000001", &dispatcher)
        .await?;
    assert_eq!(status, 404);
    let (status, _) = centre
        .get("/api/v1/cases?state=flying", &dispatcher)
        .await?;
    assert_eq!(status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_suggested_merged_by_a_person_and_undone() -> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let first = centre.register(&dispatcher, quarrel()).await?;
    let second = centre.register(&dispatcher, quarrel()).await?;
    let code = |case: &Value| case["code"].as_str().unwrap_or_default().to_owned();
    let (first, second) = (code(&first), code(&second));
    let (_, similar) = centre
        .get(&format!("/api/v1/cases/{second}/similar"), &dispatcher)
        .await?;
    assert_eq!(code(&similar["items"][0]), first);
    let merge = json!({ "move": "merge", "into": first, "reason": "同一起漏水" });
    centre.made(&dispatcher, &second, merge).await?;
    let state = async |of: &str| {
        anyhow::Ok(
            centre
                .get(&format!("/api/v1/cases/{of}"), &dispatcher)
                .await?
                .1,
        )
    };
    assert_eq!(state(&second).await?["state"], "merged");
    assert_eq!(words(&state(&first).await?), ["registered", "absorbed"]);
    centre
        .made(
            &dispatcher,
            &second,
            json!({ "move": "unmerge", "reason": "不是同一起" }),
        )
        .await?;
    assert_eq!(state(&second).await?["state"], "registered");
    assert_eq!(
        words(&state(&first).await?),
        ["registered", "absorbed", "released"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_come_in_as_rows_once_and_go_out_as_rows_and_figures_without_small_cells()
-> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let client = centre.hub.client()?;
    let url = |path: &str| centre.hub.url(path);
    let import = async |kind: &str, body: String| -> Result<(u16, Value)> {
        let answer = client
            .post(url("/api/v1/imports/cases"))
            .bearer_auth(&dispatcher)
            .header("content-type", kind)
            .body(body)
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    let mut table = "kind,title,place,key,external,risk,address,text\n".to_owned();
    for number in 0..7 {
        table +=
            &format!("02,漏水,yuyuan,key-{number},c-{number},,豫园{number}号,\"多次, 交涉\"\n");
    }
    table += "99,未知,yuyuan,,c-8,,,\n13,物业,yuyuan,,,,,\n";
    for _ in 0..2 {
        let (status, done) = import("text/csv", table.clone()).await?;
        assert_eq!(
            (status, &done["taken"], &done["refused"]),
            (200, &json!(7), &json!(2)),
            "{done}"
        );
        let says = |row: usize| {
            done["rows"][row]["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            says(7).contains("99") && says(8).contains("external"),
            "{done}"
        );
    }
    let lines: String = (0..3)
        .map(|number| json!({ "kind": "13", "title": "=1+1", "external": format!("j-{number}"), "key": "key-1" }).to_string() + "\n")
        .collect();
    let (_, done) = import("application/jsonl; charset=utf-8", lines).await?;
    assert_eq!(done["taken"], 3, "{done}");
    assert_eq!(import("text/plain", "x".to_owned()).await?.0, 400);
    let text = async |path: &str| -> Result<String> {
        let answer = client
            .get(url(path))
            .bearer_auth(&dispatcher)
            .send()
            .await?;
        Ok(answer.error_for_status()?.text().await?)
    };
    let lines = text("/api/v1/exports/cases").await?;
    assert_eq!(lines.lines().count(), 10);
    assert!(!lines.contains("豫园"), "an address of a person goes out");
    let rows = text("/api/v1/exports/cases?format=csv&kind=13").await?;
    assert!(rows.starts_with("\u{feff}code,kind,title"), "{rows}");
    assert!(rows.contains(",'=1+1,"), "a formula goes out: {rows}");
    let figures = async |by: &str| -> Result<Value> {
        let path = format!(
            "/api/v1/statistics/cases?by={by}&from=2019-12-31T16:00:00Z&to=2119-12-31T16:00:00Z"
        );
        let (status, table) = centre.get(&path, &dispatcher).await?;
        ensure!(status == 200, "{table}");
        Ok(table)
    };
    // Three of kind 13 are too few, and seven would give them away.
    let kinds = figures("type").await?;
    assert_eq!(
        kinds,
        json!({ "cells": [{ "name": "02" }, { "name": "13" }], "total": 10, "suppressed": true })
    );
    let source = figures("source").await?;
    assert_eq!(
        source,
        json!({ "cells": [{ "name": "desk", "cases": 10 }], "total": 10, "suppressed": false })
    );
    for by in ["area", "risk", "lateness", "returns", "repeats"] {
        assert_eq!(figures(by).await?["total"], 10, "{by}");
    }
    let rows = text("/api/v1/statistics/cases?by=type&from=2019-12-31T16:00:00Z&to=2119-12-31T16:00:00Z&format=csv").await?;
    assert_eq!(rows, "\u{feff}name,cases\n02,<5\n13,<5\n");
    let (status, _) = centre
        .get(
            "/api/v1/statistics/cases?by=person&from=2019-12-31T16:00:00Z&to=2119-12-31T16:00:00Z",
            &dispatcher,
        )
        .await?;
    assert_eq!(status, 400);
    Ok(())
}

/// The agent of a station with its webhook.
fn station(centre: &Centre, name: &str, site: &str, receiver: &Receiver) -> Result<Agent> {
    let directory = centre.directory.path().join(name);
    std::fs::create_dir_all(directory.join("secrets"))?;
    std::fs::write(
        directory.join("secrets/station.secret"),
        "secret-of-the-station-0123456789",
    )?;
    let more = format!(
        "[station]\nwebhook = \"http://127.0.0.1:{}/linli\"\nsecret_file = \"secrets/station.secret\"\n",
        receiver.port
    );
    centre.station(name, site, &more)
}

/// What a station's system was told, in order: kind, the station's number, state.
fn told(receiver: &Receiver) -> Result<Vec<(String, String, String)>> {
    let mut told = Vec::new();
    for received in receiver.all() {
        let event = received.json()?;
        let word = |key: &str| event["data"][key].as_str().unwrap_or_default().to_owned();
        told.push((word("kind"), word("source_id"), word("state")));
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stations_are_told_of_their_own_incidents_to_the_end_also_while_links_come_and_go()
-> Result<()> {
    let mut centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let supervisor = centre.user("watch", "supervisor", "centre").await?;
    let handler = centre.user("room3", "handler", "room-3").await?;
    let caller = centre.user("caller", "revisit", "centre").await?;
    let (first_system, second_system) = (Receiver::start().await?, Receiver::start().await?);
    let mut first = station(&centre, "st-1", "station-1", &first_system)?;
    let mut second = station(&centre, "st-2", "station-2", &second_system)?;
    for (station, number) in [(&mut first, "A1"), (&mut second, "B1")] {
        station.start().await?;
        let incident = json!({
            "jqbh": number, "category": "邻里", "address_key": "yuyuan/3/301", "station": "st",
            "level": "2", "reported_at": jiff::Timestamp::now().to_string(),
        });
        for _ in 0..2 {
            let answer = station
                .push_raw("police", DOORS_TOKEN, serde_json::to_vec(&incident)?)
                .await?;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
        }
        station.drained().await?;
    }
    let (_, cases) = centre.get("/api/v1/cases", &dispatcher).await?;
    let cases = cases["items"].as_array().context("items")?.clone();
    assert_eq!(cases.len(), 2, "one for each station's incident");
    // Newest first: that of the second station.
    let code = cases[0]["code"].as_str().context("a code")?.to_owned();
    centre
        .made(&dispatcher, &code, json!({ "move": "accept" }))
        .await?;
    // The station's gateway is off while its case is worked on, and the hub is killed meanwhile.
    second.kill()?;
    centre
        .made(
            &dispatcher,
            &code,
            json!({ "move": "dispatch", "organisation": "room-3" }),
        )
        .await?;
    centre
        .made(&handler, &code, json!({ "move": "sign" }))
        .await?;
    centre.hub.kill()?;
    centre.hub.start().await?;
    centre
        .made(
            &handler,
            &code,
            json!({ "move": "answer", "text": "王小明与楼上达成协议" }),
        )
        .await?;
    second.start().await?;
    centre.close(&supervisor, &caller, &code).await?;
    until("the close-out at the second station", async || {
        let told = told(&second_system)?;
        Ok(told
            .iter()
            .any(|(_, _, state)| state == "archived")
            .then_some(()))
    })
    .await?;
    let states = [
        ("receipt", "registered"),
        ("status", "accepted"),
        ("status", "dispatched"),
        ("status", "handling"),
        ("status", "answered"),
        ("status", "verified"),
        ("status", "revisited"),
        ("status", "evaluated"),
        ("status", "archived"),
    ];
    let mut seen = told(&second_system)?;
    seen.dedup();
    let wanted = states.map(|(kind, state)| (kind.to_owned(), "B1".to_owned(), state.to_owned()));
    assert_eq!(seen, wanted);
    assert_eq!(
        told(&first_system)?,
        [(
            "receipt".to_owned(),
            "A1".to_owned(),
            "registered".to_owned()
        )]
    );
    for received in second_system.all() {
        assert!(
            !received.body.contains("小明"),
            "what people wrote goes out: {}",
            received.body
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_is_told_of_a_danger_in_its_own_area_and_no_other() -> Result<()> {
    let centre = Centre::new("").await?;
    let (first_system, second_system) = (Receiver::start().await?, Receiver::start().await?);
    let mut first = station(&centre, "st-1", "station-1", &first_system)?;
    let mut second = station(&centre, "st-2", "station-2", &second_system)?;
    first.start().await?;
    second.start().await?;
    let mut gateway = Agent::joined(
        &centre.directory.path().join("gw"),
        &centre.hub,
        "gw-1",
        "yuyuan",
    )?;
    gateway.start().await?;
    let fire = json!({ "serial": "1", "type": "fire", "building": "3号楼", "time": jiff::Timestamp::now().to_string() });
    gateway.deliver(&[fire]).await?;
    until("the danger at the station of the area", async || {
        Ok((!told(&second_system)?.is_empty()).then_some(()))
    })
    .await?;
    assert_eq!(
        told(&second_system)?,
        [("danger".to_owned(), String::new(), "life".to_owned())]
    );
    assert_eq!(told(&first_system)?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_cannot_be_read_holds_up_no_other_and_no_event() -> Result<()> {
    let centre = Centre::new("").await?;
    let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
    let code = |case: &Value| case["code"].as_str().unwrap_or_default().to_owned();
    let broken = code(&centre.register(&dispatcher, quarrel()).await?);
    let good = code(&centre.register(&dispatcher, quarrel()).await?);
    let mut connection = connect(centre.hub.database_url()).await?;
    // As if its key were gone, and due now.
    sqlx::query("UPDATE cases SET detail = 's1.00000000.AAAA', wake_ms = 1 WHERE code = $1")
        .bind(broken.as_str())
        .execute(&mut connection)
        .await?;
    until("the log to say so", async || {
        let log = std::fs::read_to_string(centre.hub.log())?;
        Ok(log.contains("a case cannot be read").then_some(()))
    })
    .await?;
    centre
        .made(&dispatcher, &good, json!({ "move": "accept" }))
        .await?;
    let mut agent = Agent::joined(
        &centre.directory.path().join("a"),
        &centre.hub,
        "gw-1",
        "yuyuan",
    )?;
    agent.start().await?;
    let fire = json!({ "serial": "1", "type": "fire", "time": jiff::Timestamp::now().to_string() });
    agent.deliver(&[fire]).await?;
    let moves = format!("/api/v1/cases/{broken}/moves");
    let body = json!({ "version": 1, "move": { "move": "accept" } });
    let (status, _) = centre.ask(Method::POST, &moves, &dispatcher, &body).await?;
    assert_eq!(status, 404);
    let log = std::fs::read_to_string(centre.hub.log())?;
    assert!(!log.contains("a transaction failed"), "{log}");
    Ok(())
}
