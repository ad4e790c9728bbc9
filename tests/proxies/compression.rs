//! With compression on, as docs/proxies.md says, and as it warns of.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::{
    common::{TestGateway, sse, text},
    kinds::KINDS,
    proxy::{Compression, Setup},
    through::{each, rest, until},
    tokens::one_by_one,
};

const ACCEPTS: [(&str, &str); 1] = [("accept-encoding", "gzip")];

#[tokio::test]
async fn each_token_passes_before_the_next_one_is_said_with_compression_on() {
    each(async |setup: Setup| one_by_one(Setup { compression: Compression::On, ..setup }).await).await;
}

#[tokio::test]
async fn compression_is_on() {
    each(async |setup: Setup| {
        let compresses = setup.kind.compression.is_some();
        let gateway = TestGateway::start().await;
        let proxy = Setup { compression: Compression::On, ..setup }.before(gateway.address()).await;
        let long = "word ".repeat(1000);
        let id = proxy.say(&long, json!({}), json!({})).await;
        gateway.at().state_when(&id, |state| state["status"] == "completed").await;
        let state = proxy.at().get(&format!("/v1/streams/{id}"), &ACCEPTS).await;
        assert_eq!(state.header("content-encoding"), compresses.then_some("gzip"), "{proxy:?}");
    })
    .await;
}

/// Why docs/proxies.md says what to compress: these two hold a running answer back, once it is long enough to be compressed.
#[tokio::test]
async fn careless_compression_holds_tokens_back_in_caddy_and_varnish() {
    let careless =
        [("Caddy", "encode gzip\n"), ("Varnish", "sub vcl_backend_response { set beresp.do_gzip = true; }\n")];
    for (name, lines) in careless {
        let kind = KINDS.into_iter().find(|kind| kind.name == name).expect("one of them");
        let gateway = TestGateway::start().await;
        let setup = Setup { compression: Compression::By(lines), ..Setup::new(kind) };
        let proxy = setup.before(gateway.address()).await;
        let long = "abcdefgh".repeat(500);
        let stalls = json!({ "fault": { "kind": "stall", "after": 1 } });
        let id = proxy.say(&long, stalls, json!({})).await;
        let mut direct = gateway.events(&id, None).await.body;
        until(&mut direct, "abcdefgh").await;
        let mut response = proxy.at().get(&format!("/v1/streams/{id}/events?after=0"), &ACCEPTS).await;
        assert_eq!(response.header("content-encoding"), Some("gzip"), "{name}");
        // At most what begins a gzip.
        let mut early = 0;
        while let Ok(bytes) = timeout(Duration::from_millis(300), response.body.next()).await {
            early += bytes.expect("it goes on").len();
        }
        assert!(early <= 32, "{name} holds nothing back any more: docs/proxies.md can say so");
        gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
        assert!(!rest(response.body).await.0.is_empty(), "{name}");
        assert_eq!(text(&sse::read(&rest(direct).await.0).events), "", "{name}");
    }
}
