//! A platform that pushes JSON, which a mapping reads.
use anyhow::{Result, ensure};
use linli_tests::harness::now_ms;
use serde_json::{Value, json};

use super::scene::Scene;
use super::table::{AGO_MS, Message, TABLE, Way};

/// The source of every test agent.
pub const SOURCE: &str = "doors";

/// The device: those of each round are others.
fn device(message: &Message) -> String {
    match message.round {
        0 => message.device(),
        round => format!("{}-{round}", message.device()),
    }
}

/// An alarm as it is pushed.
pub fn item(message: &Message) -> Result<Value> {
    let kind = match message.about_life {
        true => "fire",
        false => "forced",
    };
    let mut item = json!({
        "serial": format!("s{}", message.number), "type": kind, "device": device(message),
        "building": format!("b{}", message.number), "replayed": message.is_replayed(),
    });
    if let Some(time) = message.text("%Y-%m-%dT%H:%M:%S%:z")? {
        item["time"] = time.into();
    }
    Ok(item)
}

/// Its kind, building and device.
pub fn key(message: &Message) -> (&'static str, String) {
    let kind = match message.about_life {
        true => "fire.alarm",
        false => "door.forced",
    };
    (kind, format!("b{}|{}", message.number, device(message)))
}

/// The alarms of this way that all rows have: each about life, and one that is not.
pub fn alarms(scene: &mut Scene, way: Way) -> Vec<Message> {
    let mut messages = Vec::new();
    for row in TABLE {
        if matches!(way, Way::Live(step) if step >= row.live.len()) {
            continue;
        }
        for about_life in [true, false] {
            messages.push(Message {
                about_life,
                round: scene.round,
                ..scene.next(row, way, AGO_MS)
            });
        }
    }
    messages
}

/// Pushes alarms in one body.
pub async fn push(scene: &mut Scene, messages: Vec<Message>) -> Result<()> {
    let items: Vec<Value> = messages.iter().map(item).collect::<Result<_>>()?;
    let from_ms = now_ms();
    let answer = scene.agent.push(&items).await?;
    // No alarm is refused for its time.
    let is_taken = answer.status == 200 && answer.body["rejected"] == 0;
    ensure!(is_taken, "{} alarms: {answer:?}", items.len());
    for message in messages {
        scene.was_said(key(&message), message, from_ms);
    }
    Ok(())
}

/// Pushes the alarms of this way.
pub async fn say(scene: &mut Scene, way: Way) -> Result<()> {
    let messages = alarms(scene, way);
    push(scene, messages).await
}
