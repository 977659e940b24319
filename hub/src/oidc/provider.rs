//! The provider's discovery document (OpenID Connect Discovery 1.0) and keys.
//!
//! * Fetched when it is first wanted, kept for [`KEPT`]; where it cannot be fetched again the old one serves on.
//! * One fetch at a time, whoever waits; that one has failed is answered at once for [`FAILED_KEPT`].
//! * An unknown key makes the keys be fetched again, once in [`NEW_KEYS_EVERY`]: an ID token of an invented key costs
//!   the provider nothing more.
//! * HTTPS only, redirects are not followed, [`ANSWER_BYTES_MAX`] of an answer, deadlines as for every peer.
use linli_shared::service::{peer, telemetry};
use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{HttpRequest, HttpResponse, IssuerUrl, http};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

use super::SignInError;
use crate::oidc::config::OidcConfig;

/// The discovery document, with the keys.
pub type Metadata = CoreProviderMetadata;

/// How long it is believed.
const KEPT: Duration = Duration::from_secs(3600);
/// How long a failure is.
const FAILED_KEPT: Duration = Duration::from_secs(5);
/// Unknown keys are looked for so often at most.
const NEW_KEYS_EVERY: Duration = Duration::from_secs(30);
/// Of any answer; discovery documents and key sets have some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The provider cannot be used at the moment, for this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// An answer that is none.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The discovery document names such an address.
    #[error("an address of the provider is not https")]
    Plain,
    /// No answer.
    #[error("no answer")]
    Lost(#[source] reqwest::Error),
    /// Longer than it may be.
    #[error("an answer has more than {ANSWER_BYTES_MAX} bytes")]
    Long,
    /// Not HTTP.
    #[error("an answer is not HTTP")]
    Strange(#[source] http::Error),
}

/// How the crate's requests are made.
pub trait Answers:
    Fn(HttpRequest) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>
    + Send
    + Sync
{
}

impl<T> Answers for T where
    T: Fn(HttpRequest) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>
        + Send
        + Sync
{
}

/// The provider of the config.
pub struct Provider {
    issuer: IssuerUrl,
    client: reqwest::Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<Arc<Metadata>>,
    /// No request to the provider before this time.
    fresh_until: Option<Instant>,
    failed: Option<Unusable>,
    /// When keys were last looked for.
    new_keys: Option<Instant>,
}

impl Known {
    /// The cached metadata, if it is fresh.
    fn at(&self, now: Instant) -> Option<Result<Arc<Metadata>, Unusable>> {
        if self.fresh_until.is_none_or(|until| now >= until) {
            return None;
        }
        match (&self.metadata, &self.failed) {
            (Some(metadata), _) => Some(Ok(Arc::clone(metadata))),
            (None, Some(unusable)) => Some(Err(unusable.clone())),
            (None, None) => None,
        }
    }

    /// The metadata, or the last failure.
    fn take(
        &mut self,
        found: Result<Metadata, Unusable>,
        now: Instant,
    ) -> Result<Arc<Metadata>, Unusable> {
        match found {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                self.metadata = Some(Arc::clone(&metadata));
                self.failed = None;
                self.fresh_until = Some(now + KEPT);
                Ok(metadata)
            }
            Err(unusable) => {
                self.fresh_until = Some(now + FAILED_KEPT);
                self.failed = Some(unusable.clone());
                self.metadata.clone().ok_or(unusable)
            }
        }
    }

    /// Whether keys may be looked for now; then they are.
    fn may_look(&mut self, now: Instant) -> bool {
        let last = self.new_keys;
        if last.is_some_and(|last| now.duration_since(last) < NEW_KEYS_EVERY) {
            return false;
        }
        self.new_keys = Some(now);
        true
    }
}

impl Provider {
    /// Connects to nothing.
    pub fn new(config: &OidcConfig) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let user_agent = concat!("linli-hub/", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            issuer: config.issuer.clone(),
            client: peer::client(config.roots.clone(), user_agent)?,
            known: Mutex::default(),
        })
    }

    /// The discovery document.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Unusable> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.at(Instant::now()) {
            return known;
        }
        let found = Metadata::discover_async(self.issuer.clone(), &self.http())
            .await
            .map_err(|error| Unusable(telemetry::chain(&error)));
        let found = found.and_then(|metadata| {
            // A browser is sent there.
            if metadata.authorization_endpoint().url().scheme() == "https" {
                Ok(metadata)
            } else {
                Err(Unusable(HttpError::Plain.to_string()))
            }
        });
        if let Err(error) = &found {
            tracing::warn!(issuer = %self.issuer.as_str(), %error, "the OpenID provider cannot be asked; passwords serve");
        }
        known.take(found, Instant::now())
    }

    /// The same with the keys of now, where they are other ones than these, or may be asked for.
    pub async fn with_new_keys(
        &self,
        before: &Arc<Metadata>,
    ) -> Result<Option<Arc<Metadata>>, SignInError> {
        let mut known = self.known.lock().await;
        // Another task has just fetched them.
        if let Some(metadata) = &known.metadata
            && !Arc::ptr_eq(metadata, before)
        {
            return Ok(Some(Arc::clone(metadata)));
        }
        if !known.may_look(Instant::now()) {
            return Ok(None);
        }
        let keys = CoreJsonWebKeySet::fetch_async(before.jwks_uri(), &self.http())
            .await
            .map_err(|error| SignInError::Provider(telemetry::chain(&error)))?;
        let metadata = Arc::new(Metadata::clone(before).set_jwks(keys));
        known.metadata = Some(Arc::clone(&metadata));
        Ok(Some(metadata))
    }

    /// The HTTP client of the crate.
    pub fn http(&self) -> impl Answers + use<> {
        let client = self.client.clone();
        move |request: HttpRequest| {
            let asked = ask(client.clone(), request);
            let asked: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(asked);
            asked
        }
    }
}

async fn ask(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    if request.uri().scheme_str() != Some("https") {
        return Err(HttpError::Plain);
    }
    let lost = |error: reqwest::Error| HttpError::Lost(error.without_url());
    let request = reqwest::Request::try_from(request).map_err(lost)?;
    let mut answer = client.execute(request).await.map_err(lost)?;
    let mut response = http::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(lost)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(HttpError::Long);
        }
        body.extend_from_slice(&part);
    }
    response.body(body).map_err(HttpError::Strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_for_seconds_and_what_was_known_serves_on() {
        let start = Instant::now();
        let mut known = Known::default();
        assert_eq!(known.at(start), None);
        let down = || Err(Unusable("down".to_owned()));
        assert!(known.take(down(), start).is_err());
        let soon = start + FAILED_KEPT / 2;
        assert!(matches!(known.at(soon), Some(Err(_))));
        let later = start + FAILED_KEPT;
        assert_eq!(known.at(later), None);
        let metadata = super::super::tests::metadata();
        assert!(known.take(Ok(metadata), later).is_ok());
        let stale = later + KEPT;
        assert!(matches!(known.at(stale - FAILED_KEPT), Some(Ok(_))));
        assert_eq!(known.at(stale), None);
        assert!(known.take(down(), stale).is_ok(), "the old one serves");
        assert!(matches!(known.at(stale + FAILED_KEPT / 2), Some(Ok(_))));
        assert_eq!(
            known.at(stale + FAILED_KEPT),
            None,
            "and is asked for again"
        );
    }

    #[test]
    fn new_keys_are_looked_for_at_once_and_then_seldom() {
        let start = Instant::now();
        let mut known = Known::default();
        assert!(known.may_look(start));
        assert!(!known.may_look(start + NEW_KEYS_EVERY / 2));
        assert!(known.may_look(start + NEW_KEYS_EVERY));
    }
}
