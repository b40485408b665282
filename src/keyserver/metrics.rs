//! Figures of the key server, in the `OpenMetrics` text format. Every label has few, fixed values; none names a tenant.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    path: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KmsLabel {
    operation: &'static str,
    outcome: &'static str,
}

/// The key server's figures; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabel, Histogram>,
    kms: Family<KmsLabel, Histogram>,
}

/// From the fastest answer in memory to the longest that a caller waits, in seconds.
fn latency() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("granary_keyserver");
        let requests = Family::<RequestLabel, Histogram>::new_with_constructor(latency);
        let kms = Family::<KmsLabel, Histogram>::new_with_constructor(latency);
        registry.register_with_unit(
            "request_duration",
            "Time of one request, by path and outcome; keys are given out at /v1/unwrap",
            Unit::Seconds,
            requests.clone(),
        );
        registry.register_with_unit(
            "kms_call_duration",
            "Time of one call of the KMS, by operation and outcome",
            Unit::Seconds,
            kms.clone(),
        );
        Self {
            registry: Arc::new(registry),
            requests,
            kms,
        }
    }
}

impl Metrics {
    /// One request ended. `path` is a route's pattern, never a path with a tenant in it.
    pub fn request(&self, path: &str, outcome: &'static str, took: Duration) {
        let label = RequestLabel {
            path: path.to_owned(),
            outcome,
        };
        self.requests
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    /// One call of the KMS ended.
    pub fn kms(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.kms
            .get_or_create(&KmsLabel { operation, outcome })
            .observe(took.as_secs_f64());
    }

    /// All figures as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# the figures could not be written: {error}\n"),
        }
    }
}
