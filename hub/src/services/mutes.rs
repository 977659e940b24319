//! Mutes and maintenance windows.
use super::{Page, ServiceError, Services, bad_cursor};
use linli_domain::rights::{Act, Actor};
use linli_domain::warnings::{Mute, MuteTerms};
use linli_store::agents;
use linli_store::mutes::{self, MuteView};

const OBJECT: &str = "/api/v1/mutes";

impl Services {
    /// Mutes that the actor sees, newest first. A page can be short while there is a next one.
    pub async fn mutes(
        &self,
        actor: &Actor,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<MuteView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        let before = cursor.map(str::parse).transpose();
        let before = before.map_err(|_| bad_cursor())?;
        let found = mutes::list(self.store.readers(), before, limit + 1).await?;
        let mut page = Page::first(found, limit, |mute| mute.id.to_string());
        let hidden = self.hidden_rules(actor);
        page.items.retain(|mute| !hidden.contains(&mute.rule));
        if let Some(own) = self.watched(actor).await? {
            let is_own = |mute: &MuteView| mute.site.is_empty() || own.has(&mute.site, "");
            page.items.retain(is_own);
        }
        Ok(page)
    }

    /// Adds a mute: warnings that it matches notify nobody while it holds, nor after it. Outside the centre only for a site
    /// of the actor's. Returns its number.
    pub async fn add_mute(&self, actor: &Actor, mute: Mute) -> Result<i64, ServiceError> {
        self.permit(actor, Act::Attend, "POST", OBJECT).await?;
        self.permit_site(actor, &mute.site, "POST", OBJECT).await?;
        let mut sites = agents::sites(self.store.readers()).await?;
        sites.extend(self.sites.iter().cloned());
        mute.check(&MuteTerms {
            now_ms: self.clock.now_ms(),
            life_allowed: self.mute_life,
            rules: &self.rules.running(),
            sites: &sites,
        })
        .map_err(|(key, message)| ServiceError::invalid(key, message))?;
        self.writes.mute(mute).await
    }

    /// Ends a mute.
    pub async fn end_mute(&self, actor: &Actor, id: i64) -> Result<(), ServiceError> {
        self.permit(actor, Act::Attend, "POST", OBJECT).await?;
        let site = mutes::site_of(self.store.readers(), id).await?;
        let site = site.unwrap_or_default();
        self.permit_site(actor, &site, "POST", OBJECT).await?;
        if self.writes.end_mute(id).await? {
            return Ok(());
        }
        Err(ServiceError::missing(format!("no mute {id} holds now")))
    }
}
