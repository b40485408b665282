//! Progress per condition with the time since the start: spinners on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::ResourceExt;

use super::age::elapsed;
use super::look;
use super::printer::Printer;
use super::table::{Tone, plain, toned};
use crate::api::{ConditionStatus, ConditionType, Tenant};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Follows one tenant and says what changed.
pub struct Progress {
    printer: Printer,
    started: Instant,
    said: BTreeMap<ConditionType, String>,
    keys: BTreeMap<String, String>,
    live: Option<Live>,
}

/// One line per condition, redrawn in place.
struct Live {
    all: MultiProgress,
    bars: BTreeMap<ConditionType, ProgressBar>,
}

/// What there is to say about one condition.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    done: bool,
    tone: Tone,
    text: String,
}

impl Progress {
    /// Starts to follow; elapsed times count from `started`.
    #[must_use]
    pub fn new(printer: Printer, started: Instant) -> Self {
        let live = (printer.terminal().live_progress && !printer.quiet()).then(|| Live {
            all: MultiProgress::new(),
            bars: BTreeMap::new(),
        });
        Self {
            printer,
            started,
            said: BTreeMap::new(),
            keys: BTreeMap::new(),
            live,
        }
    }

    /// Says something that is no condition, such as what was just written.
    pub fn step(&self, said: &str) {
        let text = format!("{:>6}  {}", elapsed(self.started.elapsed()), plain(said));
        match &self.live {
            // A failure to draw leaves nobody to tell.
            Some(live) => drop(live.all.println(text)),
            None => self.printer.note(&text),
        }
    }

    /// Says which conditions changed since the last call.
    pub fn observe(&mut self, tenant: &Tenant) {
        let generation = tenant.metadata.generation.unwrap_or(0);
        let blocking = look::blocking(tenant).map(|condition| condition.type_);
        for condition in look::conditions(tenant) {
            // Until it holds, `Ready` repeats the first of the others that does not.
            if condition.type_ == ConditionType::Ready
                && blocking.is_some_and(|type_| type_ != ConditionType::Ready)
            {
                continue;
            }
            // What was true of an older spec says nothing about this one.
            if condition.observed_generation < generation {
                continue;
            }
            let line = line(condition.status, &condition.reason, &condition.message);
            if self.said.get(&condition.type_) == Some(&line.text) {
                continue;
            }
            self.say(condition.type_, &line);
            self.said.insert(condition.type_, line.text);
        }
    }

    /// Says how far a rotation of the tenant's keys is, if that is something else than at the last call.
    pub fn observe_keys(&mut self, tenant: &Tenant) {
        let Some(condition) = look::condition(tenant, ConditionType::KeyReady) else {
            return;
        };
        let name = tenant.name_any();
        let said = &condition.message;
        if self.keys.get(&name) != Some(said) {
            self.step(&format!("tenant {name}: {said}"));
            self.keys.insert(name, said.clone());
        }
    }

    fn say(&mut self, type_: ConditionType, news: &Line) {
        let time = elapsed(self.started.elapsed());
        let name = look::condition_name(type_);
        let Some(live) = &mut self.live else {
            self.printer
                .note(&format!("{time:>6}  {name:<18} {}", news.text));
            return;
        };
        let bar = live.bars.entry(type_).or_insert_with(|| {
            // Every line counts from the start of the command, as the finished ones do.
            let bar = ProgressBar::new_spinner().with_elapsed(self.started.elapsed());
            let bar = live.all.add(bar);
            bar.enable_steady_tick(TURN);
            bar
        });
        let colour = self.printer.terminal().colour_messages;
        let text = toned(&news.text, news.tone, colour);
        if news.done {
            bar.set_style(style("{msg}"));
            bar.finish_with_message(format!("{time:>6}  {name:<18} {text}"));
        } else {
            bar.set_style(style("{elapsed:>6}  {spinner} {msg}"));
            bar.set_message(format!("{name:<16} {text}"));
        }
    }

    /// Stops to follow: what is unfinished stays on the screen as it was last said.
    pub fn finish(&mut self) {
        for bar in self.live.iter().flat_map(|live| live.bars.values()) {
            if !bar.is_finished() {
                bar.abandon();
            }
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The style of a bar; the plain one if the template were wrong, which a test rules out.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn line(status: ConditionStatus, reason: &str, message: &str) -> Line {
    let because = match (reason.is_empty(), message.is_empty()) {
        (_, true) => plain(reason),
        (true, false) => plain(message),
        (false, false) => format!("{}: {}", plain(reason), plain(message)),
    };
    match status {
        ConditionStatus::True => Line {
            done: true,
            tone: Tone::Good,
            text: "ok".to_owned(),
        },
        ConditionStatus::False => Line {
            done: false,
            tone: Tone::Warn,
            text: because,
        },
        ConditionStatus::Unknown => Line {
            done: false,
            tone: Tone::Dim,
            text: format!("unknown ({because})"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_short_and_what_does_not_says_why() {
        assert_eq!(
            line(ConditionStatus::True, "Applied", "all there").text,
            "ok"
        );
        assert_eq!(
            line(ConditionStatus::False, "Starting", "postgres starts").text,
            "Starting: postgres starts"
        );
        assert_eq!(
            line(ConditionStatus::Unknown, "NotSeen", "").text,
            "unknown (NotSeen)"
        );
    }

    #[test]
    fn the_templates_are_right() {
        for template in ["{msg}", "{elapsed:>6}  {spinner} {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
