//! A connection to a broker, of either version of the protocol.
use rumqttc::v5;
use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions,
    Packet, QoS, SubscribeFilter, TlsConfiguration, Transport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

use super::publish::Publish;
use super::{Broker, PACKET_BYTES_MAX, SESSION_EXPIRY_S, WAITING_MAX};
use crate::transport::reconnect::Ended;
use linli_shared::service::{peer, telemetry};

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const CONNECT_DEADLINE_S: u64 = 10;
/// Requests that wait to be written: acknowledgements of all messages in progress, and more.
const REQUESTS_MAX: usize = 4 * WAITING_MAX;

/// Reads and writes the connection.
pub struct Link {
    shown: String,
    inner: Inner,
}

enum Inner {
    V4(AsyncClient, Box<EventLoop>),
    V5(v5::AsyncClient, Box<v5::EventLoop>),
}

/// Acknowledges messages.
pub enum Acker {
    V4(AsyncClient),
    V5(v5::AsyncClient),
}

impl Acker {
    /// Acknowledges a message to the broker once it is durable.
    pub async fn ack(&self, message: Publish) -> Result<(), ()> {
        match (self, message) {
            (Self::V4(client), Publish::V4(publish)) => {
                client.ack(&publish).await.map_err(|_: ClientError| ())
            }
            (Self::V5(client), Publish::V5(publish)) => {
                client.ack(&publish).await.map_err(|_: v5::ClientError| ())
            }
            _ => Err(()),
        }
    }
}

/// The next event of the connection.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and most of them are messages"
)]
enum Came {
    Connected,
    Publish(Publish),
    Nothing,
}

impl Link {
    /// Prepares a connection; `drive` makes it.
    pub fn open(broker: &Broker, id: &str) -> Result<(Self, Acker), Ended> {
        let transport = match &broker.tls {
            None => Transport::Tcp,
            Some(roots) => {
                let tls = peer::tls(roots.clone())
                    .map_err(|error| Ended::refused(format!("TLS cannot be set up: {error}")))?;
                Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls)))
            }
        };
        let host = &broker.host;
        let (inner, acker) = if broker.version == 4 {
            let mut options = MqttOptions::new(id, host, broker.port);
            options
                .set_keep_alive(KEEP_ALIVE)
                .set_clean_session(false)
                .set_manual_acks(true)
                .set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize)
                .set_transport(transport);
            if let Some((user, password)) = &broker.credentials {
                options.set_credentials(user, password);
            }
            let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
            events
                .network_options
                .set_connection_timeout(CONNECT_DEADLINE_S);
            (
                Inner::V4(client.clone(), Box::new(events)),
                Acker::V4(client),
            )
        } else {
            let mut options = v5::MqttOptions::new(id, host, broker.port);
            options
                .set_keep_alive(KEEP_ALIVE)
                .set_clean_start(false)
                .set_session_expiry_interval(Some(SESSION_EXPIRY_S))
                .set_manual_acks(true)
                .set_max_packet_size(Some(PACKET_BYTES_MAX))
                .set_connection_timeout(CONNECT_DEADLINE_S)
                .set_transport(transport);
            // The broker has at most as many unacknowledged messages as may wait here.
            options.set_receive_maximum(Some(WAITING_MAX as u16));
            if let Some((user, password)) = &broker.credentials {
                options.set_credentials(user, password);
            }
            let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (
                Inner::V5(client.clone(), Box::new(events)),
                Acker::V5(client),
            )
        };
        let link = Self {
            shown: broker.shown.clone(),
            inner,
        };
        Ok((link, acker))
    }

    /// Reads and writes until the connection ends. Subscribes to `filters` whenever it is made, and then calls
    /// `connected`.
    pub async fn drive(
        &mut self,
        filters: &[&str],
        messages: mpsc::Sender<Publish>,
        connected: impl Fn(),
    ) -> Ended {
        loop {
            match self.next().await {
                Ok(Came::Nothing) => {}
                Ok(Came::Connected) => {
                    if let Err(ended) = self.subscribe(filters).await {
                        return ended;
                    }
                    connected();
                }
                Ok(Came::Publish(message)) => {
                    if messages.send(message).await.is_err() {
                        return Ended::lost("nobody takes messages any more");
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    async fn subscribe(&mut self, filters: &[&str]) -> Result<(), Ended> {
        let failed = |error: String| {
            Ended::refused(format!("the topic filters cannot be asked for: {error}"))
        };
        match &self.inner {
            Inner::V4(client, _) => {
                let filters = filters
                    .iter()
                    .map(|filter| SubscribeFilter::new((*filter).to_owned(), QoS::AtLeastOnce));
                client
                    .subscribe_many(filters)
                    .await
                    .map_err(|error| failed(error.to_string()))
            }
            Inner::V5(client, _) => {
                let filters = filters.iter().map(|filter| {
                    v5::mqttbytes::v5::Filter::new(*filter, v5::mqttbytes::QoS::AtLeastOnce)
                });
                client
                    .subscribe_many(filters)
                    .await
                    .map_err(|error| failed(error.to_string()))
            }
        }
    }

    async fn next(&mut self) -> Result<Came, Ended> {
        let refused = |code: String| {
            Ended::refused(format!(
                "broker {} refuses ({code}): check user, password_file and what the broker allows this client",
                self.shown
            ))
        };
        let lost = |error: &(dyn std::error::Error + 'static)| {
            let why = telemetry::chain(error);
            if why.to_ascii_lowercase().contains("size limit") {
                return Ended::refused(format!(
                    "broker {} sends a packet of more than {PACKET_BYTES_MAX} bytes ({why}): subscribe to narrower filters, or \
                     clear the retained message",
                    self.shown
                ));
            }
            Ended::lost(format!("broker {}: {why}", self.shown))
        };
        match &mut self.inner {
            Inner::V4(_, events) => match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => Ok(Came::Connected),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    Ok(Came::Publish(Publish::V4(publish)))
                }
                Ok(Event::Incoming(Packet::SubAck(answer)))
                    if answer
                        .return_codes
                        .contains(&rumqttc::SubscribeReasonCode::Failure) =>
                {
                    Err(refused("a topic filter".to_owned()))
                }
                Ok(_) => Ok(Came::Nothing),
                Err(ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable)) => {
                    Err(Ended::lost(format!(
                        "broker {} is not available",
                        self.shown
                    )))
                }
                Err(ConnectionError::ConnectionRefused(code)) => Err(refused(format!("{code:?}"))),
                Err(error) => Err(lost(&error)),
            },
            Inner::V5(_, events) => match events.poll().await {
                Ok(v5::Event::Incoming(v5::Incoming::ConnAck(_))) => Ok(Came::Connected),
                Ok(v5::Event::Incoming(v5::Incoming::Publish(publish))) => {
                    Ok(Came::Publish(Publish::V5(publish)))
                }
                Ok(v5::Event::Incoming(v5::Incoming::SubAck(answer)))
                    if answer.return_codes.iter().any(|code| {
                        !matches!(code, v5::mqttbytes::v5::SubscribeReasonCode::Success(_))
                    }) =>
                {
                    Err(refused(format!(
                        "a topic filter: {:?}",
                        answer.return_codes
                    )))
                }
                Ok(_) => Ok(Came::Nothing),
                Err(v5::ConnectionError::ConnectionRefused(
                    v5::mqttbytes::v5::ConnectReturnCode::ServerBusy
                    | v5::mqttbytes::v5::ConnectReturnCode::ServerUnavailable,
                )) => Err(Ended::lost(format!(
                    "broker {} is not available",
                    self.shown
                ))),
                Err(v5::ConnectionError::ConnectionRefused(code)) => {
                    Err(refused(format!("{code:?}")))
                }
                Err(error) => Err(lost(&error)),
            },
        }
    }
}
