//! A resident asks to see, to correct or to delete what is held of them: a case with a clock, and what is done under it.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Centre, connect, kind, run, user};
use serde_json::{Value, json};
use sqlx::Row as _;
use std::ops::Deref;

struct Desk {
    centre: Centre,
    supervisor: String,
    caller: String,
}

impl Deref for Desk {
    type Target = Centre;
    fn deref(&self) -> &Centre {
        &self.centre
    }
}

impl Desk {
    async fn new(more: &str) -> Result<Self> {
        let centre = Centre::new(more).await?;
        Ok(Self {
            supervisor: centre.user("super", "supervisor", "centre").await?,
            caller: centre.user("caller", "revisit", "centre").await?,
            centre,
        })
    }

    async fn case(&self, code: &str) -> Result<Value> {
        let path = format!("/api/v1/cases/{code}");
        let (status, case) = self.hub.api_with(&path, Some(&self.supervisor)).await?;
        ensure!(status == 200, "{case}");
        Ok(case)
    }

    /// A case about somebody: its code.
    async fn about(&self, kind: &str, name: &str, phone: &str) -> Result<String> {
        let body = json!({
            "kind": kind, "title": "楼上漏水", "place": "yuyuan-b3", "key": "yuyuan/3/301",
            "narrative": {
                "parties": [{ "name": name, "phone": phone }, { "name": "赵邻居", "phone": "13700000000" }],
                "address": "豫园小区3号楼301", "text": "多次交涉未果",
            },
        });
        let (status, case) = self.post("/api/v1/cases", &self.supervisor, &body).await?;
        ensure!(status == 201, "{case}");
        Ok(case["code"].as_str().context("a code")?.to_owned())
    }

    async fn decline(&self, code: &str) -> Result<()> {
        let wanted = json!({ "move": "decline", "reason": "王小明已撤诉" });
        self.made(&self.supervisor, code, wanted).await
    }

    async fn under(&self, request: &str, what: &str, body: Value) -> Result<(u16, Value)> {
        let path = format!("/api/v1/cases/{request}/subject/{what}");
        self.post(&path, &self.supervisor, &body).await
    }

    async fn unmasked(&self, code: &str) -> Result<Value> {
        let path = format!("/api/v1/cases/{code}/unmask");
        let (status, mut narrative) = self
            .post(&path, &self.supervisor, &json!({ "reason": "核对" }))
            .await?;
        ensure!(status == 200, "{narrative}");
        // The log comes with it.
        if let Some(said) = narrative.as_object_mut() {
            said.remove("actions");
        }
        Ok(narrative)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_see_is_found_by_phone_and_given_their_own() -> Result<()> {
    let desk = Desk::new("[cases]\nnamed_handlers = [\"nobody\"]").await?;
    let first = desk.about("02", "王小明", "+86 138-0013-8000").await?;
    let second = desk.about("13", "王小明", "13800138000").await?;
    desk.about("02", "李四", "13900139000").await?;
    // One for named handlers only is not found by who is none of them.
    let body = json!({ "kind": "01-dv", "title": "家事", "place": "yuyuan-b3",
        "narrative": { "parties": [{ "name": "王小明", "phone": "13800138000" }] } });
    desk.post("/api/v1/cases", &desk.supervisor, &body).await?;
    let request = desk.about("subject-see", "王小明", "13800138000").await?;
    let whole = desk.case(&request).await?;
    ensure!(
        whole["kind"] == "subject-see" && whole["due_ms"].is_i64(),
        "{whole}"
    );

    let (status, found) = desk
        .under(&request, "search", json!({ "phone": "138 0013 8000" }))
        .await?;
    assert_eq!(status, 200, "{found}");
    let codes: Vec<&str> = found["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter_map(|case| case["code"].as_str())
        .collect();
    assert_eq!(codes, [second.as_str(), first.as_str()]);
    let export = json!({ "cases": [first, second], "phone": "13800138000" });
    let (status, held) = desk.under(&request, "export", export.clone()).await?;
    assert_eq!(status, 200, "{held}");
    let narrative = &held["cases"][0]["narrative"];
    assert_eq!(narrative["parties"][0]["name"], "王小明");
    assert_eq!(narrative["parties"][1]["name"], "赵**");
    assert_eq!(narrative["address"], "豫园小区3号楼301");
    assert_eq!(held["cases"][1]["actions"][0]["action"], "registered");
    for (object, action) in [
        (&request, "subject.search"),
        (&first, "subject.export"),
        (&second, "subject.export"),
    ] {
        let entries = desk.hub.audit(&format!("case/{object}"))?;
        let entry = entries.iter().find(|entry| entry["action"] == action);
        let entry = entry.with_context(|| format!("{action} of {object}"))?;
        assert_eq!(entry["reason"], request.as_str());
        ensure!(!entry.to_string().contains("13800138000"), "{entry}");
    }
    // By whom and for what it may not be.
    let path = format!("/api/v1/cases/{request}/subject/search");
    let search = json!({ "phone": "13800138000" });
    let dispatcher = user(&desk.hub, "dispatch", "dispatcher", "centre").await?;
    assert_eq!(desk.post(&path, &dispatcher, &search).await?.0, 403);
    let stranger = user(&desk.hub, "other", "supervisor", "office-2").await?;
    assert_eq!(desk.post(&path, &stranger, &search).await?.0, 404);
    let (status, problem) = desk.under(&first, "search", search.clone()).await?;
    assert_eq!(
        (status, kind(&problem)),
        (409, "case-no-request"),
        "{problem}"
    );
    let (status, problem) = desk
        .under(&request, "delete", json!({ "case": first, "version": 1 }))
        .await?;
    assert_eq!(
        (status, kind(&problem)),
        (409, "case-no-request"),
        "{problem}"
    );
    for phone in ["123", "", "电话"] {
        let (status, problem) = desk
            .under(&request, "search", json!({ "phone": phone }))
            .await?;
        assert_eq!((status, kind(&problem)), (400, "query"), "{problem}");
    }
    desk.decline(&request).await?;
    for (what, body) in [("search", search), ("export", export)] {
        let (status, problem) = desk.under(&request, what, body).await?;
        assert_eq!((status, kind(&problem)), (409, "case-state"), "{problem}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_takes_the_place_of_what_was_wrong() -> Result<()> {
    let desk = Desk::new("").await?;
    let code = desk.about("02", "王小名", "13800138000").await?;
    let request = desk
        .about("subject-correct", "王小明", "13800138000")
        .await?;
    let right = json!({ "parties": [{ "name": "王小明", "phone": "13800138000" }], "address": "", "text": "已更正" });
    let correction = |version: i64| json!({ "case": code, "version": version, "narrative": right });
    let (status, problem) = desk.under(&request, "correct", correction(7)).await?;
    assert_eq!((status, kind(&problem)), (409, "case-stale"), "{problem}");
    let (status, answer) = desk.under(&request, "correct", correction(1)).await?;
    assert_eq!(
        (status, answer["version"].as_i64()),
        (200, Some(2)),
        "{answer}"
    );
    assert_eq!(desk.unmasked(&code).await?, right);
    let case = desk.case(&code).await?;
    let last = &case["actions"][1];
    assert_eq!(
        (&last["action"], &last["note"]),
        (&json!("corrected"), &json!(request))
    );
    let entries = desk.hub.audit(&format!("case/{code}"))?;
    ensure!(
        entries
            .iter()
            .any(|entry| entry["action"] == "subject.corrected"
                && entry["reason"] == request.as_str()),
        "{entries:?}"
    );
    // Also where it is closed; the days that it stays are counted from its end.
    desk.decline(&code).await?;
    let ended = desk.case(&code).await?["changed_ms"].clone();
    let (status, answer) = desk.under(&request, "correct", correction(3)).await?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(desk.case(&code).await?["changed_ms"], ended);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_leaves_the_skeleton_of_a_closed_case_and_nothing_of_people() -> Result<()> {
    let desk = Desk::new("").await?;
    let code = desk.about("02", "王小明", "13800138000").await?;
    let request = desk
        .about("subject-delete", "王小明", "13800138000")
        .await?;
    let note = json!({ "move": "note", "text": "王小明来电" });
    desk.made(&desk.supervisor, &code, note).await?;
    let url = format!("/api/v1/cases/{code}/attachments?name=note.txt");
    let client = desk.hub.client()?;
    let sent = client
        .post(desk.hub.url(&url))
        .bearer_auth(&desk.supervisor);
    let sent = sent
        .header("content-type", "text/plain")
        .body("王小明的材料")
        .send()
        .await?;
    assert_eq!(sent.status(), 201);
    let deletion = |version: i64| json!({ "case": code, "version": version });
    let (status, problem) = desk.under(&request, "delete", deletion(3)).await?;
    assert_eq!(
        (status, kind(&problem)),
        (409, "case-still-needed"),
        "{problem}"
    );
    desk.decline(&code).await?;
    let before = desk.case(&code).await?;
    let (status, answer) = desk.under(&request, "delete", deletion(4)).await?;
    assert_eq!(
        (status, answer["version"].as_i64()),
        (200, Some(5)),
        "{answer}"
    );
    let after = desk.case(&code).await?;
    let skeleton = |case: &Value| -> Vec<Value> {
        let actions = case["actions"].as_array().cloned().unwrap_or_default();
        let line = |action: &Value| {
            json!([
                action["number"],
                action["at_ms"],
                action["actor"],
                action["action"]
            ])
        };
        actions.iter().take(4).map(line).collect()
    };
    assert_eq!(skeleton(&before), skeleton(&after));
    assert_eq!(after["actions"][1]["note"], "〔已删除 deleted〕");
    assert_eq!(after["actions"][4]["action"], "redacted");
    assert_eq!(after["actions"][4]["note"], request.as_str());
    assert_eq!(
        (&after["key"], &after["state"]),
        (&json!(""), &json!("declined"))
    );
    assert_eq!(after["changed_ms"], before["changed_ms"]);
    ensure!(!after.to_string().contains("王"), "{after}");
    let nothing = json!({ "parties": [], "address": "", "text": "" });
    assert_eq!(desk.unmasked(&code).await?, nothing);
    let mut connection = connect(desk.hub.database_url()).await?;
    let rows = sqlx::query("SELECT COUNT(*) FROM attachments")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(rows.get::<i64, _>(0), 0);
    // It can be opened again, and its log goes on.
    let reopen = json!({ "move": "reopen", "reason": "新情况" });
    desk.made(&desk.supervisor, &code, reopen).await?;
    let (_, found) = {
        let see = desk.about("subject-see", "王小明", "13800138000").await?;
        desk.under(&see, "search", json!({ "phone": "13800138000" }))
            .await?
    };
    ensure!(!found.to_string().contains(&code), "{found}");
    // The request goes the whole loop as any case.
    for (token, wanted) in [
        (&desk.supervisor, json!({ "move": "accept" })),
        (
            &desk.supervisor,
            json!({ "move": "dispatch", "organisation": "room-3" }),
        ),
    ] {
        desk.made(token, &request, wanted).await?;
    }
    let handler = user(&desk.hub, "room3", "handler", "room-3").await?;
    for (token, wanted) in [
        (&handler, json!({ "move": "sign" })),
        (&handler, json!({ "move": "answer", "text": "已删除" })),
        (
            &desk.supervisor,
            json!({ "move": "verify", "passed": true }),
        ),
        (
            &desk.caller,
            json!({ "move": "revisit", "satisfied": true }),
        ),
        (&desk.caller, json!({ "move": "evaluate", "marks": 5 })),
        (&desk.supervisor, json!({ "move": "archive" })),
    ] {
        desk.made(token, &request, wanted).await?;
    }
    let verified = run(desk.hub.command()?.args(["audit", "verify"]))?;
    ensure!(verified.contains("whole"), "{verified}");
    Ok(())
}
