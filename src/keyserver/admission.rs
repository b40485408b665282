//! What every request under `/v1` goes through before its handler: who asks, how often, and with what.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::authenticate::{self, Caller};
use super::authorize::{self, Role};
use super::bucket::Buckets;
use super::problem::{Code, Refusal};
use super::shared::Shared;
use super::trail;
use crate::audit::Action;
use crate::https::server::Peer;
use crate::keys::TenantUid;

/// Longest body of a request, in bytes.
const BODY_LIMIT: usize = 16 * 1024;

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Callers whose requests are counted at the same time.
const MOST_CALLERS: usize = 65_536;

/// What the operator may do: requests a second, and at once.
const OPERATOR_RATE: (f64, f64) = (100.0, 500.0);

/// What an address may ask before anybody knows who it is: requests a second, and at once. More than any caller may
/// that is known, so that only a flood of worthless tokens is held back, which would else reach the API server.
const ADDRESS_RATE: (f64, f64) = (200.0, 1000.0);

/// Refusals of one caller that are audited: a second, and at once. Others are in the log alone, so that a caller that
/// does not stop cannot fill the audit.
const REFUSAL_RATE: (f64, f64) = (0.1, 20.0);

/// Who may ask how often.
#[derive(Debug)]
pub struct Rates {
    refusals: Buckets<String>,
    addresses: Buckets<IpAddr>,
    pods: Buckets<String>,
    operator: Buckets<String>,
}

impl Rates {
    /// Pods may make so many requests a second in the long run, and so many at once.
    pub fn new(pod_rate: u16, pod_burst: u16) -> Self {
        let buckets = |(rate, burst)| Buckets::new(rate, burst, MOST_CALLERS);
        Self {
            addresses: Buckets::new(ADDRESS_RATE.0, ADDRESS_RATE.1, MOST_CALLERS),
            pods: buckets((pod_rate.into(), pod_burst.into())),
            operator: buckets(OPERATOR_RATE),
            refusals: buckets(REFUSAL_RATE),
        }
    }

    /// Whether a refusal of this caller's is to be audited.
    pub fn audits_refusal(&self, caller: &Caller) -> bool {
        let key = caller.pod_uid.clone();
        self.refusals.take(key, Instant::now()).is_ok()
    }

    fn address(&self, address: IpAddr) -> Result<(), Refusal> {
        self.addresses
            .take(address, Instant::now())
            .map_err(|wait| too_often(&address.to_string(), wait))
    }

    fn caller(&self, role: Role, caller: &Caller) -> Result<(), Refusal> {
        let buckets = match role {
            Role::Operator => &self.operator,
            Role::Pod(_) => &self.pods,
        };
        buckets
            .take(caller.pod_uid.clone(), Instant::now())
            .map_err(|wait| too_often(&caller.to_string(), wait))
    }
}

fn too_often(who: &str, wait: Duration) -> Refusal {
    Refusal::for_now(Code::TooManyRequests, format!("{who} asks too often"), wait)
}

/// A request of a known caller.
#[derive(Debug)]
pub struct Admitted {
    /// Who asks.
    pub caller: Caller,
    /// As what.
    pub role: Role,
    body: Bytes,
}

impl Admitted {
    /// The body as what the path takes.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Refusal::new(Code::BadRequest, format!("the body is not usable: {error}"))
        })
    }

    /// The body of a path that takes no arguments: nothing, or an empty object.
    pub fn no_input(&self) -> Result<(), Refusal> {
        if self.body.is_empty() {
            return Ok(());
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(Value::Object(fields)) if fields.is_empty() => Ok(()),
            _ => Err(Refusal::new(
                Code::BadRequest,
                "this path takes no arguments: send no body, or {}",
            )),
        }
    }
}

/// Finds out who asks, and reads what they ask for. `action` is what the audit says was refused, where it is.
pub async fn admit(shared: &Shared, request: Request, action: Action) -> Result<Admitted, Refusal> {
    let (parts, body) = request.into_parts();
    if let Some(peer) = parts.extensions.get::<Peer>() {
        shared.rates.address(peer.address)?;
    }
    let token = authenticate::bearer(&parts.headers)?;
    let caller = authenticate::review(&shared.client, token).await?;
    let role = authorize::role(&caller, &shared.plane);
    // Before anything is written because of this caller.
    shared.rates.caller(role, &caller)?;
    if let Err(refusal) = authenticate::check_pod(&shared.client, &caller).await {
        if refusal.code == Code::PodGone {
            trail::refused(shared, &caller, action, None, &refusal).await;
        }
        return Err(refusal);
    }
    let body = read(body).await?;
    Ok(Admitted { caller, role, body })
}

/// A request of the operator about one tenant.
pub async fn admit_operator(
    shared: &Shared,
    uid: &str,
    request: Request,
    action: Action,
) -> Result<(TenantUid, Admitted), Refusal> {
    let admitted = admit(shared, request, action).await?;
    if let Err(refusal) = authorize::manage(admitted.role, &admitted.caller) {
        trail::refused(shared, &admitted.caller, action, None, &refusal).await;
        return Err(refusal);
    }
    let tenant = uid.parse().map_err(|error| {
        Refusal::new(Code::BadRequest, format!("the path is not usable: {error}"))
    })?;
    Ok((tenant, admitted))
}

async fn read(body: axum::body::Body) -> Result<Bytes, Refusal> {
    let reading = Limited::new(body, BODY_LIMIT).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            Code::TooLarge,
            format!("the body has more than {BODY_LIMIT} bytes"),
        )),
        Ok(Err(error)) => Err(Refusal::new(
            Code::BadRequest,
            format!("the body cannot be read: {error}"),
        )),
        Err(_) => Err(Refusal::new(
            Code::BadRequest,
            format!("the body did not come within {BODY_TIMEOUT:?}"),
        )),
    }
}
