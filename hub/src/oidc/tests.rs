//! ID tokens that no honest provider makes, with keys made here.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::{AccessToken, ClientId, ClientSecret, IssuerUrl, Nonce, RedirectUrl};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::RootCertStore;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::provider::Metadata;
use super::token::{BadToken, IdToken, Proven, verify};
use super::{SignInError, identity};
use crate::oidc::config::OidcConfig;

const ISSUER: &str = "https://id.example/realm";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ACCESS: &str = "an-access-token";
const NOW_S: i64 = 1_770_000_000;

fn config() -> OidcConfig {
    OidcConfig {
        issuer: IssuerUrl::new(ISSUER.to_owned()).expect("a URL"),
        client_id: ClientId::new("linli".to_owned()),
        client_secret: ClientSecret::new(SECRET.to_owned()),
        redirect: RedirectUrl::new("https://hub.example/callback".to_owned()).expect("a URL"),
        scopes: Vec::new(),
        login_claim: "preferred_username".to_owned(),
        groups_claim: "groups".to_owned(),
        groups: Vec::new(),
        roots: RootCertStore::empty(),
        leeway_ms: 60_000,
    }
}

/// A discovery document.
pub fn metadata() -> Metadata {
    let document = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://id.example/realm/auth",
        "token_endpoint": "https://id.example/realm/token",
        "jwks_uri": "https://id.example/realm/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    serde_json::from_value(document).expect("a discovery document")
}

/// A key pair with its id.
struct Signer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        Self { id, pair }
    }

    fn keys(&self) -> CoreJsonWebKeySet {
        let point = self.pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| BASE64URL.encode(&point[range]);
        let keys = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": part(1..33), "y": part(33..65),
        }] });
        serde_json::from_value(keys).expect("a key set")
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let random = SystemRandom::new();
        let signature = self.pair.sign(&random, signed.as_bytes()).expect("signed");
        format!("{signed}.{}", BASE64URL.encode(signature.as_ref()))
    }

    fn header(&self) -> Value {
        json!({ "alg": "ES256", "typ": "JWT", "kid": self.id })
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn good() -> Value {
    json!({
        "iss": ISSUER, "sub": "account-1", "aud": "linli", "exp": NOW_S + 300, "iat": NOW_S, "nonce": "n",
        "preferred_username": "wang", "groups": ["staff"], "name": "王\u{7}某",
    })
}

/// The claims with one other, or without it.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = good();
    let map = claims.as_object_mut().expect("an object");
    if value.is_null() {
        map.remove(claim);
    } else {
        map.insert(claim.to_owned(), value);
    }
    claims
}

fn verified(keys: &CoreJsonWebKeySet, token: &str) -> Result<Proven, BadToken> {
    let token: IdToken = token
        .parse()
        .map_err(|error: serde_json::Error| BadToken::Other(error.to_string()))?;
    let access = AccessToken::new(ACCESS.to_owned());
    let nonce = Nonce::new("n".to_owned());
    verify(&config(), keys, &token, &access, &nonce, NOW_S * 1000)
}

#[test]
fn a_good_token_says_who_somebody_is() {
    let signer = Signer::new("k1");
    let half = BASE64URL.encode(&Sha256::digest(ACCESS)[..16]);
    for claims in [
        good(),
        with("aud", json!(["linli"])),
        with("azp", json!("linli")),
        with("at_hash", json!(half)),
        // Within the leeway.
        with("exp", json!(NOW_S - 50)),
        with("iat", json!(NOW_S + 50)),
        with("nbf", json!(NOW_S + 50)),
    ] {
        let token = signer.token(&signer.header(), &claims);
        let proven = verified(&signer.keys(), &token).expect("a good token");
        let identity = identity(&config(), proven).expect("an identity");
        assert_eq!(identity.issuer, ISSUER);
        assert_eq!(identity.subject, "account-1");
        assert_eq!(identity.login.as_deref(), Some("wang"));
        assert_eq!(identity.name.as_deref(), Some("王某"));
        assert_eq!(identity.groups, ["staff"]);
    }
}

#[test]
fn a_claim_that_is_not_as_it_must_be_is_refused() {
    let signer = Signer::new("k1");
    let table = [
        ("iss", json!("https://evil.example")),
        ("iss", json!("https://id.example/realm/")),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!(["linli", "another"])),
        ("aud", Value::Null),
        ("azp", json!("another")),
        ("exp", json!(NOW_S - 60)),
        ("exp", Value::Null),
        ("iat", json!(NOW_S + 61)),
        ("nbf", json!(NOW_S + 61)),
        ("nonce", json!("m")),
        ("nonce", json!("")),
        ("nonce", Value::Null),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("sub", Value::Null),
    ];
    for (claim, value) in table {
        let claims = with(claim, value.clone());
        let token = signer.token(&signer.header(), &claims);
        let found = verified(&signer.keys(), &token);
        assert!(
            matches!(found, Err(BadToken::Other(_))),
            "{claim} {value}: {found:?}"
        );
    }
    for subject in [json!(""), json!("a\u{0}b"), json!("x".repeat(256))] {
        let token = signer.token(&signer.header(), &with("sub", subject.clone()));
        let refused = verified(&signer.keys(), &token)
            .map_err(|error| SignInError::Token(error.to_string()))
            .and_then(|proven| identity(&config(), proven));
        assert!(matches!(refused, Err(SignInError::Token(_))), "{subject}");
    }
}

#[test]
fn a_signature_of_anybody_else_is_refused() {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let keys = signer.keys();
    let refused = |token: &str| {
        let found = verified(&keys, token);
        assert!(matches!(found, Err(BadToken::Other(_))), "{found:?}");
    };
    // Another key under the same id, or under none.
    refused(&other.token(&signer.header(), &good()));
    refused(&other.token(&json!({ "alg": "ES256" }), &good()));
    // The key that the token brings with it.
    let own = serde_json::to_value(other.keys()).expect("JSON")["keys"][0].clone();
    refused(&other.token(&json!({ "alg": "ES256", "kid": "k1", "jwk": own }), &good()));
    // No signature.
    let none = unsigned(&json!({ "alg": "none" }), &good());
    refused(&format!("{none}."));
    refused(&none);
    // By the client's secret, and by the public key as if it were a secret.
    let header = json!({ "alg": "HS256", "kid": "k1" });
    let symmetric = unsigned(&header, &good());
    for secret in [SECRET.as_bytes(), signer.pair.public_key().as_ref()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let tag = ring::hmac::sign(&key, symmetric.as_bytes());
        let token = format!("{symmetric}.{}", BASE64URL.encode(tag.as_ref()));
        assert!(verified(&keys, &token).is_err());
    }
    // The signature of other claims.
    let good_token = signer.token(&signer.header(), &good());
    let signature = good_token.rsplit('.').next().expect("a signature");
    let forged = unsigned(
        &signer.header(),
        &with("preferred_username", json!("admin")),
    );
    refused(&format!("{forged}.{signature}"));
    for rubbish in ["", "a.b.c", "..", &"a".repeat(10_000)] {
        refused(rubbish);
    }
    // A key that the provider may have since.
    let newer = Signer::new("k2");
    let found = verified(&keys, &newer.token(&newer.header(), &good()));
    assert!(matches!(found, Err(BadToken::UnknownKey)), "{found:?}");
}
