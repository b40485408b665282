//! The way to the cluster: which one, how long to wait for it, and what its errors mean.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use super::exit::Exit;
use super::failure::{Failure, root_cause};
use super::globals::Globals;
use crate::api::Tenant;

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    place: String,
    request_timeout: Duration,
}

impl Cluster {
    /// Finds the cluster as kubectl does: `--kubeconfig`, `$KUBECONFIG`, `~/.kube/config`, else the pod's own.
    pub async fn connect(globals: &Globals) -> Result<Self, Failure> {
        let mut config = configuration(globals).await?;
        config.connect_timeout = Some(globals.request_timeout);
        let context = globals
            .context
            .as_ref()
            .map_or_else(String::new, |context| format!(", context {context}"));
        let place = format!("{}{context}", config.cluster_url);
        let client = Client::try_from(config).map_err(|error| {
            Failure::from_kube(&format!("cannot connect to the cluster at {place}"), &error)
        })?;
        Ok(Self {
            client,
            place,
            request_timeout: globals.request_timeout,
        })
    }

    /// The client, for calls that [`Cluster::ask`] does not fit (watches).
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The tenants.
    #[must_use]
    pub fn tenants(&self) -> Api<Tenant> {
        Api::all(self.client())
    }

    /// URL of the API server and the context, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How long one request may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Sends one request; `what` says what cannot be done if it fails (`cannot read tenant "acme"`).
    pub async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.placed(Failure::from_kube(what, &error))),
            Err(_) => Err(
                self.placed(Failure::new(Exit::Unreachable, what).why(format!(
                    "no answer within {}",
                    super::age::elapsed(self.request_timeout)
                ))),
            ),
        }
    }

    /// Reads a tenant.
    pub async fn tenant(&self, name: &str) -> Result<Tenant, Failure> {
        let what = format!("cannot read tenant {name:?}");
        let mut tenant = self
            .ask(&what, self.tenants().get(name))
            .await
            .map_err(|failure| {
                if failure.exit() == Exit::NotFound {
                    failure.next("granary list   # shows the tenants there are")
                } else {
                    failure
                }
            })?;
        tenant.metadata.managed_fields = None;
        Ok(tenant)
    }

    /// Says which cluster it is that cannot be reached, and what to try.
    #[must_use]
    pub fn placed(&self, failure: Failure) -> Failure {
        if failure.exit() == Exit::Unreachable {
            failure
                .why(format!("the API server is {}", self.place))
                .next("kubectl cluster-info   # does kubectl reach it?")
        } else {
            failure
        }
    }
}

async fn configuration(globals: &Globals) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: globals.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match &globals.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let chosen = globals.kubeconfig.is_some() || globals.context.is_some();
    let from_file = match read {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(error),
    };
    match from_file {
        Ok(config) => Ok(config),
        Err(error) if chosen => Err(no_configuration(&error)),
        Err(error) => Config::incluster().map_err(|_| no_configuration(&error)),
    }
}

fn no_configuration(error: &KubeconfigError) -> Failure {
    let failure = Failure::new(Exit::Unreachable, "cannot tell which cluster to talk to");
    match error {
        KubeconfigError::LoadContext(context) => failure
            .why(format!("the kubeconfig has no context {context:?}"))
            .next("kubectl config get-contexts"),
        KubeconfigError::CurrentContextNotSet => failure
            .why("the kubeconfig names no current context")
            .next("granary --context NAME …   # kubectl config get-contexts lists them"),
        KubeconfigError::ReadConfig(cause, path) => failure
            .why(format!("cannot read {}: {cause}", path.display()))
            .next("granary --kubeconfig FILE …"),
        other => failure
            .why(root_cause(other))
            .next("granary --kubeconfig FILE …"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_context_is_named() {
        let failure = no_configuration(&KubeconfigError::LoadContext("prod".to_owned()));
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(
            failure.reasons(),
            ["the kubeconfig has no context \"prod\""]
        );
    }
}
