//! What all connections of a broker share: sessions, retained messages, records, faults.
//!
//! One lock, held for no longer than a look-up; the observers are called outside it.

mod routes;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::Packet;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::session::{Message, Session};
use super::{Alpn, Options};
use crate::faults::{FaultEvent, FaultLog, Faults};
use crate::limits::{Limits, Violation};
use crate::policy::{Action, Policy};
use crate::record::{Arrival, Connect, ConnectionRecord, End};
use crate::tls::{self, TlsError};

/// What a test, or a second connection, does to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    Run,
    Silence,
    Cut,
    TakeOver,
}

/// What a connection's writer is given to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Packet(Packet),
    Ack(Arrival),
    Raw(Bytes),
    /// Something waits in the session.
    Nudge,
}

/// The ends of a connection that others hold.
#[derive(Debug)]
struct Link {
    client: Arc<str>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    control: watch::Sender<Control>,
}

/// The ends of a connection that it holds itself.
pub(super) struct Opened {
    pub(super) session_present: bool,
    pub(super) outgoing: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) sender: mpsc::UnboundedSender<Outgoing>,
    pub(super) control: watch::Receiver<Control>,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<Arc<str>, Session>,
    last_connects: HashMap<Arc<str>, Instant>,
    retained: HashMap<Arc<str>, Message>,
    links: HashMap<u64, Link>,
    records: Vec<ConnectionRecord>,
    arrivals: u64,
}

/// What the connections share.
pub(super) struct State {
    options: Options,
    started: Instant,
    policy: RwLock<Arc<Policy>>,
    faults: RwLock<Arc<Faults>>,
    revocation_list: RwLock<Option<String>>,
    inner: Mutex<Inner>,
    log: Mutex<FaultLog>,
    changes: watch::Sender<()>,
}

impl State {
    pub(super) fn new(options: Options) -> Result<Self, TlsError> {
        let state = Self {
            started: Instant::now(),
            policy: RwLock::new(Arc::new(options.policy.clone())),
            faults: RwLock::new(Arc::new(options.faults.clone())),
            revocation_list: RwLock::new(options.revocation_list_pem.clone()),
            inner: Mutex::default(),
            log: Mutex::new(FaultLog::new(options.seed)),
            changes: watch::Sender::new(()),
            options,
        };
        state.server_config(Alpn::Any)?; // to fail at the start, not at the first client
        Ok(state)
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(super) fn server_config(&self, alpn: Alpn) -> Result<Arc<ServerConfig>, TlsError> {
        let protocol = match alpn {
            Alpn::Required(protocol) => Some(protocol),
            Alpn::NotOffered | Alpn::Any => None,
        };
        let list = self.revocation_list.read().unwrap_or_else(PoisonError::into_inner);
        let Options { server, client_ca_pem, .. } = &self.options;
        tls::server_config(server, client_ca_pem, list.as_deref(), protocol)
    }

    pub(super) fn set_revocation_list(&self, pem: Option<String>) -> Result<(), TlsError> {
        let Options { server, client_ca_pem, .. } = &self.options;
        tls::server_config(server, client_ca_pem, pem.as_deref(), None)?;
        *self.revocation_list.write().unwrap_or_else(PoisonError::into_inner) = pem;
        Ok(())
    }

    pub(super) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Asks the policy, and names the forbidden thing otherwise.
    pub(super) fn permit(
        &self,
        action: Action,
        client: &str,
        subject: &str,
    ) -> Result<(), Violation> {
        let policy = Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner));
        if policy.allows(action, client, subject) {
            return Ok(());
        }
        Err(Violation::Forbidden { action: action.verb(), subject: subject.to_owned() })
    }

    /// Notes a connection that was just accepted, and numbers it.
    pub(super) fn accepted(&self, door: usize) -> u64 {
        let at = self.started.elapsed();
        let mut inner = self.lock();
        let number = u64::try_from(inner.records.len()).unwrap_or(u64::MAX);
        inner.records.push(ConnectionRecord {
            number,
            door,
            at,
            server_name: None,
            connect: None,
            ended: None,
        });
        number
    }

    pub(super) fn named(&self, number: u64, server_name: Option<String>) {
        self.amend(number, |record| record.server_name = server_name);
    }

    pub(super) fn asked(&self, number: u64, connect: Connect) {
        self.amend(number, |record| record.connect = Some(connect));
    }

    pub(super) fn answered(&self, number: u64, session_present: bool) {
        self.amend(number, |record| {
            if let Some(connect) = &mut record.connect {
                connect.session_present = Some(session_present);
            }
        });
    }

    pub(super) fn ended(&self, number: u64, end: End) {
        if let End::Violated(violation) = &end {
            self.note(number, format!("broken rule: {violation}"));
        }
        if let End::Fault(fault) = &end {
            self.note(number, (*fault).to_owned());
        }
        let at = self.started.elapsed();
        self.amend(number, |record| record.ended = Some((at, end)));
    }

    pub(super) fn note(&self, connection: u64, what: String) {
        tracing::debug!(connection, what, "stand-in");
        let event = FaultEvent { at: self.started.elapsed(), connection, what };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).add(event);
        self.changes.send_replace(());
    }

    pub(super) fn fault_log(&self) -> FaultLog {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn records(&self) -> Vec<ConnectionRecord> {
        self.lock().records.clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn connections(&self) -> usize {
        self.lock().links.len()
    }

    /// Gives a client its session, and ends the connection that had it.
    pub(super) fn open(
        &self,
        number: u64,
        client: &Arc<str>,
        clean: bool,
    ) -> Result<Opened, Violation> {
        let now = Instant::now();
        let (sender, outgoing) = mpsc::unbounded_channel();
        let (control_sender, control) = watch::channel(Control::Run);
        let mut inner = self.lock();
        let last = inner.last_connects.insert(Arc::clone(client), now);
        let too_soon = last.is_some_and(|last| now - last < Duration::from_secs(1));
        if self.limits().one_connect_a_second && too_soon {
            return Err(Violation::ConnectRate);
        }
        let expiry = self.limits().session_expiry;
        let before = inner.sessions.remove(client);
        if let Some(older) = before.as_ref().and_then(|session| session.connection)
            && let Some(link) = inner.links.get(&older)
        {
            link.control.send_replace(Control::TakeOver);
        }
        let lasting = before.filter(|session| {
            let expired = session.left_at.is_some_and(|left| now - left >= expiry);
            !clean && !session.clean && !expired
        });
        let session_present = lasting.is_some();
        let mut session = lasting.unwrap_or_default();
        session.attach(number, clean);
        inner.sessions.insert(Arc::clone(client), session);
        let link =
            Link { client: Arc::clone(client), outgoing: sender.clone(), control: control_sender };
        inner.links.insert(number, link);
        Ok(Opened { session_present, outgoing, sender, control })
    }

    /// Takes the session back from a connection that is over, unless another has it by now.
    pub(super) fn close(&self, number: u64) {
        let mut inner = self.lock();
        let Some(link) = inner.links.remove(&number) else { return };
        let Some(session) = inner.sessions.get_mut(&link.client) else { return };
        if session.connection != Some(number) {
            return;
        }
        session.connection = None;
        session.left_at = Some(Instant::now());
        if session.clean {
            inner.sessions.remove(&link.client);
        }
    }

    pub(super) fn control_all(&self, control: &Control) {
        for link in self.lock().links.values() {
            link.control.send_replace(control.clone());
        }
    }

    pub(super) fn control_client(&self, client: &str, control: &Control) -> bool {
        let inner = self.lock();
        let held = inner.sessions.get(client).and_then(|session| session.connection);
        let link = held.and_then(|number| inner.links.get(&number));
        link.is_some_and(|link| link.control.send(control.clone()).is_ok())
    }

    pub(super) fn forget_sessions(&self) {
        self.lock().sessions.retain(|_, session| session.connection.is_some());
    }

    fn amend(&self, number: u64, change: impl FnOnce(&mut ConnectionRecord)) {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(record) = self.lock().records.get_mut(place) {
            change(record);
        }
        self.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("options", &self.options).finish_non_exhaustive()
    }
}
