//! A real OpenID provider (`tests/oidc/provider.mjs`), and a browser that signs in at it.
use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Hub, Process, free_tcp_port, http, project, until};

const CLIENT_SECRET: &str = "the secret of the district's hub";

/// The provider's modules, where `make test` puts them; a run without them says so.
pub fn oidc_modules() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let modules = PathBuf::from(home).join(".cache/linli/oidc-provider/node_modules");
    let node = Command::new("node").arg("--version").output();
    if modules.join("oidc-provider").exists() && node.is_ok_and(|node| node.status.success()) {
        return Some(modules);
    }
    println!("skipped: oidc-provider is not there; `make test` installs it from npm");
    None
}

/// A provider with a certificate of a private CA.
pub struct OidcProvider {
    directory: PathBuf,
    /// Its port, the same for all its runs.
    pub port: u16,
    settings: Value,
    state: Value,
    process: Option<Process>,
}

impl OidcProvider {
    /// Makes its files, for this hub; starts nothing. Without `claims_in_id_token` it keeps to the letter of the
    /// specification, and tells of people at its userinfo endpoint only.
    pub fn new(
        directory: &Path,
        modules: &Path,
        hub: &Hub,
        claims_in_id_token: bool,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let port = free_tcp_port()?;
        let file = |name: &str| directory.join(name);
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::<String>::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(file("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?
            .signed_by(&key, &Issuer::new(ca, ca_key))?;
        std::fs::write(file("certificate.pem"), certificate.pem())?;
        std::fs::write(file("key.pem"), key.serialize_pem())?;
        std::fs::write(file("secret"), format!("{CLIENT_SECRET}\n"))?;
        std::fs::set_permissions(file("secret"), std::fs::Permissions::from_mode(0o600))?;
        let settings = json!({
            "modules": modules, "port": port, "certificate": file("certificate.pem"), "key": file("key.pem"),
            "client_id": "linli", "client_secret": CLIENT_SECRET,
            "redirect_uri": format!("https://localhost:{}/api/v1/sessions/oidc/callback", hub.api_port),
            "claims_in_id_token": claims_in_id_token, "state": file("state.json"),
        });
        let provider = Self {
            directory: directory.to_owned(),
            port,
            settings,
            state: json!({ "accounts": {}, "fault": "" }),
            process: None,
        };
        provider.write("settings.json", &provider.settings)?;
        provider.write("state.json", &provider.state)?;
        Ok(provider)
    }

    fn write(&self, name: &str, value: &Value) -> Result<()> {
        let (path, new) = (self.directory.join(name), self.directory.join("new"));
        std::fs::write(&new, value.to_string())?;
        Ok(std::fs::rename(new, path)?)
    }

    /// What the hub's config says of it; `more` are other keys of the table.
    pub fn config(&self, more: &str) -> String {
        let file = |name: &str| self.directory.join(name);
        format!(
            "[oidc]\nissuer = \"https://localhost:{}\"\nclient_id = \"linli\"\nclient_secret_file = {:?}\n\
             redirect_uri = {}\nca_file = {:?}\n{more}\n",
            self.port,
            file("secret"),
            self.settings["redirect_uri"],
            file("ca.pem"),
        )
    }

    /// An account that it has from now on, as it is now.
    pub fn account(&mut self, id: &str, login: &str, groups: &[&str]) -> Result<()> {
        self.state["accounts"][id] =
            json!({ "preferred_username": login, "name": "王某", "groups": groups });
        self.write("state.json", &self.state)
    }

    /// What is wrong with it from now on: `silent`, `huge`, `plain`, or nothing.
    pub fn fault(&mut self, fault: &str) -> Result<()> {
        self.state["fault"] = json!(fault);
        self.write("state.json", &self.state)
    }

    /// Knows the hub by another secret from its next start on.
    pub fn forget_the_secret(&mut self) -> Result<()> {
        self.settings["client_secret"] = json!("another secret than the hub has");
        self.write("settings.json", &self.settings)
    }

    /// Starts it, with new keys, and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = Command::new("node");
        command
            .arg(project("tests/oidc/provider.mjs"))
            .arg(self.directory.join("settings.json"));
        let log = self.directory.join("provider.log");
        let mut process = Process::start("the OpenID provider", &mut command, &log)?;
        let browser = Browser::new(&[&self.directory.join("ca.pem")])?;
        let url = format!(
            "https://localhost:{}/.well-known/openid-configuration",
            self.port
        );
        until("the OpenID provider", async || {
            process.check_alive()?;
            let answer = browser.client.get(&url).send().await;
            Ok(answer
                .is_ok_and(|answer| answer.status() == 200)
                .then_some(()))
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// A browser that trusts it and this hub, with no cookies yet.
    pub fn browser(&self, hub: &Hub) -> Result<Browser> {
        Browser::new(&[&self.directory.join("ca.pem"), &hub.root()])
    }
}

/// One answer, as a browser sees it.
#[derive(Debug)]
pub struct Seen {
    /// Status.
    pub status: u16,
    /// Where it sends the browser.
    pub location: Option<String>,
    /// What it is to keep.
    pub cookies: Vec<String>,
    /// The type of the body.
    pub kind: String,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }

    /// The last part of a problem's type.
    pub fn problem(&self) -> Result<String> {
        let problem = self.json()?;
        let kind = problem["type"].as_str().context("a problem")?;
        Ok(kind.rsplit(':').next().unwrap_or_default().to_owned())
    }
}

/// Follows nothing by itself, and keeps its cookies, those of each port for themselves.
pub struct Browser {
    client: reqwest::Client,
    cookies: HashMap<u16, HashMap<String, String>>,
    /// What it accepts.
    pub accept: &'static str,
}

impl Browser {
    fn new(roots: &[&Path]) -> Result<Self> {
        let mut certificates = Vec::new();
        for root in roots {
            certificates.push(reqwest::Certificate::from_pem(&std::fs::read(root)?)?);
        }
        let client = http()
            .tls_certs_only(certificates)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            cookies: HashMap::new(),
            accept: "application/json",
        })
    }

    /// The cookies of a hub or provider, as they are sent to it.
    pub fn cookies(&mut self, port: u16) -> &mut HashMap<String, String> {
        self.cookies.entry(port).or_default()
    }

    /// One request.
    pub async fn get(&mut self, url: &str) -> Result<Seen> {
        self.ask(Method::GET, url, None).await
    }

    async fn ask(&mut self, method: Method, url: &str, form: Option<String>) -> Result<Seen> {
        let url: reqwest::Url = url.parse()?;
        let port = url.port().context("a port")?;
        let jar = self.cookies.entry(port).or_default();
        let sent: Vec<String> = jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = self
            .client
            .request(method, url.clone())
            .header("accept", self.accept)
            .header("cookie", sent.join("; "));
        if let Some(form) = form {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
        }
        let answer = request.send().await?;
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let cookies: Vec<String> = answer
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        for cookie in &cookies {
            let pair = cookie.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie")?;
            if value.is_empty() || cookie.to_lowercase().contains("max-age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = header("location").map(|to| url.join(&to)).transpose()?;
        Ok(Seen {
            status: answer.status().as_u16(),
            location: location.map(String::from),
            cookies,
            kind: header("content-type").unwrap_or_default(),
            body: answer.text().await?,
        })
    }

    /// Begins at the hub and signs in at the provider as one of its accounts, or changes one's mind: the address at which
    /// the provider sends the browser back to the hub.
    pub async fn to_callback(&mut self, hub: &Hub, account: Option<&str>) -> Result<String> {
        let start = format!("https://localhost:{}/api/v1/sessions/oidc", hub.api_port);
        let begun = self.get(&start).await?;
        ensure!(begun.status == 303, "{begun:?}");
        self.at_provider(hub, begun.location.context("a location")?, account)
            .await
    }

    /// The part at the provider.
    pub async fn at_provider(
        &mut self,
        hub: &Hub,
        mut url: String,
        account: Option<&str>,
    ) -> Result<String> {
        let back = format!("https://localhost:{}/", hub.api_port);
        for _ in 0..10 {
            if url.starts_with(&back) {
                return Ok(url);
            }
            let mut seen = self.get(&url).await?;
            if seen.status == 200 && url.contains("/interaction/") {
                let form = account.map_or_else(String::new, |account| format!("account={account}"));
                seen = self.ask(Method::POST, &url, Some(form)).await?;
            }
            url = seen
                .location
                .with_context(|| format!("{url}: {}", seen.body))?;
        }
        anyhow::bail!("too many redirects, the last one to {url}")
    }

    /// Signs in from the beginning to the end.
    pub async fn sign_in(&mut self, hub: &Hub, account: &str) -> Result<Seen> {
        let callback = self.to_callback(hub, Some(account)).await?;
        self.get(&callback).await
    }
}
