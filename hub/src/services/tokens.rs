//! Join tokens of gateways, and tokens of programs for the API. Each change is in the audit log, in its transaction.
use linli_shared::protocol::token::JoinToken;
use linli_shared::service::random;

use super::{ServiceError, Services};
use crate::token::Token;
use linli_domain::audit::AuditRecord;
use linli_domain::rights::{Act, Actor};
use linli_store::audit;
use linli_store::tokens::{self, ApiTokenView, Holder, JoinGrant};

const OBJECT: &str = "tokens";

impl Services {
    /// Makes a single-use token with which a gateway joins; `root` is the fingerprint of the hub's root certificate.
    pub async fn create_join_token(
        &self,
        actor: &Actor,
        root: [u8; 32],
        grant: JoinGrant,
        valid_ms: i64,
    ) -> Result<JoinToken, ServiceError> {
        self.permit(actor, Act::Manage, "create", OBJECT).await?;
        let token = JoinToken {
            root,
            id: hex::encode(random::secret::<6>()),
            secret: hex::encode(random::secret::<24>()),
        };
        let now_ms = self.clock.now_ms();
        let deed = deed(
            actor,
            "token.created",
            &format!("token/{}", token.id),
            now_ms,
        );
        let kind = if grant.station { "station" } else { "compound" };
        let deed = AuditRecord {
            detail: format!("{kind} {}", grant.site),
            ..deed
        };
        let made = self.store.in_transaction(async |connection| {
            let (id, secret) = (&token.id, &token.secret);
            let expires_ms = now_ms + valid_ms;
            tokens::add_join(connection, id, secret, &grant, now_ms, expires_ms).await?;
            audit::append(connection, deed.clone()).await
        });
        made.await?;
        Ok(token)
    }

    /// Makes a token of a program.
    pub async fn create_api_token(
        &self,
        actor: &Actor,
        holder: Holder,
        valid_ms: i64,
    ) -> Result<Token, ServiceError> {
        self.permit(actor, Act::Manage, "create", OBJECT).await?;
        tokens::check_name(&holder.name)
            .map_err(|message| ServiceError::invalid("name", message))?;
        let token = Token::program();
        let now_ms = self.clock.now_ms();
        let deed = AuditRecord {
            detail: format!("{} of {:?}", holder.role.as_str(), holder.org),
            ..deed(
                actor,
                "api-token.created",
                &format!("api-token/{}", holder.name),
                now_ms,
            )
        };
        let added = self.store.in_transaction(async |connection| {
            let (id, secret) = (&token.id, &token.secret);
            let expires_ms = now_ms + valid_ms;
            let added =
                tokens::add_api(connection, id, secret, &holder, now_ms, expires_ms).await?;
            if added.is_ok() {
                audit::append(connection, deed.clone()).await?;
            }
            Ok(added)
        });
        added.await?.map_err(|taken| {
            ServiceError::invalid("name", format!("{:?}: {taken}", holder.name))
        })?;
        Ok(token)
    }

    /// Tokens of programs, without their secrets.
    pub async fn api_tokens(&self, actor: &Actor) -> Result<Vec<ApiTokenView>, ServiceError> {
        self.permit(actor, Act::Manage, "list", OBJECT).await?;
        Ok(tokens::list_api(self.store.readers()).await?)
    }

    /// Revokes a token of a program; it is refused from the next request on.
    pub async fn revoke_api_token(&self, actor: &Actor, id: &str) -> Result<(), ServiceError> {
        self.permit(actor, Act::Manage, "revoke", OBJECT).await?;
        let now_ms = self.clock.now_ms();
        let deed = deed(
            actor,
            "api-token.revoked",
            &format!("api-token/{id}"),
            now_ms,
        );
        let revoked = self.store.in_transaction(async |connection| {
            let revoked = tokens::revoke_api(connection, id, now_ms).await?;
            if revoked {
                audit::append(connection, deed.clone()).await?;
            }
            Ok(revoked)
        });
        if revoked.await? {
            return Ok(());
        }
        Err(ServiceError::missing(format!(
            "there is no API token {id:?}: `linli-hub api-token list` shows the ids"
        )))
    }
}

fn deed(actor: &Actor, action: &str, object: &str, at_ms: i64) -> AuditRecord {
    AuditRecord {
        at_ms,
        actor: actor.login.clone(),
        action: action.to_owned(),
        object: object.to_owned(),
        ..AuditRecord::default()
    }
}
