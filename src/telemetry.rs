//! Logs to stderr, and the metrics of one gateway.
//!
//! Knows how to tell, not what happens: others call. There is no global registry, so that two gateways in one process (in a
//! test) count apart. The metrics' names are a contract with dashboards; the test below holds their rendered form.

use std::{borrow::Cow, fmt, io::IsTerminal};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};
use serde::{Deserialize, Deserializer, Serialize};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

use crate::event::{Reason, Status, Usage};

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For people or for programs.
    pub format: Format,
    /// What is logged, as in `info,lastword=debug`.
    #[serde(deserialize_with = "filter")]
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; in colours on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Begins to log, in the whole process. A second call, or one after another library's, changes nothing.
    pub fn start(&self) {
        let filter = EnvFilter::new(&self.filter);
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.format {
            Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
            Format::Json => lines.json().flatten_event(true).finish().try_init(),
        };
        if started.is_err() {
            tracing::debug!("somebody else logs already");
        }
    }
}

fn filter<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    match EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(serde::de::Error::custom(format!(
            "`{text}` is not a filter; write \"info\", \"debug\" or \"warn,lastword=debug\""
        ))),
    }
}

/// The content type of [`Metrics::render`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one gateway. Counting one is an atomic addition, observing one a short lock; neither allocates.
pub struct Metrics {
    registry: Registry,
    /// Answers that are being generated.
    pub streams_running: Gauge,
    /// Attached readers.
    pub readers: Gauge,
    /// Readers that came back with a cursor.
    pub resumes: Counter,
    /// Records that such a reader was sent from before it came back.
    pub replayed_records: Counter,
    /// Records appended.
    pub records: Counter,
    /// Bytes of all logs in the store.
    pub log_bytes: Gauge,
    /// Upstream answers that ended without their terminal mark.
    pub upstream_truncated: Counter,
    /// Seconds from an upstream's bytes to the records that readers can see.
    pub overhead: Histogram,
    /// Seconds of one append to the store.
    pub store_commit: Histogram,
    /// Seconds from the prompt to the first content.
    pub time_to_first_token: Histogram,
    /// Seconds between two tokens, on average over an answer.
    pub time_per_output_token: Histogram,
    streams_ended: Family<Ended, Counter>,
    resets: Family<ResetLabels, Counter>,
    config_reloads: Family<ReloadLabels, Counter>,
    /// Ended answers that the application is still to be told of.
    pub webhooks_due: Gauge,
    webhooks: Family<WebhookLabels, Counter>,
    input_tokens: Histogram,
    output_tokens: Histogram,
}

/// The labels of an answer that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Why, where that is known; absent is the empty label, which Prometheus takes for none.
    pub reason: Option<Reason>,
    /// The protocol its client spoke.
    pub protocol: Cow<'static, str>,
    /// The backend's name in the configuration.
    pub backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResetLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token_type: &'static str,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut register = Register(Registry::default());
        let tokens = Family::<TokenLabels, _>::new_with_constructor(|| Histogram::new(TOKENS));
        let metrics = Self {
            streams_running: register.add("lastword_streams_running", "Answers being generated"),
            streams_ended: register.add("lastword_streams_ended", "Answers that ended, by how and why"),
            readers: register.add("lastword_readers", "Attached readers"),
            resumes: register.add("lastword_resumes", "Readers that came back with a cursor"),
            replayed_records: register.add("lastword_replayed_records", "Records sent again to readers that came back"),
            resets: register.add("lastword_resets", "Cursors that could not be served, by reason"),
            records: register.add("lastword_records", "Records appended"),
            log_bytes: register.add("lastword_log_bytes", "Bytes of all logs in the store"),
            upstream_truncated: register
                .add("lastword_upstream_truncated", "Upstream answers without their terminal mark"),
            config_reloads: register.add("lastword_config_reloads", "Configurations read while running, by result"),
            webhooks_due: register
                .add("lastword_webhooks_due", "Ended answers that the application is still to be told of"),
            webhooks: register.add("lastword_webhooks", "Tries to tell the application of an ended answer, by outcome"),
            overhead: register.seconds(
                "lastword_overhead",
                "From an upstream's bytes to records that readers see, of one batch in 16",
                OVERHEAD,
            ),
            store_commit: register.seconds(
                "lastword_store_commit",
                "One append to the store, of one batch in 16",
                COMMIT,
            ),
            time_to_first_token: register.seconds(
                "gen_ai_server_time_to_first_token",
                "From the prompt to the first content",
                FIRST_TOKEN,
            ),
            time_per_output_token: register.seconds(
                "gen_ai_server_time_per_output_token",
                "Between two tokens, on average over an answer",
                OUTPUT_TOKEN,
            ),
            input_tokens: tokens.get_or_create_owned(&TokenLabels { token_type: "input" }),
            output_tokens: tokens.get_or_create_owned(&TokenLabels { token_type: "output" }),
            registry: Registry::default(),
        };
        register.0.register("gen_ai_client_token_usage", "Tokens of an answer, as the upstream counts them", tokens);
        Self { registry: register.0, ..metrics }
    }

    /// An answer ended.
    pub fn ended(&self, labels: &Ended) {
        self.streams_ended.get_or_create(labels).inc();
    }

    /// A reader was told that its cursor cannot be served.
    pub fn reset(&self, reason: &'static str) {
        self.resets.get_or_create(&ResetLabels { reason }).inc();
    }

    /// The configuration was read again: it is in force, or it was refused.
    pub fn reloaded(&self, in_force: bool) {
        let result = if in_force { "applied" } else { "refused" };
        self.config_reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    /// So many times the application was told of an answer, will be later, or never will be.
    pub fn webhooks(&self, outcome: &'static str, times: u64) {
        self.webhooks.get_or_create(&WebhookLabels { outcome }).inc_by(times);
    }

    /// The last count of an answer's tokens. What the upstream did not count is not counted.
    pub fn used(&self, usage: &Usage) {
        for (tokens, count) in [(&self.input_tokens, usage.input_tokens), (&self.output_tokens, usage.output_tokens)] {
            if let Some(count) = count {
                #[expect(clippy::cast_precision_loss, reason = "no answer has 2^53 tokens")]
                tokens.observe(count as f64);
            }
        }
    }

    /// All of them in the text form of OpenMetrics; its content type is [`METRICS_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut rendered = String::with_capacity(16 * 1024);
        text::encode(&mut rendered, &self.registry).expect("a String takes all that is written to it");
        rendered
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A registry that gives back what it registers.
struct Register(Registry);

impl Register {
    /// The rendered name of a counter gets `_total`.
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// The rendered name gets `_seconds`.
    fn seconds(&mut self, name: &str, help: &str, buckets: impl IntoIterator<Item = f64>) -> Histogram {
        let metric = Histogram::new(buckets);
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

// The bounds of the buckets. Ours are 10 µs to 0.1 s for what should take 0.3 ms (DESIGN, budgets), and 10 µs to 2.5 s for a
// store that may be a slow disk; the others are what OpenTelemetry's conventions for generative AI advise.
const OVERHEAD: [f64; 12] = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1];
const COMMIT: [f64; 13] = [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 2.5];
const FIRST_TOKEN: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const OUTPUT_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Powers of 4.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample lines without the buckets.
    fn samples(metrics: &Metrics) -> Vec<String> {
        let rendered = metrics.render();
        rendered
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket{"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_names_are_the_contract() {
        let metrics = Metrics::new();
        metrics.streams_running.inc();
        metrics.readers.set(2);
        metrics.resumes.inc();
        metrics.replayed_records.inc_by(7);
        metrics.records.inc_by(40);
        metrics.log_bytes.set(4096);
        metrics.upstream_truncated.inc();
        metrics.overhead.observe(0.25);
        metrics.store_commit.observe(0.5);
        metrics.time_to_first_token.observe(1.5);
        metrics.time_per_output_token.observe(0.125);
        let ended = Ended {
            status: Status::Completed,
            reason: Some(Reason::ToolCalls),
            protocol: "chat".into(),
            backend: "local".to_owned(),
        };
        metrics.ended(&ended);
        metrics.ended(&ended);
        metrics.ended(&Ended { status: Status::Interrupted, reason: None, ..ended });
        metrics.reset("ahead");
        metrics.reloaded(true);
        metrics.reloaded(false);
        metrics.webhooks("retried", 1);
        metrics.webhooks_due.set(3);
        metrics.used(&Usage { input_tokens: Some(9), ..Usage::default() });

        let mut samples = samples(&metrics);
        samples.sort();
        assert_eq!(
            samples,
            [
                "gen_ai_client_token_usage_count{token_type=\"input\"} 1",
                "gen_ai_client_token_usage_count{token_type=\"output\"} 0",
                "gen_ai_client_token_usage_sum{token_type=\"input\"} 9.0",
                "gen_ai_client_token_usage_sum{token_type=\"output\"} 0.0",
                "gen_ai_server_time_per_output_token_seconds_count 1",
                "gen_ai_server_time_per_output_token_seconds_sum 0.125",
                "gen_ai_server_time_to_first_token_seconds_count 1",
                "gen_ai_server_time_to_first_token_seconds_sum 1.5",
                "lastword_config_reloads_total{result=\"applied\"} 1",
                "lastword_config_reloads_total{result=\"refused\"} 1",
                "lastword_log_bytes 4096",
                "lastword_overhead_seconds_count 1",
                "lastword_overhead_seconds_sum 0.25",
                "lastword_readers 2",
                "lastword_records_total 40",
                "lastword_replayed_records_total 7",
                "lastword_resets_total{reason=\"ahead\"} 1",
                "lastword_resumes_total 1",
                "lastword_store_commit_seconds_count 1",
                "lastword_store_commit_seconds_sum 0.5",
                "lastword_streams_ended_total{status=\"completed\",reason=\"tool_calls\",protocol=\"chat\",backend=\"local\"} 2",
                "lastword_streams_ended_total{status=\"interrupted\",reason=\"\",protocol=\"chat\",backend=\"local\"} 1",
                "lastword_streams_running 1",
                "lastword_upstream_truncated_total 1",
                "lastword_webhooks_due 3",
                "lastword_webhooks_total{outcome=\"retried\"} 1",
            ]
        );
    }

    #[test]
    fn the_form_is_openmetrics() {
        let rendered = Metrics::new().render();
        assert!(rendered.starts_with(
            "# HELP lastword_streams_running Answers being generated.\n\
             # TYPE lastword_streams_running gauge\n\
             lastword_streams_running 0\n"
        ));
        assert!(rendered.contains("# UNIT lastword_overhead_seconds seconds\n"));
        assert!(rendered.ends_with("# EOF\n"));
        for bounds in [&OVERHEAD[..], &COMMIT, &FIRST_TOKEN, &OUTPUT_TOKEN, &TOKENS] {
            assert!(bounds.is_sorted(), "{bounds:?}");
        }
    }

    #[test]
    fn two_gateways_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.records.inc();
        assert_eq!((one.records.get(), other.records.get()), (1, 0));
    }

    #[test]
    fn labels_are_the_words_of_the_end_event() {
        let metrics = Metrics::new();
        let statuses = [Status::Completed, Status::Failed, Status::Cancelled, Status::Interrupted];
        let reasons =
            [Reason::Stop, Reason::Length, Reason::ToolCalls, Reason::ContentFilter, Reason::Budget, Reason::Deadline];
        for (status, reason) in statuses.iter().cycle().zip(reasons) {
            metrics.ended(&Ended {
                status: *status,
                reason: Some(reason),
                protocol: "native".into(),
                backend: String::new(),
            });
            let word = |value| serde_json::to_string(&value).expect("a word");
            let labels =
                format!("{{status={},reason={},", word(serde_json::json!(status)), word(serde_json::json!(reason)));
            assert!(metrics.render().contains(&labels), "{labels}");
        }
    }
}
