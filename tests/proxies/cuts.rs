//! The proxy itself dies in mid-answer, and a client goes on through the one in its place.

use serde_json::json;

use crate::{
    common::{Ending, TestGateway, sse},
    proxy::Setup,
    through::{each, rest, until},
};

#[tokio::test]
async fn an_answer_goes_on_behind_a_proxy_that_was_killed() {
    each(async |setup: Setup| {
        let gateway = TestGateway::start().await;
        let mut proxy = setup.before(gateway.address()).await;
        let words = "word ".repeat(100);
        let id = proxy.say(&words, json!({ "delay": "10ms" }), json!({})).await;
        let mut client = sse::Client::default();
        for _ in 0..2 {
            let mut body = proxy.events(&id, client.cursor.as_deref()).await.body;
            let mut seen = until(&mut body, "word").await;
            proxy.killed_and_started_again().await;
            let (more, ending) = rest(body).await;
            assert_ne!(ending, Ending::Clean, "{}", setup.name());
            seen.extend(more);
            client.take(&seen);
        }
        let (bytes, ending) = rest(proxy.events(&id, client.cursor.as_deref()).await.body).await;
        client.take(&bytes);
        assert_eq!(ending, Ending::Clean, "{}", setup.name());
        client.check(&words).unwrap_or_else(|wrong| panic!("{}: {wrong}", setup.name()));
    })
    .await;
}
