//! `/dashboard`: the metrics, as events, for a page that draws them while they change. What `/metrics` says, without its buckets, each second.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Api,
    auth::Caller,
    connection::{Connection, GaveUp},
};
use crate::wire::sse::write_event;

const EVERY: Duration = Duration::from_secs(1);

/// `GET /dashboard/events`: an event a second, without an end: `data` is an object, each metric's name with its labels, and its value.
pub(super) async fn events(State(api): State<Arc<Api>>, _: Caller, connection: Connection) -> Response {
    connection.will_come_back();
    let retry = api.retry();
    let body = async_stream::stream! {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = Some(retry);
        while !api.gateway.draining() {
            ticks.tick().await;
            let mut out = BytesMut::new();
            let data = serde_json::to_vec(&values(&api.gateway.metrics().render())).unwrap_or_default();
            write_event(&mut out, None, &data, retry.take(), None);
            yield Ok::<Bytes, GaveUp>(out.freeze());
        }
        // There is more, from the next process.
        yield Err(GaveUp::new());
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store, no-transform")];
    let mut response = (headers, Body::from_stream(body)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Of the text form: `name{labels} value` lines become members.
fn values(rendered: &str) -> Map<String, Value> {
    let lines = rendered.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        // A label's value may have spaces in it, a metric's has none.
        let (name, value) = line.rsplit_once(' ')?;
        let is_bucket = name.split('{').next().is_some_and(|name| name.ends_with("_bucket"));
        let number = serde_json::Number::from_f64(value.parse().ok()?)?;
        (!is_bucket).then(|| (name.to_owned(), Value::Number(number)))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Status,
        telemetry::{Ended, Metrics},
    };

    #[test]
    fn each_metric_is_there_with_its_labels_and_its_value() {
        let metrics = Metrics::new();
        metrics.readers.set(3);
        metrics.time_to_first_token.observe(0.5);
        let backend = "a b} 7".to_owned();
        metrics.ended(&Ended { status: Status::Completed, reason: None, protocol: "native".into(), backend });
        let values = values(&metrics.render());
        assert_eq!(values["lastword_readers"], 3.0);
        assert_eq!(values["gen_ai_server_time_to_first_token_seconds_sum"], 0.5);
        assert_eq!(values["gen_ai_server_time_to_first_token_seconds_count"], 1.0);
        let ended =
            "lastword_streams_ended_total{status=\"completed\",reason=\"\",protocol=\"native\",backend=\"a b} 7\"}";
        assert_eq!(values[ended], 1.0, "{values:?}");
        assert!(values.keys().all(|name| !name.contains("_bucket") && !name.contains('#')), "{values:?}");
    }
}
