//! Who is let in.

use pulsegate_standin::tls::{ALPN_MQTT, client_config};
use pulsegate_standin::{Alpn, Door, End, Identity, Options, Pki, Validity, Violation};
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet};

use crate::bed::{Bed, Client, SOON};

/// Tries to get a CONNACK as `box`, and says whether it came.
async fn gets_in(bed: &Bed, identity: Option<&Identity>, alpn: Option<&str>, name: &str) -> bool {
    let config = client_config(&bed.pki.ca_pem(), identity, alpn).unwrap();
    let Ok(mut client) = Client::open(bed.broker.port(), config, name).await else { return false };
    client.send(Packet::Connect(Connect::new("box"))).await;
    matches!(client.next().await, Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success)
}

#[tokio::test]
async fn lets_a_device_of_the_authority_in() {
    let bed = Bed::new(|_| {}).await;
    let device = bed.pki.device("box").unwrap();

    assert!(gets_in(&bed, Some(&device), None, "localhost").await);
    assert_eq!(bed.broker.connection_records()[0].server_name.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn turns_away_whoever_shows_no_good_certificate() {
    let bed = Bed::new(|_| {}).await;
    let stranger = Pki::new().unwrap().device("box").unwrap();
    let expired = bed.pki.device_with("box", Validity::Expired).unwrap();
    let early = bed.pki.device_with("box", Validity::NotYetValid).unwrap();
    let server = bed.pki.server(&["box"]).unwrap();

    for identity in [None, Some(&stranger), Some(&expired), Some(&early), Some(&server)] {
        assert!(!gets_in(&bed, identity, None, "localhost").await, "{identity:?}");
    }

    for number in 0..5 {
        assert!(matches!(bed.end(number).await, End::Handshake(_)));
    }
}

#[tokio::test]
async fn turns_a_revoked_device_away_from_now_on_and_only_it() {
    let bed = Bed::new(|_| {}).await;
    let lost = bed.pki.device("box").unwrap();
    let renewed = bed.pki.device("box").unwrap();
    assert!(gets_in(&bed, Some(&lost), None, "localhost").await);

    let list = bed.pki.revocation_list(&[&lost]).unwrap();
    bed.broker.set_revocation_list(Some(list)).unwrap();

    assert!(!gets_in(&bed, Some(&lost), None, "localhost").await);
    assert!(gets_in(&bed, Some(&renewed), None, "localhost").await);
}

#[tokio::test]
async fn a_client_refuses_a_server_that_is_not_the_one_it_wants() {
    let odd_server = |validity, names: &'static [&str]| {
        move |options: &mut Options, pki: &Pki| {
            options.server = pki.server_with(names, validity).unwrap();
        }
    };
    let pki = Pki::new().unwrap();
    for adjust in [
        odd_server(Validity::Current, &["elsewhere.invalid"]),
        odd_server(Validity::Expired, &["localhost"]),
        odd_server(Validity::NotYetValid, &["localhost"]),
    ] {
        let mut bed = Bed::new(|options| {
            adjust(options, &pki);
            options.client_ca_pem = pki.ca_pem();
        })
        .await;
        bed.pki = pki.clone();
        let device = pki.device("box").unwrap();

        assert!(!gets_in(&bed, Some(&device), None, "localhost").await);
    }
}

#[tokio::test]
async fn demands_a_server_name() {
    let bed = Bed::new(|_| {}).await;
    let device = bed.pki.device("box").unwrap();

    assert!(!gets_in(&bed, Some(&device), None, "127.0.0.1").await);
    assert_eq!(bed.end(0).await, End::Violated(Violation::NoServerName));
}

#[tokio::test]
async fn demands_the_application_protocol_on_443_and_none_on_8883() {
    let device = |bed: &Bed| bed.pki.device("box").unwrap();
    let bed = Bed::new(|options| options.ports = vec![(0, Alpn::PORT_443)]).await;
    assert!(gets_in(&bed, Some(&device(&bed)), Some(ALPN_MQTT), "localhost").await);
    assert!(!gets_in(&bed, Some(&device(&bed)), None, "localhost").await);
    assert!(!gets_in(&bed, Some(&device(&bed)), Some("x-amzn-http-ca"), "localhost").await);

    let bed = Bed::new(|options| options.ports = vec![(0, Alpn::NotOffered)]).await;
    assert!(gets_in(&bed, Some(&device(&bed)), None, "localhost").await);
    assert!(!gets_in(&bed, Some(&device(&bed)), Some(ALPN_MQTT), "localhost").await);
}

#[tokio::test]
async fn demands_that_the_client_id_is_the_certificates_name() {
    let bed = Bed::new(|_| {}).await;
    let config =
        client_config(&bed.pki.ca_pem(), Some(&bed.pki.device("box").unwrap()), None).unwrap();
    let mut client = Client::open(bed.broker.port(), config, "localhost").await.unwrap();

    client.send(Packet::Connect(Connect::new("other"))).await;

    let answer = client.next().await;
    let Some(Packet::ConnAck(connack)) = answer else { panic!("{answer:?}") };
    assert_eq!(connack.code, ConnectReturnCode::NotAuthorized);
    assert_eq!(bed.end(0).await, End::Violated(Violation::ClientId("other".to_owned())));
}

#[tokio::test]
async fn a_closed_port_opens_again_as_itself() {
    let bed = Bed::new(|_| {}).await;
    let device = bed.pki.device("box").unwrap();

    bed.broker.pause();
    assert!(!gets_in(&bed, Some(&device), None, "localhost").await);
    assert_eq!(bed.end(0).await, End::TurnedAway);

    bed.broker.set_doors(Door::Closed);
    let port = bed.broker.port();
    tokio::time::timeout(SOON, async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {}
    })
    .await
    .unwrap();

    bed.broker.resume();
    tokio::time::timeout(SOON, async {
        while !gets_in(&bed, Some(&device), None, "localhost").await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_mute_port_accepts_and_says_nothing() {
    let bed = Bed::new(|_| {}).await;
    bed.broker.set_doors(Door::Mute);
    let device = bed.pki.device("box").unwrap();

    let attempt = gets_in(&bed, Some(&device), None, "localhost");
    let waited = tokio::time::timeout(std::time::Duration::from_millis(200), attempt).await;

    assert!(waited.is_err());
    assert_eq!(bed.end(0).await, End::PeerClosed);
}
