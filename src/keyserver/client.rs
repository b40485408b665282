//! The key server as its clients see it: pods fetch their keys, the operator manages.
//!
//! Token and authority are read anew for every call, because both files change while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::problem::Problem;
use super::wire::{
    DestroyRequest, EnsureRequest, Proof, RetireRequest, RewrapRequest, RotateRequest, TenantKeys,
    UnwrapAnswer, UnwrapRequest,
};
use crate::https::client::{self, FetchError};
use crate::keys::{KEY_LENGTH, PlainKey, Purpose, TenantUid};
use crate::registry::data_keys;

/// Longest wait for an answer: longer than the key server is patient with the KMS.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How the key server is reached.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// URL of the key server
    #[arg(
        long = "server",
        env = "GRANARY_KEYSERVER",
        default_value = "https://granary-keyserver.granary-system.svc:8443"
    )]
    pub server: String,

    /// The files that a call needs.
    #[command(flatten)]
    pub files: ClientFiles,
}

/// The files that a call of the key server needs, read anew each time.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientFiles {
    /// File with the pod's projected token of audience granary-keys
    #[arg(
        long,
        env = "GRANARY_KEYSERVER_TOKEN_FILE",
        default_value = "/run/granary/token/token"
    )]
    pub token_file: PathBuf,

    /// File with the authorities that the key server's certificate is checked against
    #[arg(
        long,
        env = "GRANARY_KEYSERVER_CA_FILE",
        default_value = "/run/granary/keyserver-ca/ca.crt"
    )]
    pub ca_file: PathBuf,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("{0:?} is no URL of a key server: write it as https://HOST:PORT")]
    Server(String),
    /// The token or the authorities cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no usable {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// There was no answer.
    #[error("no answer from the key server")]
    Unreachable(#[source] FetchError),
    /// The key server refused.
    #[error("the key server refused ({}): {}; {}", .0.code, .0.detail, .0.next)]
    Refused(Problem),
    /// The answer is none that this version knows.
    #[error("the key server's answer (status {status}) cannot be read: {why}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// What is wrong with it; says nothing of the content.
        why: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later, without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::File { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 503),
            Self::Server(_) | Self::Content { .. } | Self::Answer { .. } => false,
        }
    }

    /// How long the key server asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after_seconds.map(Duration::from_secs),
            _ => None,
        }
    }
}

/// One version of a pod's own key.
#[derive(Debug)]
pub struct OwnKey {
    /// The version.
    pub version: u32,
    /// Whether it is for writing.
    pub active: bool,
    /// The key; none where the caller said that it has it.
    pub key: Option<PlainKey>,
}

/// A pod's own keys of one purpose.
#[derive(Debug)]
pub struct OwnKeys {
    /// Every version that can be needed, newest first.
    pub keys: Vec<OwnKey>,
    /// When it is worth asking again, if the key server says so.
    pub again_in: Option<Duration>,
}

/// A client of the key server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    host: String,
    files: ClientFiles,
}

impl Client {
    /// A client for this key server. Nothing is read or opened yet.
    pub fn new(args: &ClientArgs) -> Result<Self, ClientError> {
        let unusable = || ClientError::Server(args.server.clone());
        let uri: Uri = args.server.parse().map_err(|_| unusable())?;
        let bare = uri.query().is_none() && uri.path().trim_end_matches('/').is_empty();
        let host = uri.host().ok_or_else(unusable)?;
        // A URL without TLS would carry the token and the keys in the clear.
        if uri.scheme_str() != Some("https") || !bare {
            return Err(unusable());
        }
        Ok(Self {
            address: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            host: host.trim_matches(['[', ']']).to_owned(),
            files: args.files.clone(),
        })
    }

    /// The calling pod's own keys of this purpose, newest first; those in `have` are listed without the key itself.
    pub async fn unwrap(&self, purpose: Purpose, have: &[u32]) -> Result<OwnKeys, ClientError> {
        let request = UnwrapRequest {
            purpose,
            have: have.to_vec(),
        };
        let (status, body) = self.post("/v1/unwrap", &request).await?;
        own_keys(status, &body)
    }

    /// Makes sure that the tenant has a key, and a data key for each purpose.
    pub async fn ensure(
        &self,
        tenant: TenantUid,
        request: &EnsureRequest,
    ) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "keys", request).await
    }

    /// The tenant's keys; with `describe` the KMS is asked too.
    pub async fn keys(&self, tenant: TenantUid, describe: bool) -> Result<TenantKeys, ClientError> {
        let query = if describe { "?describe=true" } else { "" };
        let path = format!("/v1/tenants/{tenant}/keys{query}");
        let (status, body) = self.call(Request::get(&path), Bytes::new()).await?;
        parse(status, &body)
    }

    /// Makes another version of a data key the one that writes.
    pub async fn rotate(
        &self,
        tenant: TenantUid,
        request: RotateRequest,
    ) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "rotate", &request).await
    }

    /// Gives up a version that nothing needs any more.
    pub async fn retire(
        &self,
        tenant: TenantUid,
        request: RetireRequest,
    ) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "retire", &request).await
    }

    /// Rotates the tenant's key at the KMS and wraps every data key under its new version.
    pub async fn rewrap(
        &self,
        tenant: TenantUid,
        request: RewrapRequest,
    ) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "rewrap", &request).await
    }

    /// Makes the tenant's key refuse.
    pub async fn disable(&self, tenant: TenantUid) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "disable", &Nothing {}).await
    }

    /// Makes the tenant's key serve again.
    pub async fn enable(&self, tenant: TenantUid) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "enable", &Nothing {}).await
    }

    /// Has the tenant's key destroyed after 7 to 30 days; once they are over, confirms it.
    pub async fn destroy(
        &self,
        tenant: TenantUid,
        request: DestroyRequest,
    ) -> Result<TenantKeys, ClientError> {
        self.manage(tenant, "destroy", &request).await
    }

    /// Whether the KMS refuses to unwrap each of the tenant's data keys.
    pub async fn prove(&self, tenant: TenantUid) -> Result<Proof, ClientError> {
        self.manage(tenant, "prove", &Nothing {}).await
    }

    async fn manage<T: DeserializeOwned>(
        &self,
        tenant: TenantUid,
        action: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let path = format!("/v1/tenants/{tenant}/{action}");
        let (status, body) = self.post(&path, request).await?;
        parse(status, &body)
    }

    async fn post(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<(u16, Bytes), ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| ClientError::Answer {
            status: 0,
            why: error.to_string(),
        })?;
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.call(request, body.into()).await
    }

    async fn call(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(u16, Bytes), ClientError> {
        let request = request
            .header(header::HOST, &self.address)
            .header(header::USER_AGENT, "granary")
            .header(header::AUTHORIZATION, self.authorization()?)
            .body(Full::new(body))
            .map_err(|_| ClientError::Server(self.address.clone()))?;
        let tls = self.tls()?;
        let (status, body) = client::send(tls, &self.address, &self.host, request, TIMEOUT)
            .await
            .map_err(ClientError::Unreachable)?;
        Ok((status.as_u16(), body))
    }

    fn authorization(&self) -> Result<HeaderValue, ClientError> {
        let token = read(&self.files.token_file)?;
        let unusable = || ClientError::Content {
            path: self.files.token_file.clone(),
            what: "token",
        };
        let token = std::str::from_utf8(&token).map_err(|_| unusable())?.trim();
        if token.is_empty() {
            return Err(unusable());
        }
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut value = HeaderValue::from_str(&text).map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, ClientError> {
        let roots = read(&self.files.ca_file)?;
        client::client_config(&roots, None).map_err(|_| ClientError::Content {
            path: self.files.ca_file.clone(),
            what: "certificate authority",
        })
    }
}

/// The body of a request that says nothing more than its path.
#[derive(Serialize)]
struct Nothing {}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| ClientError::File {
            path: path.to_owned(),
            source,
        })
}

fn parse<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, ClientError> {
    refused(status, body)?;
    serde_json::from_slice(body).map_err(|error| ClientError::Answer {
        status,
        why: error.to_string(),
    })
}

fn refused(status: u16, body: &[u8]) -> Result<(), ClientError> {
    if status == 200 {
        return Ok(());
    }
    Err(match serde_json::from_slice(body) {
        Ok(problem) => ClientError::Refused(problem),
        Err(_) => ClientError::Answer {
            status,
            why: "it is no problem as the key server writes them".to_owned(),
        },
    })
}

fn own_keys(status: u16, body: &[u8]) -> Result<OwnKeys, ClientError> {
    refused(status, body)?;
    // Errors of the parser quote what they read, which may be a key.
    let unreadable = |why: &str| ClientError::Answer {
        status,
        why: why.to_owned(),
    };
    let answer: UnwrapAnswer =
        serde_json::from_slice(body).map_err(|_| unreadable("it is no list of keys"))?;
    let mut keys = Vec::with_capacity(answer.keys.len());
    for entry in answer.keys {
        let key = match entry.key {
            Some(text) => Some(decode(text).ok_or_else(|| unreadable("a key has a wrong length"))?),
            None => None,
        };
        keys.push(OwnKey {
            version: entry.version,
            active: entry.state == data_keys::State::Active,
            key,
        });
    }
    Ok(OwnKeys {
        keys,
        again_in: answer.again_in_seconds.map(Duration::from_secs),
    })
}

fn decode(text: &str) -> Option<PlainKey> {
    // The decoder wants room for what the text could hold, which is a little more than a key.
    let mut bytes = Zeroizing::new([0; KEY_LENGTH + 16]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    PlainKey::try_from(&bytes[..length]).ok()
}
