//! Agents: what they last reported.
use super::{ServiceError, Services};
use linli_domain::rights::{Act, Actor};
use linli_store::agents::{self, AgentView};

impl Services {
    /// The agents that the actor sees, by name.
    pub async fn agents(&self, actor: &Actor) -> Result<Vec<AgentView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/agents")
            .await?;
        let mut agents = agents::list(self.store.readers()).await?;
        if let Some(own) = self.watched(actor).await? {
            agents.retain(|view| own.has(&view.site, &view.agent));
        }
        Ok(agents)
    }
}
