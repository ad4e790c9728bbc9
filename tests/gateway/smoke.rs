//! The main job, once: ask, read, come back.

use crate::common::{Ending, TestGateway, only, soon, sse, text};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_asked_for_read_cut_off_and_resumed() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three four", json!({ "delay": "5ms" })).await;
    let first = gateway.events(&id, None).await;
    assert_eq!(first.header("content-type"), Some("text/event-stream"));
    let cut = soon(first.body.cut_after(300)).await;
    let seen = sse::read(&cut);
    let (rest, ending) = soon(gateway.events(&id, Some(&seen.cursor)).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    let all: Vec<_> = seen.events.into_iter().chain(sse::read(&rest).events).collect();
    assert_eq!(text(&all), "one two three four");
    assert_eq!(only(&all, "end")["status"], "completed");
    let last = &all.last().expect("an end").id;
    assert_eq!(gateway.events(&id, Some(last)).await.status, 204);
    assert_eq!(gateway.state(&id).await["text"], "one two three four");
}
