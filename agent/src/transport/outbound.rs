//! A device that is queried over HTTP and requires HTTP Digest (RFC 7616; MD5 and SHA-256): cameras, recorders and
//! door controllers of several makers.
//!
//! * The password is sent only as a digest: a device that offers Basic alone is refused.
//! * It is tried once a session. A device that refuses it is not asked again for minutes
//!   ([`Ended::refused`](crate::transport::reconnect::Ended)): many devices lock an address out after a few wrong
//!   tries.
//! * Redirects are not followed and proxies are not used.
//! * HTTPS verifies that a certificate is for the address, and by the system's roots or those of `ca_file`.
use linli_shared::service::config::ConfigError;
use linli_shared::service::telemetry::chain;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source_check::Check;
use crate::transport::digest::Digest;
use crate::transport::reconnect::Ended;

/// Deadline for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline from a request to the head of its answer.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Deadline from the head of a finite answer to its end.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long an unused connection stays: from one request to the next of a session. Hundreds of devices have one each.
const IDLE_DEADLINE: Duration = Duration::from_secs(5);
/// Largest number of devices of one source.
pub(crate) const DEVICES_MAX: usize = 1000;
/// Longest id of a device: ids of events contain it.
const ID_BYTES_MAX: usize = 64;

/// `[[source.device]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceConfig {
    /// Id on its events, and in its `[[device]]`.
    pub id: String,
    /// `192.168.1.64`, `192.168.1.64:8000`, `https://door-3.example`. Empty: it only pushes.
    #[serde(default)]
    pub address: String,
    /// Overrides the source's.
    pub user: Option<String>,
    /// Overrides the source's.
    pub password_file: Option<PathBuf>,
    /// Its channels and doors are devices of their own, `<id>/<number>`.
    pub parts: Option<bool>,
}

/// Credentials of the agent at a device.
#[derive(Clone)]
pub(crate) struct Account {
    user: String,
    password: String,
}

impl Account {
    /// User and password, for callers that compute their own digests.
    pub fn parts(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }
}

/// A device whose config is checked.
#[derive(Clone)]
pub(crate) struct Known {
    /// Id.
    pub id: String,
    /// See [`DeviceConfig`].
    pub parts: bool,
    /// Address and credentials; `None`: it only pushes.
    pub at: Option<(Url, Account)>,
}

/// The config keys of a source about its devices.
pub(crate) struct Keys<'a> {
    /// `user`
    pub user: &'a str,
    /// `password_file`
    pub password_file: Option<&'a Path>,
    /// `[[source.device]]`
    pub devices: &'a [DeviceConfig],
}

impl Keys<'_> {
    /// Like [`Keys::check`], for devices that all have an address.
    pub fn check_asked(&self, check: &Check<'_>) -> Result<Vec<Known>, ConfigError> {
        let known = self.check(check)?;
        match known.iter().position(|device| device.at.is_none()) {
            Some(index) => Err(check.wrong(
                &format!("device[{index}].address"),
                "is missing: write the device's address, like \"192.168.1.64\"",
            )),
            None => Ok(known),
        }
    }

    /// Checks them and reads the passwords.
    pub fn check(&self, check: &Check<'_>) -> Result<Vec<Known>, ConfigError> {
        if self.devices.is_empty() {
            return Err(check.wrong(
                "device",
                "there is none: add a [[source.device]] with id and address",
            ));
        }
        if self.devices.len() > DEVICES_MAX {
            return Err(check.wrong(
                "device",
                format!(
                    "{} devices, at most {DEVICES_MAX} are accepted: make two sources of it",
                    self.devices.len()
                ),
            ));
        }
        let password = self
            .password_file
            .map(|file| check.password("password_file", file))
            .transpose()?;
        let mut ids = HashSet::new();
        let mut known = Vec::new();
        for (index, device) in self.devices.iter().enumerate() {
            let key = |key: &str| format!("device[{index}].{key}");
            if device.id.is_empty() || device.id.len() > ID_BYTES_MAX {
                return Err(check.wrong(&key("id"), format!("must have 1 to {ID_BYTES_MAX} bytes")));
            }
            if !ids.insert(&device.id) {
                return Err(check.wrong(&key("id"), format!("{:?} is there twice", device.id)));
            }
            let at = if device.address.is_empty() {
                let unused = [
                    ("user", device.user.is_some()),
                    ("password_file", device.password_file.is_some()),
                ];
                if let Some((unused, _)) = unused.into_iter().find(|(_, there)| *there) {
                    return Err(check.wrong(
                        &key(unused),
                        "does nothing without address: write the device's address, or leave it out where the device only pushes",
                    ));
                }
                None
            } else {
                let url =
                    url(&device.address).map_err(|what| check.wrong(&key("address"), what))?;
                let is_same =
                    |known: &Known| matches!(&known.at, Some((other, _)) if *other == url);
                if let Some(other) = known.iter().position(is_same) {
                    return Err(check.wrong(
                        &key("address"),
                        format!(
                            "{:?} is the address of {:?} too: everything would be told twice; remove one of the two",
                            device.address, self.devices[other].id
                        ),
                    ));
                }
                let password = match &device.password_file {
                    Some(file) => check.password(&key("password_file"), file)?,
                    None => password.clone().ok_or_else(|| {
                        check.wrong(
                            "password_file",
                            "is missing: name the file with the devices' password",
                        )
                    })?,
                };
                let user = device.user.clone().unwrap_or_else(|| self.user.to_owned());
                Some((url, Account { user, password }))
            };
            known.push(Known {
                id: device.id.clone(),
                parts: device.parts.unwrap_or_default(),
                at,
            });
        }
        Ok(known)
    }
}

fn url(address: &str) -> Result<Url, String> {
    let wrong = || {
        format!(
            "{address:?} is no address of a device, like \"192.168.1.64\" or \"https://192.168.1.64:8443\""
        )
    };
    let text = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let url: Url = text.parse().map_err(|_| wrong())?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare {
        return Err(wrong());
    }
    Ok(url)
}

/// The client of a source with these devices.
pub(crate) fn client(
    check: &Check<'_>,
    ca_file: Option<&Path>,
    devices: &[Known],
) -> Result<Client, ConfigError> {
    let is_secure = |device: &Known| {
        let at = device.at.as_ref();
        at.is_some_and(|(url, _)| url.scheme() == "https")
    };
    if ca_file.is_some() && !devices.iter().any(is_secure) {
        return Err(check.wrong(
            "ca_file",
            "does nothing here: no device has an https:// address; write one, or leave it out",
        ));
    }
    let wrong = |error: &dyn std::fmt::Display| {
        check.wrong("ca_file", format!("HTTPS cannot be set up: {error}"))
    };
    let tls =
        linli_shared::service::peer::tls(check.roots(ca_file)?).map_err(|error| wrong(&error))?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_DEADLINE)
        .build()
        .map_err(|error| wrong(&chain(&error)))
}

/// One session with a device.
pub(crate) struct Peer<'a> {
    client: &'a Client,
    url: &'a Url,
    account: &'a Account,
    digest: Digest,
}

impl<'a> Peer<'a> {
    /// A session without a connection yet.
    pub fn new(client: &'a Client, url: &'a Url, account: &'a Account) -> Self {
        Self {
            client,
            url,
            account,
            digest: Digest::default(),
        }
    }

    /// Sends a request, with the password if the device requires one. The answer is a success.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        json: Option<&str>,
    ) -> Result<Response, Ended> {
        let mut answer = self.once(&method, path, json).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let known = self.digest.is_known();
            self.digest.challenge(&answer)?;
            drop(answer);
            answer = self.once(&method, path, json).await?;
            if answer.status() == StatusCode::UNAUTHORIZED && known {
                // The nonce that was used before has expired, and this may be a new one.
                self.digest.challenge(&answer)?;
                answer = self.once(&method, path, json).await?;
            }
        }
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let (url, user) = (self.url, &self.account.user);
        Err(match status {
            StatusCode::UNAUTHORIZED => Ended::refused(format!(
                "{url} does not accept the password of {user:?}: check user and password_file; a device that locked this \
                 address out says the same"
            )),
            StatusCode::FORBIDDEN => Ended::refused(format!(
                "{url} does not allow {user:?} to ask for {path}: give the user the right, or wait if the device has locked it"
            )),
            StatusCode::NOT_FOUND => Ended::refused(format!(
                "{url} has no {path}: check the address, and that the device speaks this protocol"
            )),
            status if status.is_redirection() => Ended::refused(format!(
                "{url} sends on to another address ({status}): write that one, perhaps with https://"
            )),
            status => Ended::lost(format!("{url} answered {path} with {status}")),
        })
    }

    async fn once(
        &mut self,
        method: &Method,
        path: &str,
        json: Option<&str>,
    ) -> Result<Response, Ended> {
        let url = self
            .url
            .join(path)
            .map_err(|error| Ended::refused(format!("{path} is no path: {error}")))?;
        let mut request = self.client.request(method.clone(), url);
        if let Some(json) = json {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(json.to_owned());
        }
        let body = json.unwrap_or_default().as_bytes();
        if let Some(value) = self
            .digest
            .authorization(self.account, method.as_str(), path, body)?
        {
            request = request.header(AUTHORIZATION, value);
        }
        // Boxed: short-lived state must not lie in the task of each device for as long as its session lives.
        let sent = Box::pin(request.send());
        match tokio::time::timeout(HEAD_DEADLINE, sent).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Ended::lost(format!(
                "{} cannot be asked: {}",
                self.url,
                chain(&error)
            ))),
            Err(_) => Err(Ended::lost(format!(
                "{} did not answer {path} within {} s",
                self.url,
                HEAD_DEADLINE.as_secs()
            ))),
        }
    }
}

/// Reads a whole answer of at most this many bytes.
pub(crate) async fn body(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, Ended> {
    let url = answer.url().clone();
    let read = async {
        let mut bytes = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= bytes_max => {
                    bytes.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    return Err(Ended::lost(format!(
                        "{url} answered with more than {bytes_max} bytes"
                    )));
                }
                Ok(None) => return Ok(bytes),
                Err(error) => {
                    return Err(Ended::lost(format!("{url} broke off: {}", chain(&error))));
                }
            }
        }
    };
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Ok(read) => read,
        Err(_) => Err(Ended::lost("an answer did not come to its end in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (address, wanted) in [
            ("192.168.1.64", "http://192.168.1.64/"),
            ("192.168.1.64:8000", "http://192.168.1.64:8000/"),
            ("https://door-3.example", "https://door-3.example/"),
            ("[fe80::1]:81", "http://[fe80::1]:81/"),
        ] {
            assert_eq!(
                url(address).map(|url| url.to_string()).as_deref(),
                Ok(wanted)
            );
        }
        for address in [
            "",
            "http://",
            "rtsp://1.2.3.4",
            "1.2.3.4/ISAPI",
            "http://admin:12345@1.2.3.4",
            "a b",
        ] {
            assert!(url(address).is_err(), "{address}");
        }
    }
}
