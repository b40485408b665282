//! Figures of the operator, in the `OpenMetrics` text format. Every label has few, fixed values.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PassOutcome {
    /// The silo is what it should be.
    Done,
    /// Everything was written; the silo is on its way.
    Waiting,
    /// The spec cannot be carried out.
    Rejected,
    /// Something could not be done; it is repeated.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: PassOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabel {
    verb: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

/// The operator's figures; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<OutcomeLabel, Histogram>,
    writes: Family<WriteLabel, Counter>,
    queue: Gauge,
    tenants: Family<PhaseLabel, Gauge>,
    without_keys: Gauge,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("granary");
        let passes = Family::<OutcomeLabel, Histogram>::new_with_constructor(|| {
            // A pass is pure computing or a few writes: from a tenth of a millisecond to the longest write.
            Histogram::new([
                0.0001, 0.0005, 0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
            ])
        });
        let writes = Family::default();
        let queue = Gauge::default();
        let tenants = Family::default();
        let without_keys = Gauge::default();
        let leader = Gauge::default();
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one pass over one tenant, by outcome",
            Unit::Seconds,
            passes.clone(),
        );
        registry.register(
            "api_writes",
            "Writes sent to the API server, by verb and kind",
            writes.clone(),
        );
        registry.register("queue_depth", "Tenants that wait for a pass", queue.clone());
        registry.register("tenants", "Tenants, by phase", tenants.clone());
        registry.register(
            "tenants_without_keys",
            "Tenants that wait for their keys",
            without_keys.clone(),
        );
        registry.register("leader", "1 while this replica leads", leader.clone());
        Self {
            registry: Arc::new(registry),
            passes,
            writes,
            queue,
            tenants,
            without_keys,
            leader,
        }
    }
}

impl Metrics {
    /// One pass ended.
    pub fn pass(&self, outcome: PassOutcome, took: Duration) {
        self.passes
            .get_or_create(&OutcomeLabel { outcome })
            .observe(took.as_secs_f64());
    }

    /// One write is sent.
    pub fn api_write(&self, verb: &'static str, kind: &'static str) {
        self.writes.get_or_create(&WriteLabel { verb, kind }).inc();
    }

    /// This many tenants wait.
    pub fn queue_depth(&self, depth: usize) {
        self.queue.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// This replica leads, or not.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Replaces the counts of tenants by phase.
    pub fn tenants(&self, by_phase: impl IntoIterator<Item = (String, i64)>) {
        self.tenants.clear();
        for (phase, count) in by_phase {
            self.tenants.get_or_create(&PhaseLabel { phase }).set(count);
        }
    }

    /// This many tenants wait for their keys.
    pub fn tenants_without_keys(&self, count: i64) {
        self.without_keys.set(count);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_text_with_fixed_labels() {
        let metrics = Metrics::default();
        metrics.pass(PassOutcome::Done, Duration::from_millis(3));
        metrics.api_write("apply", "Service");
        metrics.tenants([("Ready".to_owned(), 2)]);
        let text = metrics.render();
        assert!(
            text.contains("granary_reconcile_duration_seconds_count{outcome=\"Done\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("granary_api_writes_total{verb=\"apply\",kind=\"Service\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("granary_tenants{phase=\"Ready\"} 2"),
            "{text}"
        );
        metrics.tenants([]);
        assert!(
            !metrics.render().contains("phase=\"Ready\""),
            "a phase that nobody is in is gone"
        );
    }
}
