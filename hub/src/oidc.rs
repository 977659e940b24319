//! Signing in by OpenID Connect: the authorization code flow (OpenID Connect Core 1.0, 3.1) with PKCE (RFC 7636), as a
//! confidential client of the one provider of `[oidc]`. Called by `api/oidc.rs`; `who.rs` decides whose an account
//! is.
//!
//! ```text
//! browser ─ GET …/oidc ─▶ begin: state, nonce, verifier ─▶ a sealed cookie, 303 to the provider
//! browser ─ GET …/callback?code&state, cookie ─▶ finish: code for tokens ─▶ token.rs verifies ─▶ an Identity
//! ```
//!
//! * The browser that began a sign-in keeps its state, sealed (`begun.rs`); the hub does not. So the state is bound to that
//!   browser, costs the hub nothing, and nobody can fill a table with it. A code is good once; that is the provider's.
//! * The provider is asked at a sign-in, never at the start of the hub: while it is down, passwords still work.
//!   Its metadata is cached (`provider.rs`).
//! * The browser is sent to the provider and nowhere else: no request says where to go afterwards.
//! * Limits: [`SIGN_INS_AT_ONCE`] conversations with the provider at a time; a code has [`CODE_BYTES_MAX`].
mod begun;
pub mod config;
mod provider;
mod token;
pub mod who;

#[cfg(test)]
mod tests;

use linli_shared::service::telemetry;
use openidconnect::core::{CoreClientAuthMethod, CoreErrorResponseType, CoreResponseType};
use openidconnect::{
    AuthType, AuthenticationFlow, AuthorizationCode, CsrfToken, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RequestTokenError, TokenResponse as _,
};
use serde_json::{Map, Value};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use begun::Begun;
use config::OidcConfig;
use linli_store::sealed::Sealer;
use provider::{Metadata, Provider};
use token::{BadToken, Client, Proven};

/// Time to sign in at the provider, milliseconds.
pub const BEGUN_MS: i64 = 10 * 60_000;
/// Maximum number of conversations with the provider.
const SIGN_INS_AT_ONCE: usize = 16;
/// The longest code.
const CODE_BYTES_MAX: usize = 4096;
/// The longest subject (OpenID Connect Core 1.0, 2), and the longest name.
const SUBJECT_BYTES_MAX: usize = 255;
const NAME_CHARS_MAX: usize = 100;
/// Maximum number of groups that are read.
const GROUPS_MAX: usize = 1000;

/// Why a sign-in failed. The texts of the variants are for the log.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// It was begun elsewhere, too long ago, or by another browser.
    #[error("{0}")]
    State(&'static str),
    /// The provider refused.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// The ID token proves nothing.
    #[error("the provider's ID token is not good: {0}")]
    Token(String),
    /// The provider is unusable.
    #[error("the provider cannot be used: {0}")]
    Provider(String),
    /// Too many conversations with the provider.
    #[error("too many sign-ins at once")]
    Busy,
}

/// The identity at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The provider's permanent name for the account.
    pub subject: String,
    /// The value of the configured claim.
    pub login: Option<String>,
    /// The person's name.
    pub name: Option<String>,
    /// Their groups.
    pub groups: Vec<String>,
}

/// A begun sign-in.
#[derive(Debug)]
pub struct Start {
    /// The address for the browser.
    pub url: String,
    /// The cookie.
    pub cookie: String,
}

/// The browser's return.
#[derive(Debug, Default)]
pub struct Return<'a> {
    /// The cookie.
    pub cookie: Option<&'a str>,
    pub state: Option<&'a str>,
    pub code: Option<&'a str>,
    pub error: Option<&'a str>,
    /// The provider that sent it (RFC 9207).
    pub iss: Option<&'a str>,
}

/// Signing in at the provider of the config.
pub struct Oidc {
    /// The config.
    pub config: OidcConfig,
    provider: Provider,
    sealer: Sealer,
    turns: Arc<Semaphore>,
}

impl Oidc {
    /// With a config; connects to nothing.
    pub fn new(config: OidcConfig) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self {
            provider: Provider::new(&config)?,
            // A key of this process: its cookies are valid for minutes, and anybody can have any number of them made,
            // which must not wear out the key of the fields.
            sealer: Sealer::of_process(),
            turns: Arc::new(Semaphore::new(SIGN_INS_AT_ONCE)),
            config,
        })
    }

    /// Begins a sign-in.
    pub async fn begin(&self, now_ms: i64) -> Result<Start, SignInError> {
        let metadata = self.provider.metadata().await?;
        let client = self.client(&metadata);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let mut request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        for scope in &self.config.scopes {
            request = request.add_scope(scope.clone());
        }
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
        let begun = Begun {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
            until_ms: now_ms.saturating_add(BEGUN_MS),
        };
        Ok(Start {
            url: url.to_string(),
            cookie: begun.seal(&self.sealer),
        })
    }

    /// Completes a sign-in; returns the identity.
    pub async fn finish(
        &self,
        returned: &Return<'_>,
        now_ms: i64,
    ) -> Result<Identity, SignInError> {
        let begun = returned
            .cookie
            .and_then(|cookie| Begun::open(&self.sealer, cookie, now_ms))
            .ok_or(SignInError::State("nothing was begun, or too long ago"))?;
        let state = returned.state.unwrap_or_default();
        if !bool::from(state.as_bytes().ct_eq(begun.state.as_bytes())) {
            return Err(SignInError::State("another state than was begun"));
        }
        if returned
            .iss
            .is_some_and(|iss| iss != self.config.issuer.as_str())
        {
            return Err(SignInError::State("from another provider"));
        }
        if let Some(error) = returned.error {
            return Err(SignInError::Refused(error.chars().take(100).collect()));
        }
        let code = returned.code.filter(|code| code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or(SignInError::State("no code"))?;
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(SignInError::Busy);
        };
        self.exchange(code.to_owned(), begun, now_ms).await
    }

    async fn exchange(
        &self,
        code: String,
        begun: Begun,
        now_ms: i64,
    ) -> Result<Identity, SignInError> {
        let metadata = self.provider.metadata().await?;
        let client = self.client(&metadata);
        let http = self.provider.http();
        let tokens = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| SignInError::Provider(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(begun.verifier))
            .request_async(&http)
            .await
            .map_err(|error| {
                match error {
                RequestTokenError::ServerResponse(said) => match said.error() {
                    CoreErrorResponseType::InvalidClient
                    | CoreErrorResponseType::UnauthorizedClient => SignInError::Provider(
                        "it does not know oidc.client_id with the secret of oidc.client_secret_file"
                            .to_owned(),
                    ),
                    error => SignInError::Refused(error.as_ref().chars().take(100).collect()),
                },
                error => SignInError::Provider(telemetry::chain(&error)),
            }
            })?;
        let id_token = tokens
            .id_token()
            .ok_or_else(|| SignInError::Token("there is none".to_owned()))?;
        let nonce = Nonce::new(begun.nonce);
        let verified = |metadata: &Metadata| {
            token::verify(
                &self.config,
                metadata.jwks(),
                id_token,
                tokens.access_token(),
                &nonce,
                now_ms,
            )
        };
        let proven = match verified(&metadata) {
            // The provider may have a new key.
            Err(BadToken::UnknownKey) => match self.provider.with_new_keys(&metadata).await? {
                Some(metadata) => verified(&metadata),
                None => Err(BadToken::UnknownKey),
            },
            verified => verified,
        };
        let mut proven = proven.map_err(|error| SignInError::Token(error.to_string()))?;
        if self.wants_more(&proven.claims) && metadata.userinfo_endpoint().is_some() {
            let more = self
                .user_info(&client, tokens.access_token().clone(), &proven)
                .await?;
            for (claim, value) in more {
                // The ID token is signed, so its claims prevail.
                proven.claims.entry(claim).or_insert(value);
            }
        }
        identity(&self.config, proven)
    }

    /// Many providers put the profile's claims there, and not into the ID token.
    async fn user_info(
        &self,
        client: &Client,
        access_token: openidconnect::AccessToken,
        proven: &Proven,
    ) -> Result<Map<String, Value>, SignInError> {
        if !access_token
            .secret()
            .chars()
            .all(|letter| letter.is_ascii_graphic())
        {
            return Err(SignInError::Provider("its access token is none".to_owned()));
        }
        let subject = openidconnect::SubjectIdentifier::new(proven.subject.clone());
        let http = self.provider.http();
        let info: token::UserInfo = client
            .user_info(access_token, Some(subject))
            .map_err(|error| SignInError::Provider(error.to_string()))?
            .request_async(&http)
            .await
            .map_err(|error| SignInError::Provider(telemetry::chain(&error)))?;
        Ok(token::claims(&info))
    }

    fn wants_more(&self, claims: &Map<String, Value>) -> bool {
        let config = &self.config;
        !claims.contains_key(&config.login_claim)
            || !config.groups.is_empty() && !claims.contains_key(&config.groups_claim)
    }

    fn client(&self, metadata: &Metadata) -> Client {
        let config = &self.config;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let only_post = methods.is_some_and(|methods| {
            !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        Client::from_provider_metadata(
            metadata.clone(),
            config.client_id.clone(),
            Some(config.client_secret.clone()),
        )
        .set_auth_type(if only_post {
            AuthType::RequestBody
        } else {
            AuthType::BasicAuth
        })
        .set_redirect_uri(config.redirect.clone())
    }
}

impl From<provider::Unusable> for SignInError {
    fn from(unusable: provider::Unusable) -> Self {
        Self::Provider(unusable.0)
    }
}

/// The claims, bounded.
fn identity(config: &OidcConfig, proven: Proven) -> Result<Identity, SignInError> {
    let Proven { subject, claims } = proven;
    if subject.is_empty()
        || subject.len() > SUBJECT_BYTES_MAX
        || subject.chars().any(char::is_control)
    {
        return Err(SignInError::Token("its subject is none".to_owned()));
    }
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).map(str::to_owned);
    let groups = match claims.get(&config.groups_claim) {
        Some(Value::Array(values)) => {
            let values = values.iter().take(GROUPS_MAX).filter_map(Value::as_str);
            values.map(str::to_owned).collect()
        }
        Some(Value::String(value)) => vec![value.clone()],
        _ => Vec::new(),
    };
    let name = text("name").map(|name| {
        let letters = name.chars().filter(|letter| !letter.is_control());
        letters.take(NAME_CHARS_MAX).collect::<String>()
    });
    Ok(Identity {
        issuer: config.issuer.to_string(),
        subject,
        login: text(&config.login_claim),
        name: name.filter(|name| !name.trim().is_empty()),
        groups,
    })
}
