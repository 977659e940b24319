//! Messages to stations, written into a hub's database beside it. The hub sees them at the beginning of a
//! session, or when it looks again.
use anyhow::Result;
use sqlx::{Connection as _, Row as _};

use super::{Hub, engine, now_ms};

/// Writes so many messages to the station of an agent; the number of the last one. The text of each is its
/// number.
pub async fn tell_station(hub: &Hub, agent: &str, count: usize) -> Result<i64> {
    let mut connection = engine::connect(hub.database_url()).await?;
    let mut transaction = connection.begin().await?;
    let mut last = 0;
    for _ in 0..count {
        let row = sqlx::query(
            "INSERT INTO stations (agent, last_number) VALUES ($1, 1) \
             ON CONFLICT (agent) DO UPDATE SET last_number = stations.last_number + 1 RETURNING last_number",
        )
        .bind(agent)
        .fetch_one(&mut *transaction)
        .await?;
        last = row.get(0);
        let kind = ["receipt", "status", "danger"][(last % 3) as usize];
        sqlx::query(
            "INSERT INTO station_messages \
             (agent, number, case_code, source, source_id, kind, state, at_ms, text, created_ms) \
             VALUES ($1, $2, $3, 'police', $4, $5, 'accepted', $6, $7, $6)",
        )
        .bind(agent)
        .bind(last)
        .bind(format!("AJ-{last}"))
        .bind(format!("J{last}"))
        .bind(kind)
        .bind(now_ms())
        .bind(last.to_string())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(last)
}

/// Messages to stations that the hub has on its disk: all, and those that are not acknowledged.
pub async fn station_figures(hub: &Hub) -> Result<(i64, i64)> {
    let mut connection = engine::connect(hub.database_url()).await?;
    let row = sqlx::query("SELECT COUNT(*), COUNT(*) - COUNT(acked_ms) FROM station_messages")
        .fetch_one(&mut connection)
        .await?;
    Ok((row.get(0), row.get(1)))
}
