//! The stand-in cloud of the demo: counts the arriving records by their ids.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use pulsegate_standin::broker::{Alpn, Broker, Door, Options};
use pulsegate_standin::pki::Pki;
use serde_json::Value;

/// A broker, the authority of its certificates, and the arrived records.
pub(super) struct Cloud {
    pub(super) pki: Pki,
    broker: Broker,
    arrived: Arc<Mutex<Arrived>>,
}

#[derive(Default)]
struct Arrived {
    names: HashSet<String>,
    duplicates: u64,
    news: Vec<String>,
}

impl Cloud {
    pub(super) async fn start_broker() -> anyhow::Result<Self> {
        let pki = Pki::new().context("cannot make certificates")?;
        let mut options = Options::new(&pki).context("cannot make certificates")?;
        options.ports = vec![(0, Alpn::PORT_443)];
        let arrived = Arc::<Mutex<Arrived>>::default();
        let collect = Arc::clone(&arrived);
        options.on_publish = Arc::new(move |arrival| {
            if let Ok(Value::Array(records)) = serde_json::from_slice(&arrival.payload) {
                let mut arrived = lock_arrived(&collect);
                records.iter().for_each(|record| arrived.note_record(record));
            }
        });
        let broker = Broker::start(options).await.context("cannot start the broker")?;
        Ok(Self { pki, broker, arrived })
    }

    pub(super) fn broker_port(&self) -> u16 {
        self.broker.port()
    }

    pub(super) fn cut_link(&self) {
        self.broker.set_doors(Door::Closed);
        self.broker.cut();
    }

    pub(super) fn restore_link(&self) {
        self.broker.set_doors(Door::Open);
    }

    /// Returns the number of different records.
    pub(super) fn count_arrived(&self) -> usize {
        lock_arrived(&self.arrived).names.len()
    }

    /// Returns the news since the last call, as sentences.
    pub(super) fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut lock_arrived(&self.arrived).news)
    }

    /// Returns the number of different records, and the number of duplicates.
    pub(super) fn count_deliveries(&self) -> (u64, u64) {
        let arrived = lock_arrived(&self.arrived);
        (arrived.names.len() as u64, arrived.duplicates)
    }
}

impl Arrived {
    fn note_record(&mut self, record: &Value) {
        let Some(name) = record["seq"].as_str() else { return };
        if !self.names.insert(name.to_owned()) {
            self.duplicates += 1;
            return;
        }
        if let Some(rule) = record["rule"].as_str() {
            self.news.push(format!(
                "alert {}: {rule}, belt {} at {:.0}",
                record["state"].as_str().unwrap_or("?"),
                record["source"].as_str().unwrap_or("?"),
                record["value"].as_f64().unwrap_or(0.0)
            ));
        }
    }
}

fn lock_arrived(arrived: &Mutex<Arrived>) -> MutexGuard<'_, Arrived> {
    arrived.lock().unwrap_or_else(PoisonError::into_inner)
}
