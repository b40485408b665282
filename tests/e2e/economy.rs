//! What the operator costs the API server.

use std::time::Duration;

use crate::audit::Audit;
use crate::plane::shared;
use crate::silo::Silo;
use crate::support::{cleaning_up, client, unique};

/// Longer than the operator's own round of looking at each page.
const QUIET: Duration = Duration::from_secs(65);

#[tokio::test]
async fn a_tenant_at_rest_costs_no_call() {
    let _plane = shared().await;
    let client = client().await;
    let test = unique("idle");
    cleaning_up(&client, &test, async {
        let onboarding = Audit::from_now();
        let (one, two) = Silo::onboard_two(&client, &test, "idle").await;
        let names = [one.name.as_str(), two.name.as_str()];
        let wrote = onboarding.of_operator_about(&names);
        assert!(wrote.len() > 40, "the audit log misses calls: {wrote:#?}");
        let refused: Vec<_> = wrote.iter().filter(|call| call.code >= 400).collect();
        assert!(refused.is_empty(), "{refused:#?}");

        Audit::calm(&names).await;
        let window = Audit::from_now();
        // There is nothing to wait for: this is the length of what is measured.
        tokio::time::sleep(QUIET).await;
        let calls = window.of_operator();
        assert!(
            calls.iter().any(|call| call.resource == "leases"),
            "the audit log does not see the operator"
        );
        let about = window.of_operator_about(&names);
        assert!(about.is_empty(), "{about:#?}");
    })
    .await;
}
