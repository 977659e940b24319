//! The metrics of the HTTP API.
use linli_shared::service::metrics::Registrar;
use prometheus::IntCounterVec;

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct ApiMetrics {
    /// Requests to the API, by status.
    pub requests: IntCounterVec,
    /// Sign-ins by OpenID Connect, by outcome.
    oidc_sign_ins: IntCounterVec,
}

impl ApiMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: registrar.counters(
                "linli_hub_api_requests_total",
                "Requests to the API, by status.",
                &["status"],
            )?,
            oidc_sign_ins: registrar.counters(
                "linli_hub_oidc_sign_ins_total",
                "Sign-ins by OpenID Connect by what became of them: signed_in, state (not begun here, or too long ago), \
                 refused (by the provider), token (its ID token is not good), user (of nobody here), provider (it cannot \
                 be used), busy.",
                &["outcome"],
            )?,
        };
        Ok(metrics)
    }

    /// Counts a sign-in by OpenID Connect by what became of it.
    pub fn oidc_sign_in(&self, outcome: &str) {
        self.oidc_sign_ins.with_label_values(&[outcome]).inc();
    }

    /// Makes the figures of signing in by OpenID Connect, so that they are there before anything happens.
    pub fn oidc_outcomes(&self, outcomes: &[&str]) {
        for outcome in outcomes {
            self.oidc_sign_ins.with_label_values(&[outcome]).inc_by(0);
        }
    }
}
