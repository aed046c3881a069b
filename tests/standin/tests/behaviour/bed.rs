//! A broker with its authority and journal, and a client that sends and receives single packets.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pulsegate_standin::tls::client_config;
use pulsegate_standin::{Broker, End, Journal, Options, Pki};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnAck, Connect, Packet, PubAck, Publish, Subscribe};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Bed {
    pub(crate) pki: Pki,
    pub(crate) broker: Broker,
    pub(crate) journal: Journal,
}

impl Bed {
    pub(crate) async fn new(adjust: impl FnOnce(&mut Options)) -> Self {
        let pki = Pki::new().unwrap();
        let mut options = Options::new(&pki).unwrap();
        let journal = Journal::attach(&mut options);
        adjust(&mut options);
        Self { pki, broker: Broker::start(options).await.unwrap(), journal }
    }

    /// Connects a client with a persistent session and reads its CONNACK.
    pub(crate) async fn connect(&self, thing: &str) -> (Client, ConnAck) {
        self.connect_as(thing, |connect| connect.clean_session = false).await
    }

    pub(crate) async fn connect_as(
        &self,
        thing: &str,
        adjust: impl FnOnce(&mut Connect),
    ) -> (Client, ConnAck) {
        let mut client = self.knock(thing, adjust).await;
        match client.next().await {
            Some(Packet::ConnAck(connack)) => (client, connack),
            other => panic!("no CONNACK but {other:?}\n{}", self.broker.fault_log()),
        }
    }

    /// Sends a CONNECT and reads nothing.
    pub(crate) async fn knock(&self, thing: &str, adjust: impl FnOnce(&mut Connect)) -> Client {
        let identity = self.pki.device(thing).unwrap();
        let config = client_config(&self.pki.ca_pem(), Some(&identity), None).unwrap();
        let mut client = Client::open(self.broker.port(), config, "localhost").await.unwrap();
        let mut connect = Connect::new(thing);
        adjust(&mut connect);
        client.send(Packet::Connect(connect)).await;
        client
    }

    /// Waits for the first connection's end.
    pub(crate) async fn end(&self, number: usize) -> End {
        let ended = |records: &[pulsegate_standin::ConnectionRecord]| {
            records.get(number).is_some_and(|record| record.ended.is_some())
        };
        self.broker.wait_until(ended, SOON).await.unwrap();
        self.broker.connection_records()[number].ended.clone().unwrap().1
    }
}

pub(crate) struct Client {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
}

impl Client {
    pub(crate) async fn open(
        port: u16,
        config: rustls::ClientConfig,
        name: &str,
    ) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Sends a packet. A connection that is gone shows at the next read.
    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            drop(self.stream.flush().await);
        }
    }

    /// The next packet, or `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        tokio::time::timeout(SOON, async {
            loop {
                if let Ok(packet) = Packet::read(&mut self.buffer, usize::MAX) {
                    return Some(packet);
                }
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return None;
                }
            }
        })
        .await
        .expect("the broker neither answers nor closes")
    }

    /// The bytes that were read but are no whole packet.
    pub(crate) fn torn(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) async fn publish(&mut self, id: u16, topic: &str, payload: &[u8]) {
        self.send(Packet::Publish(publish(id, topic, payload))).await;
    }

    pub(crate) async fn subscribe(&mut self, filters: &[&str]) {
        let mut subscribe = Subscribe::new(filters[0], QoS::AtLeastOnce);
        for &filter in &filters[1..] {
            subscribe.add(filter.to_owned(), QoS::AtLeastOnce);
        }
        subscribe.pkid = 1;
        self.send(Packet::Subscribe(subscribe)).await;
    }

    /// Subscribes, and waits for the answer.
    pub(crate) async fn listen(&mut self, filter: &str) {
        self.subscribe(&[filter]).await;
        let answer = self.next().await;
        assert!(matches!(answer, Some(Packet::SubAck(_))), "{answer:?}");
    }

    pub(crate) async fn expect_acks(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.next().await {
                Some(Packet::PubAck(ack)) => ids.push(ack.pkid),
                other => panic!("after {ids:?}: {other:?}"),
            }
        }
        ids
    }

    pub(crate) async fn expect_message(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no message but {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&mut self, publish: &Publish) {
        self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
    }
}

pub(crate) fn publish(id: u16, topic: &str, payload: &[u8]) -> Publish {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
    publish.pkid = id;
    publish
}
