//! Files of cases: what is taken and what is not, who gets it out, what is left on the disk, and how it goes.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Centre, DAY_MS, connect, faketime, has_no_file, kind, metric, now_ms, outcome, run, until,
};
use reqwest::Response;
use serde_json::{Value, json};
use sqlx::Row as _;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

struct Desk {
    centre: Centre,
    dispatcher: String,
    code: String,
}

impl Deref for Desk {
    type Target = Centre;
    fn deref(&self) -> &Centre {
        &self.centre
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Centre {
        &mut self.centre
    }
}

impl Desk {
    /// A hub with a case.
    async fn new(more: &str) -> Result<Self> {
        let centre = Centre::new(more).await?;
        let dispatcher = centre.user("dispatch", "dispatcher", "centre").await?;
        let mut desk = Self {
            centre,
            dispatcher,
            code: String::new(),
        };
        desk.code = desk.register("02").await?;
        Ok(desk)
    }

    async fn register(&self, kind: &str) -> Result<String> {
        let body = json!({ "kind": kind, "title": "楼上漏水", "place": "yuyuan-b3" });
        let case = self.centre.register(&self.dispatcher, body).await?;
        Ok(case["code"].as_str().context("a code")?.to_owned())
    }

    fn url(&self, code: &str) -> String {
        self.hub.url(&format!("/api/v1/cases/{code}/attachments"))
    }

    /// Sends a file.
    async fn send(
        &self,
        token: &str,
        code: &str,
        name: &str,
        content_type: &str,
        content: &[u8],
    ) -> Result<(u16, Value)> {
        let mut url = url::Url::parse(&self.url(code))?;
        url.query_pairs_mut().append_pair("name", name);
        let request = self.hub.client()?.post(url).bearer_auth(token);
        let request = request.header("content-type", content_type);
        answered(request.body(content.to_vec()).send().await?).await
    }

    /// Adds a file to the case: its number.
    async fn add(&self, name: &str, content_type: &str, content: &[u8]) -> Result<i64> {
        let sent = self.send(&self.dispatcher, &self.code, name, content_type, content);
        let (status, answer) = sent.await?;
        ensure!(status == 201, "{status} {answer}");
        answer["number"].as_i64().context("a number")
    }

    async fn fetch(&self, token: &str, code: &str, number: i64) -> Result<Response> {
        let url = format!("{}/{number}?reason=%E5%8A%9E%E6%A1%88", self.url(code));
        Ok(self
            .hub
            .client()?
            .get(url)
            .bearer_auth(token)
            .send()
            .await?)
    }

    async fn files(&self, token: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/cases/{}/attachments", self.code);
        let (status, page) = self.get(&path, token).await?;
        ensure!(status == 200, "{page}");
        Ok(page["items"].as_array().context("items")?.clone())
    }

    fn on_disk(&self) -> Result<Vec<PathBuf>> {
        files_under(&self.data().join("attachments"))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("hub/data")
    }
}

/// It is refused while its body has not come to its end.
async fn refused_as_too_large(request: reqwest::RequestBuilder) -> Result<()> {
    let answer = tokio::time::timeout(Duration::from_secs(20), request.send());
    let (status, problem) = answered(answer.await??).await?;
    assert_eq!(
        (status, kind(&problem)),
        (413, "attachment-size"),
        "{problem}"
    );
    Ok(())
}

async fn answered(answer: Response) -> Result<(u16, Value)> {
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).context(text)?))
}

/// The files of cases in a directory, by their digests.
fn files_under(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in std::fs::read_dir(root)? {
        let directory = directory?.path();
        if !directory.is_dir() || directory.ends_with("incoming") {
            continue;
        }
        for file in std::fs::read_dir(directory)? {
            found.push(file?.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Days from now, for a clock.
fn at(days: i64) -> Result<Vec<String>> {
    let time = jiff::Timestamp::from_millisecond(now_ms() + days * DAY_MS)?;
    let text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    faketime(&["TZ=UTC".to_owned(), format!("FAKETIME=@{text}")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_as_it_was_to_who_may_have_it_and_says_nothing_on_the_disk() -> Result<()>
{
    let desk = Desk::new("").await?;
    let text = "双方于三月达成协议。\n".repeat(20_000);
    let number = desk
        .add(
            "王小明 协议.txt",
            "text/plain; charset=utf-8",
            text.as_bytes(),
        )
        .await?;
    // Sent again it is the same; under another name it is another of the case, and one file.
    assert_eq!(
        desk.add("王小明 协议.txt", "text/plain", text.as_bytes())
            .await?,
        number
    );
    let other = desk.add("副本.txt", "text/plain", text.as_bytes()).await?;
    assert_ne!(other, number);
    let on_disk = desk.on_disk()?;
    assert_eq!(on_disk.len(), 1);
    let sealed = std::fs::read(&on_disk[0])?;
    ensure!(!sealed.windows(6).any(|part| part == "双方".as_bytes()));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(on_disk[0].metadata()?.permissions().mode() & 0o777, 0o600);

    let answer = desk.fetch(&desk.dispatcher, &desk.code, number).await?;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(header("content-type"), Some("text/plain"));
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        header("content-security-policy"),
        Some("default-src 'none'; sandbox")
    );
    assert_eq!(header("cache-control"), Some("no-store"));
    let wanted =
        "attachment; filename*=UTF-8''%E7%8E%8B%E5%B0%8F%E6%98%8E%20%E5%8D%8F%E8%AE%AE.txt";
    assert_eq!(header("content-disposition"), Some(wanted));
    ensure!(answer.text().await? == text);
    let audit = desk.hub.audit(&format!("case/{}", desk.code))?;
    assert_eq!(
        (audit[0]["action"].as_str(), audit[0]["reason"].as_str()),
        (Some("case.attachment"), Some("办案"))
    );

    // Lists and the log show no name; the database has none.
    let files = desk.files(&desk.dispatcher).await?;
    assert_eq!(files[0]["name"], "王**.txt");
    assert_eq!(files[0]["bytes"], text.len());
    let (_, case) = desk
        .get(&format!("/api/v1/cases/{}", desk.code), &desk.dispatcher)
        .await?;
    ensure!(!case.to_string().contains("王小明"), "{case}");
    ensure!(case["actions"][1]["action"] == "attached", "{case}");
    // A grid worker adds and may not have; a handler of another room has no such case; an operator sees a list.
    let grid = desk.user("grid", "grid", "grid-2").await?;
    let sent = desk
        .send(&grid, &desk.code, "现场.png", "image/png", PNG)
        .await?;
    assert_eq!(sent.0, 201, "{}", sent.1);
    assert_eq!(desk.fetch(&grid, &desk.code, number).await?.status(), 403);
    let stranger = desk.user("room4", "handler", "room-4").await?;
    assert_eq!(
        desk.fetch(&stranger, &desk.code, number).await?.status(),
        404
    );
    let sent = desk
        .send(&stranger, &desk.code, "x.png", "image/png", PNG)
        .await?;
    assert_eq!(sent.0, 404);
    let operator = desk.user("duty", "operator", "centre").await?;
    assert_eq!(desk.files(&operator).await?.len(), 3);
    assert_eq!(
        desk.send(&operator, &desk.code, "x.png", "image/png", PNG)
            .await?
            .0,
        403
    );
    assert_eq!(
        desk.fetch(&operator, &desk.code, number).await?.status(),
        403
    );
    assert_eq!(
        desk.fetch(&desk.dispatcher, &desk.code, 99).await?.status(),
        404
    );
    let url = format!("{}/{number}", desk.url(&desk.code));
    let answer = desk
        .hub
        .client()?
        .get(&url)
        .bearer_auth(&desk.dispatcher)
        .send()
        .await?;
    assert_eq!(answer.status(), 400, "a reason is needed");
    assert_eq!(desk.hub.client()?.get(&url).send().await?.status(), 401);
    let text = desk.hub.metrics().await?;
    assert_eq!(metric(&text, "linli_hub_attachments"), Some(3.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_or_could_do_harm_is_refused_and_leaves_nothing() -> Result<()> {
    let desk = Desk::new("[attachments]\ntypes = [\"png\", \"jpeg\", \"txt\", \"docx\"]").await?;
    let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (name, content_type, content, status, word, says) in [
        ("../x.png", "image/png", PNG, 400, "attachment-name", "path"),
        (
            "C:\\x.png",
            "image/png",
            PNG,
            400,
            "attachment-name",
            "path",
        ),
        (
            "x\u{202e}gnp.exe",
            "image/png",
            PNG,
            400,
            "attachment-name",
            "direction",
        ),
        (
            "nul.png",
            "image/png",
            PNG,
            400,
            "attachment-name",
            "device",
        ),
        ("x\0.png", "image/png", PNG, 400, "nul", "NUL"),
        ("", "image/png", PNG, 400, "attachment-name", "120"),
        ("x", "image/png", PNG, 400, "attachment-name", "ending"),
        ("x.png", "", PNG, 415, "attachment-type", "png, jpeg"),
        (
            "x.png",
            "application/octet-stream",
            PNG,
            415,
            "attachment-type",
            "octet-stream",
        ),
        (
            "x.pdf",
            "application/pdf",
            b"%PDF-1.7",
            415,
            "attachment-type",
            "not taken",
        ),
        (
            "x.svg",
            "image/svg+xml",
            b"<svg/>",
            415,
            "attachment-type",
            "svg",
        ),
        ("x.jpg", "image/png", PNG, 415, "attachment-type", "ending"),
        (
            "x.png",
            "image/png",
            b"\xff\xd8\xff\xe0",
            415,
            "attachment-type",
            "its bytes are jpeg",
        ),
        (
            "x.png",
            "image/png",
            b"MZ\x90\0\x03",
            415,
            "attachment-type",
            "executable",
        ),
        ("x.png", "image/png", b"", 415, "attachment-type", "empty"),
        (
            "x.txt",
            "text/plain",
            b"<html><script>",
            415,
            "attachment-type",
            "html",
        ),
        (
            "x.txt",
            "text/plain",
            b"<svg onload=x>",
            415,
            "attachment-type",
            "markup",
        ),
        (
            "x.docx",
            docx,
            b"PK\x03\x04rubbish",
            415,
            "attachment-type",
            "archive",
        ),
    ] {
        let sent = desk.send(&desk.dispatcher, &desk.code, name, content_type, content);
        let (found, problem) = sent.await?;
        assert_eq!(
            (found, kind(&problem)),
            (status, word),
            "{name:?} {content_type}: {problem}"
        );
        let detail = problem["detail"].as_str().context("a detail")?;
        ensure!(detail.contains(says), "{name:?} {content_type}: {detail}");
    }
    assert_eq!(desk.files(&desk.dispatcher).await?.len(), 0);
    let root = desk.data().join("attachments");
    ensure!(files_under(&root)?.is_empty());
    assert_eq!(std::fs::read_dir(root.join("incoming"))?.count(), 0);
    let text = desk.hub.metrics().await?;
    let refused = |reason: &str| {
        let name = format!("linli_hub_attachments_refused_total{{reason=\"{reason}\"}}");
        metric(&text, &name)
    };
    assert_eq!((refused("name"), refused("type")), (Some(6.0), Some(11.0)));
    let (status, problem) = desk
        .send(
            &desk.dispatcher,
            "20260101-999999",
            "x.png",
            "image/png",
            PNG,
        )
        .await?;
    assert_eq!((status, kind(&problem)), (404, "not-found"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_has_come() -> Result<()> {
    let desk = Desk::new("[attachments]\nfile_max = \"1MiB\"\ncase_max = \"2MiB\"").await?;
    let url = format!("{}?name=x.txt", desk.url(&desk.code));
    // The head says that it is too large: the body, of which there is none, is not waited for.
    let request = desk.hub.client()?.post(&url).bearer_auth(&desk.dispatcher);
    let request = request
        .header("content-type", "text/plain")
        .header("content-length", 3 << 20);
    let (sender, body) = slow_body();
    refused_as_too_large(request.body(body)).await?;
    drop(sender);
    // The head says nothing: refused where it has become too large, though it does not end.
    let (sender, body) = slow_body();
    for _ in 0..17 {
        sender.send(Ok(vec![b'x'; 64 * 1024])).await?;
    }
    let request = desk.hub.client()?.post(&url).bearer_auth(&desk.dispatcher);
    let request = request.header("content-type", "text/plain").body(body);
    refused_as_too_large(request).await?;
    drop(sender);
    // One that breaks off becomes nothing.
    let (sender, body) = slow_body();
    sender.send(Ok(b"half".to_vec())).await?;
    sender.send(Err(std::io::Error::other("gone"))).await?;
    let request = desk.hub.client()?.post(&url).bearer_auth(&desk.dispatcher);
    let request = request.header("content-type", "text/plain").body(body);
    ensure!(request.send().await.is_err());
    // What all of a case may have.
    let mebibyte = vec![b'x'; 1 << 20];
    desk.add("1.txt", "text/plain", &mebibyte).await?;
    let half = desk
        .add("2.txt", "text/plain", &vec![b'y'; 700_000])
        .await?;
    let sent = desk.send(
        &desk.dispatcher,
        &desk.code,
        "3.txt",
        "text/plain",
        &mebibyte,
    );
    let (status, problem) = sent.await?;
    assert_eq!(
        (status, kind(&problem)),
        (409, "case-too-large"),
        "{problem}"
    );
    let path = format!("/api/v1/cases/{}/attachments/{half}/remove", desk.code);
    let removed = desk
        .post(&path, &desk.dispatcher, &json!({ "reason": "重复" }))
        .await?;
    assert_eq!(removed.0, 200, "{}", removed.1);
    desk.add("3.txt", "text/plain", &mebibyte).await?;
    until("what broke off to be gone", async || {
        let incoming = std::fs::read_dir(desk.data().join("attachments/incoming"))?;
        Ok((incoming.count() == 0).then_some(()))
    })
    .await
}

type Part = std::io::Result<Vec<u8>>;

/// A body whose parts come when they are sent, and that ends when its sender does.
fn slow_body() -> (tokio::sync::mpsc::Sender<Part>, reqwest::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Part>(32);
    let parts = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|part| (part, receiver))
    });
    (sender, reqwest::Body::wrap_stream(parts))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_add_at_once_are_both_in_the_log_and_a_removal_says_why() -> Result<()> {
    let desk = Desk::new("").await?;
    let handler = desk.user("super", "supervisor", "centre").await?;
    let contents: Vec<String> = (0..6).map(|number| format!("第 {number} 份")).collect();
    let send = |at: usize| {
        let token = if at.is_multiple_of(2) {
            &desk.dispatcher
        } else {
            &handler
        };
        let name = format!("{at}.txt");
        let content = contents[at].clone();
        let desk = &desk;
        async move {
            desk.send(token, &desk.code, &name, "text/plain", content.as_bytes())
                .await
        }
    };
    let (a, b, c, d, e, f) = tokio::join!(send(0), send(1), send(2), send(3), send(4), send(5));
    for (status, answer) in [a?, b?, c?, d?, e?, f?] {
        assert_eq!(status, 201, "{answer}");
    }
    let files = desk.files(&handler).await?;
    let mut numbers: Vec<i64> = files
        .iter()
        .filter_map(|file| file["number"].as_i64())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    let path = |number: i64| format!("/api/v1/cases/{}/attachments/{number}/remove", desk.code);
    let grid = desk.user("grid", "grid", "grid-2").await?;
    let reason = json!({ "reason": "发错了" });
    assert_eq!(desk.post(&path(4), &grid, &reason).await?.0, 403);
    let (status, problem) = desk
        .post(&path(4), &handler, &json!({ "reason": " " }))
        .await?;
    assert_eq!((status, kind(&problem)), (400, "case-needs-text"));
    let (status, removed) = desk.post(&path(4), &handler, &reason).await?;
    assert_eq!((status, removed["version"].as_i64()), (200, Some(8)));
    let (status, problem) = desk.post(&path(4), &handler, &reason).await?;
    assert_eq!((status, kind(&problem)), (400, "case-unknown"));
    assert_eq!(desk.fetch(&handler, &desk.code, 4).await?.status(), 404);
    let (_, case) = desk
        .get(&format!("/api/v1/cases/{}", desk.code), &handler)
        .await?;
    let last = case["actions"]
        .as_array()
        .and_then(|actions| actions.last());
    let last = last.context("an action")?;
    assert_eq!(
        (&last["action"], &last["note"]),
        (&json!("detached"), &json!("#4：发错了"))
    );
    // A case that is closed takes nothing.
    for wanted in ["decline"] {
        let body = json!({ "version": 8, "move": { "move": wanted, "reason": "不属本中心" } });
        let path = format!("/api/v1/cases/{}/moves", desk.code);
        assert_eq!(desk.post(&path, &desk.dispatcher, &body).await?.0, 200);
    }
    let (status, problem) = desk
        .send(&handler, &desk.code, "x.png", "image/png", PNG)
        .await?;
    assert_eq!((status, kind(&problem)), (409, "case-state"), "{problem}");
    assert_eq!(desk.post(&path(5), &handler, &reason).await?.0, 409);
    assert_eq!(desk.fetch(&handler, &desk.code, 5).await?.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_case_for_named_handlers_are_there_for_nobody_else() -> Result<()> {
    let mut desk = Desk::new("[cases]\nnamed_handlers = [\"wang\"]").await?;
    let wang = desk.user("wang", "supervisor", "centre").await?;
    let body = json!({ "kind": "01-dv", "title": "家事", "place": "yuyuan-b3" });
    let (status, case) = desk.post("/api/v1/cases", &wang, &body).await?;
    ensure!(status == 201, "{case}");
    desk.code = case["code"].as_str().context("a code")?.to_owned();
    let (status, added) = desk
        .send(&wang, &desk.code, "伤情.png", "image/png", PNG)
        .await?;
    assert_eq!(status, 201, "{added}");
    let number = added["number"].as_i64().context("a number")?;
    let path = format!("/api/v1/cases/{}/attachments", desk.code);
    assert_eq!(desk.get(&path, &desk.dispatcher).await?.0, 404);
    assert_eq!(
        desk.fetch(&desk.dispatcher, &desk.code, number)
            .await?
            .status(),
        404
    );
    let sent = desk
        .send(&desk.dispatcher, &desk.code, "x.png", "image/png", PNG)
        .await?;
    assert_eq!(sent.0, 404);
    let removal = json!({ "reason": "x" });
    let remove = format!("{path}/{number}/remove");
    assert_eq!(desk.post(&remove, &desk.dispatcher, &removal).await?.0, 404);
    assert_eq!(
        desk.fetch(&wang, &desk.code, number).await?.bytes().await?,
        PNG
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_a_clear_error_and_check_names_its_case() -> Result<()> {
    let desk = Desk::new("").await?;
    let number = desk.add("a.png", "image/png", PNG).await?;
    let missing = desk.add("b.txt", "text/plain", "一".as_bytes()).await?;
    let good = desk.add("c.txt", "text/plain", "二".as_bytes()).await?;
    let checked = run(desk.hub.command()?.args(["db", "check"]))?;
    ensure!(checked.contains("whole: 3"), "{checked}");
    let mut connection = connect(desk.hub.database_url()).await?;
    let digest = async |connection: &mut sqlx::AnyConnection, number: i64| {
        let row = sqlx::query("SELECT digest FROM attachments WHERE number = $1");
        let row = row.bind(number).fetch_one(connection).await?;
        anyhow::Ok(row.get::<String, _>(0))
    };
    let (first, second) = (
        digest(&mut connection, number).await?,
        digest(&mut connection, missing).await?,
    );
    let place = |digest: &str| {
        desk.data()
            .join("attachments")
            .join(&digest[..2])
            .join(digest)
    };
    let mut bytes = std::fs::read(place(&first))?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(place(&first), bytes)?;
    std::fs::remove_file(place(&second))?;
    for (number, says) in [(number, "damaged"), (missing, "missing")] {
        let answer = desk.fetch(&desk.dispatcher, &desk.code, number).await?;
        let (status, problem) = answered(answer).await?;
        assert_eq!((status, kind(&problem)), (500, "attachment-unreadable"));
        let detail = problem["detail"].as_str().context("a detail")?;
        ensure!(
            detail.contains(says) && detail.contains("backup"),
            "{detail}"
        );
    }
    assert_eq!(
        desk.fetch(&desk.dispatcher, &desk.code, good)
            .await?
            .status(),
        200
    );
    let (code, said) = outcome(desk.hub.command()?.args(["db", "check"]))?;
    ensure!(
        code == 65 && said.contains("2 files of cases"),
        "{code} {said}"
    );
    for number in [number, missing] {
        ensure!(
            said.contains(&format!("case {} #{number}", desk.code)),
            "{said}"
        );
    }
    // Sent again, it is whole again.
    assert_eq!(desk.add("a.png", "image/png", PNG).await?, number);
    assert_eq!(
        desk.fetch(&desk.dispatcher, &desk.code, number)
            .await?
            .status(),
        200
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_the_files_and_a_restore_brings_them_back() -> Result<()> {
    if has_no_file() {
        return Ok(());
    }
    let mut desk = Desk::new("").await?;
    let number = desk.add("a.png", "image/png", PNG).await?;
    let backups = desk.directory.path().join("backups");
    std::fs::create_dir(&backups)?;
    let first = backups.join("1.db");
    let said = run(desk.hub.command()?.args(["db", "backup"]).arg(&first))?;
    ensure!(said.contains("copied now: 1"), "{said}");
    desk.add("b.txt", "text/plain", "一".as_bytes()).await?;
    let second = backups.join("2.db");
    let said = run(desk.hub.command()?.args(["db", "backup"]).arg(&second))?;
    ensure!(
        said.contains("files of cases: 2") && said.contains("copied now: 1"),
        "{said}"
    );
    let said = run(desk.hub.command()?.args(["db", "check"]).arg(&second))?;
    ensure!(said.contains("whole: 2") && said.contains("good"), "{said}");
    let copied = files_under(&backups.join("attachments"))?;
    assert_eq!(copied.len(), 2);
    // Another directory: the database and its files, as a copy has them.
    let other = desk.directory.path().join("copy");
    std::fs::create_dir(&other)?;
    run(desk
        .hub
        .command()?
        .args(["db", "copy", "--to"])
        .arg(other.join("hub.db")))?;
    assert_eq!(files_under(&other.join("attachments"))?.len(), 2);

    desk.hub.stop()?;
    std::fs::remove_dir_all(desk.data().join("attachments"))?;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", desk.hub.database().display()));
    }
    run(desk.hub.command()?.args(["db", "restore"]).arg(&second))?;
    desk.hub.start().await?;
    let answer = desk.fetch(&desk.dispatcher, &desk.code, number).await?;
    assert_eq!(answer.bytes().await?, PNG);
    assert_eq!(desk.on_disk()?.len(), 2);

    // A backup that has lost one says of which case, and still brings back all others.
    desk.hub.stop()?;
    std::fs::remove_file(&copied[0])?;
    let (code, said) = outcome(desk.hub.command()?.args(["db", "check"]).arg(&second))?;
    ensure!(
        code == 65 && said.contains(&format!("case {}", desk.code)),
        "{code} {said}"
    );
    std::fs::remove_dir_all(desk.data().join("attachments"))?;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", desk.hub.database().display()));
    }
    let (code, said) = outcome(desk.hub.command()?.args(["db", "restore"]).arg(&second))?;
    ensure!(
        code == 65 && said.contains("the rest is there"),
        "{code} {said}"
    );
    assert_eq!(desk.on_disk()?.len(), 1);
    desk.hub.start().await?;
    assert_eq!(desk.files(&desk.dispatcher).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_case_refers_to_goes_with_a_proof_and_what_one_has_stays() -> Result<()> {
    let mut desk = Desk::new("").await?;
    let second = desk.register("02").await?;
    let removed = desk.add("a.png", "image/png", PNG).await?;
    let shared = desk.add("b.txt", "text/plain", "共有".as_bytes()).await?;
    let sent = desk.send(
        &desk.dispatcher,
        &second,
        "c.txt",
        "text/plain",
        "共有".as_bytes(),
    );
    assert_eq!(sent.await?.0, 201);
    assert_eq!(desk.on_disk()?.len(), 2);
    for number in [removed, shared] {
        let path = format!("/api/v1/cases/{}/attachments/{number}/remove", desk.code);
        let removed = desk
            .post(&path, &desk.dispatcher, &json!({ "reason": "撤回" }))
            .await?;
        assert_eq!(removed.0, 200, "{}", removed.1);
    }
    // What has just come may be about to be referred to.
    run(desk.hub.command()?.args(["retention", "run"]))?;
    assert_eq!(desk.on_disk()?.len(), 2);
    // The hub is killed between a file and its action: somebody else writes, so the commit waits.
    let mut writes = connect(desk.hub.database_url()).await?;
    let begin = if has_no_file() {
        "BEGIN; SELECT pg_advisory_xact_lock(5135721, 1)"
    } else {
        "BEGIN IMMEDIATE"
    };
    sqlx::raw_sql(begin).execute(&mut writes).await?;
    let url = format!("{}?name=d.txt", desk.url(&desk.code));
    let request = desk.hub.client()?.post(url).bearer_auth(&desk.dispatcher);
    let request = request.header("content-type", "text/plain").body("孤儿");
    let sent = tokio::spawn(request.send());
    until("the file to be on the disk", async || {
        Ok((desk.on_disk()?.len() == 3).then_some(()))
    })
    .await?;
    desk.hub.kill()?;
    ensure!(sent.await?.is_err(), "it was not acknowledged");
    sqlx::raw_sql("ROLLBACK").execute(&mut writes).await?;
    desk.hub.wrapper = at(1)?;
    let said = run(desk
        .hub
        .command()?
        .args(["retention", "run", "--dry-run", "--json"]))?;
    ensure!(
        said.contains(r#""class":"attachments","dry_run":true,"rows":2"#),
        "{said}"
    );
    assert_eq!(desk.on_disk()?.len(), 3);
    run(desk.hub.command()?.args(["retention", "run"]))?;
    assert_eq!(desk.on_disk()?.len(), 1);
    let proofs = run(desk.hub.command()?.args(["retention", "list", "--json"]))?;
    let proof: Value = serde_json::from_str(proofs.lines().next().context("a proof")?)?;
    assert_eq!(
        (&proof["class"], &proof["deleted"]),
        (&json!("attachments"), &json!(2))
    );
    ensure!(!proof["ended_ms"].is_null(), "{proof}");
    run(desk.hub.command()?.args(["retention", "run"]))?;
    assert_eq!(desk.on_disk()?.len(), 1);

    // The case that has the other is closed, and its time passes: file and case go in one run of the job.
    desk.hub.wrapper = Vec::new();
    desk.hub.start().await?;
    let body = json!({ "version": 2, "move": { "move": "decline", "reason": "不属本中心" } });
    let path = format!("/api/v1/cases/{second}/moves");
    let declined = desk.post(&path, &desk.dispatcher, &body).await?;
    assert_eq!(declined.0, 200, "{}", declined.1);
    desk.hub.stop()?;
    desk.hub.wrapper = at(1500)?;
    // A clock that has jumped deletes nothing before somebody says that it is right.
    desk.hub.trust_clock()?;
    desk.hub.start().await?;
    until("the job to have deleted the file", async || {
        let text = desk.hub.metrics().await?;
        let deleted = metric(&text, "linli_hub_attachment_files_deleted_total");
        Ok((deleted == Some(1.0)).then_some(()))
    })
    .await?;
    assert_eq!(desk.on_disk()?.len(), 0);
    let verified = run(desk.hub.command()?.args(["audit", "verify"]))?;
    ensure!(verified.contains("whole"), "{verified}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_files_come_leaves_no_case_without_its_file() -> Result<()> {
    let mut desk = Desk::new("").await?;
    let mut answered_files = 0;
    for round in 0..5 {
        let contents: Vec<Vec<u8>> = (0..8)
            .map(|number| format!("{round}/{number}/").repeat(60_000).into_bytes())
            .collect();
        let mut sends = tokio::task::JoinSet::new();
        for (number, content) in contents.into_iter().enumerate() {
            let url = format!("{}?name={round}-{number}.txt", desk.url(&desk.code));
            let request = desk.hub.client()?.post(url).bearer_auth(&desk.dispatcher);
            let request = request.header("content-type", "text/plain").body(content);
            sends.spawn(async move {
                let answer = request.send().await;
                answer.is_ok_and(|answer| answer.status() == 201)
            });
        }
        // As soon as some are there the others are in the middle.
        for _ in 0..=round {
            if sends.join_next().await.context("one of them")?? {
                answered_files += 1;
            }
        }
        desk.hub.kill()?;
        while let Some(answer) = sends.join_next().await {
            answered_files += usize::from(answer?);
        }
        desk.hub.start().await?;
        let incoming = std::fs::read_dir(desk.data().join("attachments/incoming"))?;
        assert_eq!(incoming.count(), 0, "a start clears what was in the middle");
    }
    let files = desk.files(&desk.dispatcher).await?;
    ensure!(
        files.len() >= answered_files && answered_files > 0,
        "{answered_files}"
    );
    let checked = run(desk.hub.command()?.args(["db", "check"]))?;
    ensure!(
        checked.contains(&format!("whole: {}", files.len())),
        "{checked}"
    );
    println!(
        "{answered_files} answered, {} there, {} on the disk",
        files.len(),
        desk.on_disk()?.len()
    );
    Ok(())
}
