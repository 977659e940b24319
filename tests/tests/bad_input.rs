//! Configs, tokens and commands that are wrong: each says what and how to mend it, with its exit code.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, AgentSetup, Hub, binary, is_root, metric, outcome, project, run,
};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::tempdir;

fn agent(directory: &Path, more: &str) -> Result<Agent> {
    Agent::new(&AgentSetup {
        directory,
        name: "gw-1",
        site: "yuyuan",
        hub_address: "127.0.0.1:1".to_owned(),
        listen: "127.0.0.1",
        more,
    })
}

#[test]
fn wrong_agent_configs_name_file_key_and_fix() -> Result<()> {
    for (more, says) in [
        ("[spol]\n", vec!["spol", "expected one of"]),
        ("[spool]\nquota = 5\n", vec!["quota", "512MiB"]),
        ("[spool]\nquota = \"5 apples\"\n", vec!["apples", "MiB"]),
        (
            "[spool]\nquota = \"1MiB\"\n",
            vec!["spool.quota", "at least"],
        ),
        (
            "[spool]\nquota = \"64MiB\"\ngeneration = \"4MiB\"\n",
            vec!["spool.generation", "spool.quota", "media"],
        ),
        (
            "[spool]\nseen_max = 10\n",
            vec!["spool.seen_max", "between 1000 and 250000"],
        ),
        (
            "[[source]]\nname = \"s\"\nmapping = \"mappings/doors.toml\"\n\
             hmac_secret_file = \"secrets/doors.token\"\nhmac_header = \"x signature\"\n",
            vec!["source \"s\".hmac_header", "x signature", "x-signature-256"],
        ),
        ("[[device]]\nid = \"\"\n", vec!["device[0].id", "empty"]),
        ("[log]\nformat = \"xml\"\n", vec!["xml", "json"]),
        (
            "[[device]]\nid = \"d1\"\n[[device]]\nid = \"d1\"\n",
            vec!["device[1].id", "d1", "twice"],
        ),
        (
            "[[source]]\nname = \"s\"\nmapping = \"mappings/none.toml\"\n",
            vec!["none.toml", "cannot read"],
        ),
        (
            "[[source]]\nname = \"doors\"\nmapping = \"mappings/doors.toml\"\n",
            vec!["doors", "twice"],
        ),
    ] {
        let directory = tempdir()?;
        let agent = agent(directory.path(), more)?;
        let (code, text) = outcome(agent.command()?.arg("validate"))?;
        assert!(code == 78 || code == 74, "{more}: {code} {text}");
        for word in says {
            assert!(text.contains(word), "{more}: no {word:?} in {text}");
        }
        let (run_code, _) = outcome(agent.command()?.arg("run"))?;
        assert_eq!(run_code, code, "run and validate agree");
    }
    Ok(())
}

#[test]
fn wrong_hub_configs_and_rules_name_file_key_and_fix() -> Result<()> {
    let rule = "schema = 1\n[[rule]]\nid = \"r\"\nname = \"r\"\nseverity = \"alarm\"\n";
    let count = "kind = \"count\"\ntimes = 2\non = [{ type = \"door.forced\" }]\n";
    for (rules, says) in [
        (
            format!("{rule}{count}within = \"8d\"\n"),
            vec!["within", "7d"],
        ),
        (format!("{rule}{count}"), vec!["within", "missing"]),
        (
            format!("{rule}{count}within = \"1h\"\nkey = [\"card\"]\n"),
            vec!["card", "person"],
        ),
        (
            format!("{rule}{count}within = \"1h\"\ncolour = \"red\"\n"),
            vec!["colour", "expected"],
        ),
        (
            rule.replace("alarm", "loud") + count + "within = \"1h\"\n",
            vec!["loud", "notice"],
        ),
        (
            rule.replace("\"r\"\nname", "\"fire-alarm\"\nname") + count + "within = \"1h\"\n",
            vec!["fire-alarm", "another rule"],
        ),
    ] {
        let directory = tempdir()?;
        let hub = Hub::new(directory.path())?;
        std::fs::write(directory.path().join("rules/zz.toml"), rules)?;
        for command in ["validate", "serve"] {
            let (code, text) = outcome(hub.command()?.arg(command))?;
            assert_eq!(code, 78, "{text}");
            assert!(text.contains("zz.toml"), "{text}");
            for word in &says {
                assert!(text.contains(word), "no {word:?} in {text}");
            }
        }
    }
    let directory = tempdir()?;
    let hub = Hub::new(directory.path())?;
    let (code, text) = outcome(hub.command()?.arg("init"))?;
    assert_eq!(code, 78);
    assert!(text.contains("nothing was changed"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_join_one_agent_once_and_only_at_the_hub_that_made_them() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut other = Hub::new(&directory.path().join("other"))?;
    other.start().await?;
    let address = format!("127.0.0.1:{}", hub.port);
    let token = directory.path().join("token");
    std::fs::write(&token, hub.join_token("yuyuan")?)?;
    let join = |agent: &Agent, address: &str, token: &Path| {
        outcome(
            agent
                .command()?
                .args(["join", address, "--agent", "gw-1", "--token-file"])
                .arg(token),
        )
    };

    let first = agent(&directory.path().join("a"), "")?;
    let (code, text) = outcome(first.command()?.arg("run"))?;
    assert_eq!(code, 78);
    assert!(text.contains("linli-agent join"), "{text}");
    // Another hub shows another root: both are named, and nothing is written.
    let elsewhere = format!("127.0.0.1:{}", other.port);
    let (code, text) = join(&first, &elsewhere, &token)?;
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("pins root") && text.contains("the hub shows"),
        "{text}"
    );
    assert!(!first.data().join("identity/agent.pem").exists());

    let (code, text) = join(&first, &address, &token)?;
    assert_eq!(code, 0, "{text}");
    let (code, text) = join(&first, &address, &token)?;
    assert_eq!(code, 77);
    assert!(text.contains("--force"), "{text}");
    let second = agent(&directory.path().join("b"), "")?;
    let (code, text) = join(&second, &address, &token)?;
    assert_eq!(code, 77);
    assert!(text.contains("has been used by gw-1"), "{text}");
    std::fs::write(directory.path().join("wrong"), "linli1.x.y.z")?;
    let (code, text) = join(&second, &address, &directory.path().join("wrong"))?;
    assert_eq!(code, 2);
    assert!(text.contains("not a join token"), "{text}");
    let expired = run(hub
        .command()?
        .args(["token", "create", "--site", "x", "--valid", "1ms"]))?;
    std::fs::write(directory.path().join("expired"), expired)?;
    let (code, text) = join(&second, &address, &directory.path().join("expired"))?;
    assert_eq!(code, 77);
    assert!(text.contains("expired"), "{text}");

    // Joined anew: another key with the certificate that belongs to it.
    let key = first.data().join("identity/agent.key");
    let old_key = std::fs::read(&key)?;
    std::fs::write(&token, hub.join_token("yuyuan")?)?;
    let again = outcome(
        first
            .command()?
            .args([
                "join",
                &address,
                "--agent",
                "gw-1",
                "--force",
                "--token-file",
            ])
            .arg(&token),
    )?;
    assert_eq!(again.0, 0, "{}", again.1);
    assert_ne!(std::fs::read(&key)?, old_key);
    let (code, text) = outcome(first.command()?.arg("validate"))?;
    assert_eq!(code, 0, "{text}");

    // A clock that is not set is named, and costs no token.
    std::fs::write(&token, hub.join_token("yuyuan")?)?;
    let mut unset = agent(&directory.path().join("c"), "")?;
    unset.wrapper = ["faketime", "-m", "1970-01-01 08:00:00"]
        .map(str::to_owned)
        .to_vec();
    let (code, text) = join(&unset, &address, &token)?;
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("1970-01-01") && text.contains("NTP"),
        "{text}"
    );
    unset.wrapper.clear();
    let (code, text) = outcome(
        unset
            .command()?
            .args(["join", &address, "--agent", "gw-2", "--token-file"])
            .arg(&token),
    )?;
    assert_eq!(code, 0, "{text}");

    // The key is the agent's alone, and a certificate that cannot be read is named.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key)?.permissions());
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&key, "no key")?;
    let (code, text) = outcome(first.command()?.arg("validate"))?;
    assert_eq!(code, 78);
    assert!(text.contains("agent.key") && text.contains("PEM"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_pass_promtool_and_commands_print_completions_and_man_pages() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let time = jiff::Timestamp::now().to_string();
    let event = json!({ "serial": "1", "type": "fire", "building": "1", "time": time });
    assert_eq!(agent.push(&[event]).await?.status, 200);
    agent.drained().await?;
    for text in [hub.metrics().await?, agent.metrics().await?] {
        let file = directory.path().join("metrics");
        std::fs::write(&file, text)?;
        let (code, said) = outcome(
            Command::new("sh")
                .args(["-c", "promtool check metrics < \"$0\""])
                .arg(&file),
        )?;
        assert_eq!((code, said.trim()), (0, ""));
    }
    let figures = agent.metrics().await?;
    assert!(metric(&figures, "process_open_fds") > Some(3.0));
    assert!(metric(&figures, "process_resident_memory_bytes") > Some(1e6));
    assert!(metric(&figures, "process_start_time_seconds") > Some(1.6e9));
    for command in [agent.command()?, hub.command()?] {
        let program = command.get_program().to_owned();
        let name = Path::new(&program)
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        for shell in ["bash", "zsh", "fish"] {
            let script = run(Command::new(&program).args(["completions", shell]))?;
            assert!(script.contains(&name), "{shell}");
        }
        let pages = directory.path().join(&name);
        run(Command::new(&program).arg("man").arg(&pages))?;
        assert!(pages.join(format!("{name}.1")).exists());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let sample = project("tests/data/police-calls.csv").display().to_string();
    let mapping = project("configs/mappings/police-calls.toml");
    let mapping = mapping.display().to_string();
    for (arguments, code) in [
        (vec!["completions", "bash"], 0),
        (vec!["status"], 0),
        (vec!["status", "--json"], 0),
        (vec!["validate"], 0),
        (vec!["import", &sample, "--mapping", &mapping], 65),
    ] {
        // A pipe whose other end is closed already, as `head -1` leaves it sooner or later.
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = agent
            .command()?
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(said, "", "{arguments:?}");
    }
    Ok(())
}

#[test]
fn an_identity_that_this_user_may_not_see_is_not_taken_for_none() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let agent = agent(directory.path(), "")?;
    std::fs::create_dir(agent.data())?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open)?;
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(agent.data(), closed)?;
    // Where that user can run it, wherever it was built.
    let binary = directory.path().join("linli-agent");
    std::fs::copy(linli_tests::harness::binary("linli-agent")?, &binary)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let (code, text) = outcome(
        command
            .arg(binary)
            .arg("--config")
            .arg(agent.config())
            .arg("validate"),
    )?;
    assert_eq!(code, 74, "{text}");
    assert!(
        text.contains("cannot look for") && text.contains("agent.pem"),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_shipped_configs_are_valid_and_name_every_default() -> Result<()> {
    for (program, file) in [
        ("linli-agent", "configs/agent.toml"),
        ("linli-hub", "configs/hub.toml"),
        ("linli-hub", "configs/hub-minimal.toml"),
    ] {
        let binary = linli_tests::harness::binary(program)?;
        let (code, text) = outcome(
            Command::new(binary)
                .arg("--config")
                .arg(project(file))
                .arg("validate"),
        )?;
        assert_eq!(code, 0, "{file}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hub_on_the_same_data_is_refused_and_so_is_a_name_that_is_none() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    // Other ports: only the data is the same.
    let second = directory.path().join("second.toml");
    let config = std::fs::read_to_string(hub.config())?;
    let free = || Ok::<_, anyhow::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    let config = config
        .replace(&hub.port.to_string(), &free()?.port().to_string())
        .replace(&hub.api_port.to_string(), &free()?.port().to_string())
        .replace(&hub.metrics_port.to_string(), &free()?.port().to_string());
    std::fs::write(&second, config)?;
    let rules = directory.path().join("rules");
    std::fs::create_dir(&rules)?;
    let hub_with = |config: &Path, words: &[&str]| {
        outcome(
            Command::new(binary("linli-hub")?)
                .arg("--config")
                .arg(config)
                .args(words),
        )
    };
    let (code, said) = hub_with(&second, &["serve"])?;
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("in use by another process"), "{said}");

    // A name that was forgotten is put right without a new root.
    let root = std::fs::read(hub.root())?;
    let (code, said) = hub_with(&hub.config(), &["init", "--name", "hub.example"])?;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("--reissue"), "{said}");
    let (code, said) = hub_with(&hub.config(), &["init", "--reissue", "--name", "bad name"])?;
    assert_eq!(code, 2, "{said}");
    let (code, said) = hub_with(
        &hub.config(),
        &["init", "--reissue", "--name", "hub.example"],
    )?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("localhost, 127.0.0.1, hub.example"), "{said}");
    assert_eq!(std::fs::read(hub.root())?, root);
    hub.stop()?;
    hub.start().await?;
    let (status, _) = hub.api("/api/v1/agents").await?;
    assert_eq!(status, 200);
    Ok(())
}
