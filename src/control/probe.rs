//! Looks that cost the API server nothing: does the page answer through the gateway, and what does the database say?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{Request, header};
use http_body_util::Full;
use jiff::Timestamp;
use kube::ResourceExt;
use rustls::ClientConfig;
use serde::Deserialize;

use super::rotation::look::Answer;
use crate::{
    api::Tenant,
    https::client::{self, Download, FetchError, Target},
    pki::{self, Authority},
};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the next piece of an export.
const EXPORT_PATIENCE: Duration = Duration::from_mins(1);

/// How long a good answer counts before it is asked for again.
pub const FRESH_FOR: Duration = Duration::from_mins(1);

/// How long a certificate towards an agent is used; it is valid for an hour.
const TRUST_FOR: Duration = Duration::from_mins(45);

/// Port of the database's agent and of the app.
const HTTPS_PORT: u16 = 8443;

/// Whether a tenant's page answers through the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// There was no reason to look yet.
    NotTried,
    /// It answered: gateway, route, app and database work together.
    Answers,
    /// It did not, and why.
    Fails(String),
}

/// What a database says of itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentReport {
    /// PostgreSQL's version.
    pub version: Option<String>,
    /// Size of the database in bytes.
    pub size_bytes: Option<i64>,
    /// Whether it accepts connections and has room.
    pub ready: bool,
    /// Why it is not ready, as a stable word.
    pub reason: Option<String>,
    /// Why it is not ready, for people.
    pub message: Option<String>,
    /// The version of the backup key that its pod has, if it fetches one.
    pub backup_key_version: Option<u32>,
}

/// How pages are reached.
#[derive(Clone)]
pub struct GatewayAccess {
    /// `host:port` of the gateway as this process reaches it.
    pub address: String,
    /// Domain that tenants' names are put before.
    pub base_domain: String,
    /// Port that browsers use.
    pub external_port: u16,
    /// TLS that trusts the gateway's certificate.
    pub tls: Arc<ClientConfig>,
}

/// Remembered looks, so that a pass with nothing new asks nobody.
pub struct Probes {
    gateway: GatewayAccess,
    pages: Mutex<HashMap<String, (Page, Instant)>>,
    databases: Mutex<HashMap<String, AgentReport>>,
    /// TLS towards each silo's agent, under a certificate that lives only in this process.
    trust: Mutex<HashMap<String, (Arc<ClientConfig>, Instant)>>,
}

impl Probes {
    /// Probes through this gateway.
    #[must_use]
    pub fn new(gateway: GatewayAccess) -> Self {
        Self {
            gateway,
            pages: Mutex::default(),
            databases: Mutex::default(),
            trust: Mutex::default(),
        }
    }

    /// Whether the page answers. A good answer counts for [`FRESH_FOR`] unless the gateway is not what it was then;
    /// without a ready pod there is nothing to ask.
    pub async fn page(&self, tenant: &Tenant, serving: bool, same_gateway: bool) -> Page {
        let uid = tenant.uid().unwrap_or_default();
        if !serving || !same_gateway {
            lock(&self.pages).remove(&uid);
        }
        if !serving {
            return Page::NotTried;
        }
        if let Some((Page::Answers, at)) = lock(&self.pages).get(&uid)
            && at.elapsed() < FRESH_FOR
        {
            return Page::Answers;
        }
        let page = self.ask_page(&tenant.name_any()).await;
        lock(&self.pages).insert(uid, (page.clone(), Instant::now()));
        page
    }

    async fn ask_page(&self, name: &str) -> Page {
        let server_name = format!("{name}.{}", self.gateway.base_domain);
        let host = match self.gateway.external_port {
            443 => server_name.clone(),
            port => format!("{server_name}:{port}"),
        };
        let target = Target {
            address: self.gateway.address.clone(),
            server_name,
            host,
            path: "/readyz",
        };
        match client::get(self.gateway.tls.clone(), &target, TIMEOUT).await {
            Ok((status, _)) if status.is_success() => Page::Answers,
            Ok((status, _)) => Page::Fails(format!(
                "the gateway answered {status} for https://{}/readyz",
                target.host
            )),
            Err(error) => Page::Fails(format!(
                "https://{}/readyz through {}: {error}",
                target.host, target.address
            )),
        }
    }

    /// What the database at `ip` says of itself. A healthy one is asked once, an unhealthy one each time.
    pub async fn database(&self, uid: &str, ip: &str, ready: bool) -> Option<AgentReport> {
        if let Some(report) = lock(&self.databases).get(uid)
            && ready
            && report.ready
        {
            return Some(report.clone());
        }
        let (tls, _) = lock(&self.trust).get(uid).cloned()?;
        let target = Target {
            address: format!("{ip}:{HTTPS_PORT}"),
            server_name: "database".to_owned(),
            host: "database".to_owned(),
            path: "/status",
        };
        let (_, body) = client::get(tls, &target, TIMEOUT).await.ok()?;
        let report: AgentReport = serde_json::from_slice(&body).ok()?;
        lock(&self.databases).insert(uid.to_owned(), report.clone());
        Some(report)
    }

    /// Which keys the app's pod at `ip` says that it uses. It is asked under the name of its Service, which no gateway
    /// passes on.
    pub async fn app_keys(&self, uid: &str, ip: &str) -> Answer {
        let Some((tls, _)) = lock(&self.trust).get(uid).cloned() else {
            return Answer::Silent("the silo's authority is not known yet".to_owned());
        };
        let target = Target {
            address: format!("{ip}:{HTTPS_PORT}"),
            server_name: "app".to_owned(),
            host: "app".to_owned(),
            path: "/keyz",
        };
        match client::get(tls, &target, TIMEOUT).await {
            Ok((status, _)) if status.is_server_error() => {
                Answer::Silent(format!("it answers {status}"))
            }
            Ok((status, body)) if status.is_success() => {
                serde_json::from_slice(&body).map_or(Answer::Unknown, Answer::Uses)
            }
            Ok(_) => Answer::Unknown,
            Err(error) => Answer::Silent(error.to_string()),
        }
    }

    /// Has the agent at `ip` hand out the whole database, sealed for `recipient`. None while the agent cannot be asked.
    pub async fn export(
        &self,
        uid: &str,
        ip: &str,
        recipient: &str,
    ) -> Option<Result<Download, FetchError>> {
        let (tls, _) = lock(&self.trust).get(uid).cloned()?;
        let request = Request::get(format!("/export?recipient={recipient}"))
            .header(header::HOST, "database")
            .body(Full::default());
        let address = format!("{ip}:{HTTPS_PORT}");
        Some(match request {
            Ok(request) => {
                client::download(tls, &address, "database", request, EXPORT_PATIENCE).await
            }
            Err(_) => Err(FetchError::Request(recipient.to_owned())),
        })
    }

    /// Whether the agent of this silo can be asked.
    #[must_use]
    pub fn trusts(&self, uid: &str) -> bool {
        lock(&self.trust)
            .get(uid)
            .is_some_and(|(_, since)| since.elapsed() < TRUST_FOR)
    }

    /// Learns how to reach a silo's agent: as a client that `authority` vouches for, trusting `bundle_pem`.
    pub fn trust(&self, uid: &str, authority: &Authority, bundle_pem: &str) {
        let tls = pki::operator_client(authority, Timestamp::now())
            .map_err(Box::from)
            .and_then(|leaf| {
                let identity = Some((leaf.certificate_pem.as_str(), leaf.key_pem()));
                client::client_config(bundle_pem.as_bytes(), identity)
            });
        match tls {
            Ok(tls) => {
                lock(&self.trust).insert(uid.to_owned(), (tls, Instant::now()));
            }
            Err(error) => tracing::warn!(%error, "cannot set up TLS towards the agent"),
        }
    }

    /// Forgets a tenant that is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.pages).remove(uid);
        lock(&self.databases).remove(uid);
        lock(&self.trust).remove(uid);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
