//! The ID token: its validation (OpenID Connect Core 1.0, 3.1.3.7). Pure.
//!
//! `openidconnect` checks signature, issuer, audience, expiry and nonce; on top of it stand here: signatures of key pairs only,
//! the authorized party, times with the config's leeway, and the hash of the access token where one is given.
use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, ClaimsVerificationError, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenFields, IdTokenVerifier, Nonce,
    SignatureVerificationError, StandardErrorResponse, StandardTokenResponse, UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::oidc::config::OidcConfig;

/// Claims beside those that the crate knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims(Map<String, Value>);

impl AdditionalClaims for Claims {}

/// The ID token.
pub type IdToken = openidconnect::IdToken<
    Claims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
/// The answer of the userinfo endpoint.
pub type UserInfo = UserInfoClaims<Claims, CoreGenderClaim>;
/// The crate's client, with our claims.
pub type Client = openidconnect::Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Algorithms with key pairs. None with the client's secret, which others have too.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why an ID token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// The provider may have another key since.
    #[error("it is signed by a key that the provider does not have")]
    UnknownKey,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The proven claims.
#[derive(Debug)]
pub struct Proven {
    pub subject: String,
    pub claims: Map<String, Value>,
}

/// Verifies an ID token with its access token, for the nonce of its sign-in.
pub fn verify(
    config: &OidcConfig,
    keys: &CoreJsonWebKeySet,
    id_token: &IdToken,
    access_token: &AccessToken,
    nonce: &Nonce,
    now_ms: i64,
) -> Result<Proven, BadToken> {
    let other = |error: &str| BadToken::Other(error.to_owned());
    let at =
        |ms: i64| DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let (earliest, latest) = (
        at(now_ms.saturating_sub(config.leeway_ms)),
        at(now_ms.saturating_add(config.leeway_ms)),
    );
    // "Public": without the client's secret, so that nothing can be proven by it.
    let verifier: IdTokenVerifier<'_, CoreJsonWebKey> = IdTokenVerifier::new_public_client(
        config.client_id.clone(),
        config.issuer.clone(),
        keys.clone(),
    )
    .set_allowed_algs(ALGORITHMS)
    .set_time_fn(move || earliest)
    .set_issue_time_verifier_fn(move |issued| {
        if issued > latest {
            Err("it was issued in the future".to_owned())
        } else {
            Ok(())
        }
    });
    let verified = id_token
        .claims(&verifier, nonce)
        .map_err(|error| match error {
            ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            ) => BadToken::UnknownKey,
            error => BadToken::Other(linli_shared::service::telemetry::chain(&error)),
        })?;
    if verified
        .authorized_party()
        .is_some_and(|party| *party != config.client_id)
    {
        return Err(other("azp: it is for another client"));
    }
    if verified
        .additional_claims()
        .0
        .get("nbf")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| {
            seconds.saturating_mul(1000) > now_ms.saturating_add(config.leeway_ms)
        })
    {
        return Err(other("nbf: it is not good yet"));
    }
    if let Some(hash) = verified.access_token_hash() {
        let algorithm = id_token.signing_alg();
        let key = id_token.signing_key(&verifier);
        let (Ok(algorithm), Ok(key)) = (algorithm, key) else {
            return Err(other("at_hash: it cannot be worked out"));
        };
        let actual = AccessTokenHash::from_token(access_token, algorithm, key);
        if actual.as_ref().ok() != Some(hash) {
            return Err(other("at_hash: the access token is another one"));
        }
    }
    Ok(Proven {
        subject: verified.subject().to_string(),
        claims: claims(verified),
    })
}

/// All claims, as the provider names them.
pub fn claims(claims: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(mut map)) => {
            // Algorithms of the crate that the provider does not announce.
            map.retain(|_, value| !value.is_null());
            map
        }
        _ => Map::new(),
    }
}
