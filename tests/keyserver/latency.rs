//! How long an unwrap takes, with everything in one process but PostgreSQL.

use std::time::{Duration, Instant};

use granary::keys::Purpose;

use crate::api_server::ApiServer;
use crate::plane::Plane;
use crate::postgres::Postgres;

/// Requests one after the other, and then so many at the same time.
const COUNT: usize = 500;
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --test keyserver -- --ignored --nocapture"]
async fn latency_of_an_unwrap() {
    // Durable commits, as in a plane.
    let postgres = Postgres::start(&[]);
    let fast = ["--pod-rate", "1000", "--pod-burst", "1000"];
    let plane = Plane::start_on(&postgres, ApiServer::start().await, &fast).await;
    let acme = plane.tenant_with_keys("acme").await;
    let app = plane.client(&plane.api.pod(&acme.namespace, "app"));
    for (what, have) in [("unwrap", &[][..]), ("nothing new", &[1])] {
        let mut times = Vec::new();
        for _ in 0..COUNT {
            let began = Instant::now();
            app.unwrap(Purpose::App, have).await.unwrap();
            times.push(began.elapsed());
        }
        report(what, times);
    }
    let pods: Vec<_> = (0..AT_ONCE)
        .map(|_| plane.client(&plane.api.pod(&acme.namespace, "app")))
        .collect();
    let began = Instant::now();
    let asking = pods.iter().map(async |pod| {
        let mut times = Vec::new();
        for _ in 0..COUNT / AT_ONCE {
            let began = Instant::now();
            pod.unwrap(Purpose::App, &[]).await.unwrap();
            times.push(began.elapsed());
        }
        times
    });
    let times: Vec<_> = futures::future::join_all(asking).await.concat();
    let count = u32::try_from(times.len()).unwrap();
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    report(&format!("unwrap, {AT_ONCE} at once, {rate:.0}/s"), times);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
}
