//! `[oidc]`: signing in by OpenID Connect at a provider. Without the table there is none, and passwords serve.
//!
//! The client's secret stands in a file that only its owner may read; it is read when the config is loaded.
//! Limits: [`SCOPES_MAX`] scopes, [`GROUPS_MAX`] groups.
use linli_shared::service::config::Span;
use linli_shared::service::tls;
use openidconnect::{ClientId, ClientSecret, IssuerUrl, RedirectUrl, Scope};
use rustls::RootCertStore;
use serde::Deserialize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use url::Url;

use linli_domain::rights::Role;
use linli_shared::service::config::WrongValue;

/// Where the provider sends browsers back to, on the hub.
pub const CALLBACK: &str = "/api/v1/sessions/oidc/callback";
/// Scopes that are asked for, beside `openid`.
const SCOPES_MAX: usize = 20;
/// Entries of the map of groups.
const GROUPS_MAX: usize = 200;
/// A shorter secret is a mistake.
const SECRET_BYTES_MIN: usize = 8;
/// The longest id of a client, bytes.
const CLIENT_ID_BYTES_MAX: usize = 200;
/// By how much the provider's clock may be off at most.
const LEEWAY_MAX: Span = Span::from_secs(300);

/// `[oidc]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcEntry {
    issuer: String,
    client_id: String,
    client_secret_file: PathBuf,
    redirect_uri: String,
    #[serde(default = "default_scopes")]
    scopes: Vec<String>,
    #[serde(default = "default_login_claim")]
    login_claim: String,
    #[serde(default = "default_groups_claim")]
    groups_claim: String,
    #[serde(default)]
    group: Vec<Group>,
    ca_file: Option<PathBuf>,
    #[serde(default = "default_leeway")]
    leeway: Span,
}

/// `[[oidc.group]]`: what those of a group are made at their first sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A value of the claim.
    pub value: String,
    /// Role.
    pub role: Role,
    /// Id of the organisation; empty: the centre's.
    #[serde(default)]
    pub org: String,
}

/// What has been checked.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// Who says who somebody is.
    pub issuer: IssuerUrl,
    /// This hub, for the provider.
    pub client_id: ClientId,
    /// Its proof.
    pub client_secret: ClientSecret,
    /// Where browsers come back to.
    pub redirect: RedirectUrl,
    /// What is asked for beside `openid`.
    pub scopes: Vec<Scope>,
    /// The claim that names the login.
    pub login_claim: String,
    /// The claim with the groups.
    pub groups_claim: String,
    /// Who is made a user at their first sign-in; none: nobody.
    pub groups: Vec<Group>,
    /// Roots beside the system's.
    pub roots: RootCertStore,
    /// By how much the provider's clock may be off, milliseconds.
    pub leeway_ms: i64,
}

fn default_scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

fn default_login_claim() -> String {
    "preferred_username".to_owned()
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}

fn default_leeway() -> Span {
    Span::from_secs(60)
}

/// Checks the table with the files that it names; paths are relative to `directory`.
pub fn oidc(entry: OidcEntry, directory: &Path) -> Result<OidcConfig, WrongValue> {
    let wrong = |key: &str, message: String| (format!("oidc.{key}"), message);
    let issuer = https(&entry.issuer).map_err(|message| wrong("issuer", message))?;
    if issuer.query().is_some() {
        return Err(wrong(
            "issuer",
            format!(
                "{:?} has a query: write it as its own /.well-known/openid-configuration does",
                entry.issuer
            ),
        ));
    }
    let redirect = https(&entry.redirect_uri).map_err(|message| wrong("redirect_uri", message))?;
    if !redirect.path().ends_with(CALLBACK) || redirect.query().is_some() {
        return Err(wrong(
            "redirect_uri",
            format!("must end with {CALLBACK}, like \"https://hub.example:8443{CALLBACK}\""),
        ));
    }
    let id = &entry.client_id;
    if id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(wrong(
            "client_id",
            format!(
                "is the id under which the provider knows this hub, 1 to {CLIENT_ID_BYTES_MAX} bytes"
            ),
        ));
    }
    let is_scope = |scope: &String| {
        let is_letter = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\');
        !scope.is_empty() && scope.chars().all(is_letter)
    };
    if entry.scopes.len() > SCOPES_MAX || !entry.scopes.iter().all(is_scope) {
        return Err(wrong(
            "scopes",
            format!(
                "at most {SCOPES_MAX} words, like [\"profile\", \"groups\"]; openid is always asked for"
            ),
        ));
    }
    for (key, claim) in [
        ("login_claim", &entry.login_claim),
        ("groups_claim", &entry.groups_claim),
    ] {
        if claim.is_empty() {
            return Err(wrong(key, "is empty: write the name of a claim".to_owned()));
        }
    }
    if entry.group.len() > GROUPS_MAX || entry.group.iter().any(|group| group.value.is_empty()) {
        return Err(wrong(
            "group",
            format!("at most {GROUPS_MAX} entries, each with a value that is not empty"),
        ));
    }
    if entry.leeway > LEEWAY_MAX {
        return Err(wrong(
            "leeway",
            "must be \"5m\" at most: put the clocks right".to_owned(),
        ));
    }
    let secret = secret(&directory.join(&entry.client_secret_file))
        .map_err(|message| wrong("client_secret_file", message))?;
    let roots = match &entry.ca_file {
        Some(file) => tls::roots(&directory.join(file))
            .map_err(|error| wrong("ca_file", error.to_string()))?,
        None => RootCertStore::empty(),
    };
    Ok(OidcConfig {
        issuer: IssuerUrl::new(entry.issuer).map_err(|error| wrong("issuer", error.to_string()))?,
        client_id: ClientId::new(entry.client_id),
        client_secret: ClientSecret::new(secret),
        redirect: RedirectUrl::new(entry.redirect_uri)
            .map_err(|error| wrong("redirect_uri", error.to_string()))?,
        scopes: entry.scopes.into_iter().map(Scope::new).collect(),
        login_claim: entry.login_claim,
        groups_claim: entry.groups_claim,
        groups: entry.group,
        roots,
        leeway_ms: entry.leeway.as_millis(),
    })
}

/// An address of HTTPS, without a password or a fragment.
fn https(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| {
        format!("{text:?} is not a URL ({error}): write one like \"https://id.example/realm\"")
    })?;
    if url.scheme() != "https" || url.host_str().is_none() {
        return Err(format!("{text:?} is not https: write https://…"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!(
            "{text:?} has a user, a password or a fragment: remove it"
        ));
    }
    Ok(url)
}

/// The line of a file that nobody but its owner may read.
fn secret(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!(
            "others may read {0}: chmod 600 {0}",
            path.display()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let line = text.trim();
    if line.len() < SECRET_BYTES_MIN || line.chars().any(char::is_control) {
        return Err(format!(
            "{} must hold one line of {SECRET_BYTES_MIN} bytes or more: put the client's secret into it, and nothing else",
            path.display()
        ));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "issuer = \"https://id.example/realm\"\nclient_id = \"linli\"\nclient_secret_file = \"secret\"\n\
        redirect_uri = \"https://hub.example/api/v1/sessions/oidc/callback\"\n";

    fn checked(text: &str) -> Result<OidcConfig, String> {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, content, mode) in [
            ("secret", "0123456789abcdef\n", 0o600),
            ("open", "0123456789abcdef\n", 0o640),
            ("short", "123", 0o600),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        }
        let entry: OidcEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        oidc(entry, directory.path()).map_err(|(key, message)| format!("{key}: {message}"))
    }

    #[test]
    fn what_is_wrong_names_key_and_fix() {
        let good = checked(GOOD).expect("accepted");
        assert_eq!(good.login_claim, "preferred_username");
        assert!(good.groups.is_empty());
        assert!(
            !format!("{good:?}").contains("0123456789abcdef"),
            "a secret in a log"
        );
        let table = [
            (
                "https://id.example/realm",
                "http://id.example/realm",
                "oidc.issuer: ",
            ),
            (
                "https://id.example/realm",
                "https://a:b@id.example",
                "remove it",
            ),
            (
                "https://id.example/realm",
                "https://id.example?a=b",
                "has a query",
            ),
            ("\"linli\"", "\"\"", "oidc.client_id: "),
            ("= \"secret\"", "= \"open\"", "chmod 600"),
            ("= \"secret\"", "= \"short\"", "8 bytes"),
            ("= \"secret\"", "= \"missing\"", "oidc.client_secret_file: "),
            ("/callback", "/elsewhere", CALLBACK),
            ("client_id", "client_name", "client_name"),
            ("client_id = \"linli\"\n", "", "client_id"),
        ];
        for (from, to, says) in table {
            let said = checked(&GOOD.replace(from, to)).expect_err(to);
            assert!(said.contains(says), "{to}: {said}");
        }
        for (more, says) in [
            ("client_secret = \"0123456789\"", "client_secret"),
            ("scopes = [\"a b\"]", "oidc.scopes"),
            ("login_claim = \"\"", "oidc.login_claim"),
            ("leeway = \"1h\"", "oidc.leeway"),
            ("ca_file = \"secret\"", "oidc.ca_file"),
            ("[[group]]\nvalue = \"x\"\nrole = \"king\"", "king"),
            ("[[group]]\nvalue = \"\"\nrole = \"lead\"", "oidc.group"),
        ] {
            let said = checked(&format!("{GOOD}{more}\n")).expect_err(more);
            assert!(said.contains(says), "{more}: {said}");
        }
    }
}
