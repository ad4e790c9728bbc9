//! What only nginx has: it bounds what its sockets hold, so that lastword feels a reader that stalls; and it may call its upstream by a name.

use serde_json::json;

use crate::{
    common::{Ending, TestGateway, only, sse, text},
    kinds::NGINX,
    proxy::Setup,
    through::{rest, until},
};

/// For each version in which it can ask.
fn setups() -> [Setup; 2] {
    [0, 1].map(|version| Setup { version, ..Setup::new(&NGINX) })
}

/// What nginx says in `Host` is its upstream's name, unless it is told to pass the visitor's on.
#[tokio::test]
async fn an_upstream_of_a_name_or_the_visitors_own_name_is_refused_behind_nginx_until_it_is_listed() {
    const NAMED: [(&str, &str); 2] = [
        ("proxy_pass http://127.0.0.1:8080;", "proxy_pass http://lastword;"),
        ("server {\n", "upstream lastword { server 127.0.0.1:8080; }\nserver {\n"),
    ];
    const PASSED_ON: [(&str, &str); 1] = [("location / {\n", "location / {\nproxy_set_header Host app.example.com;\n")];
    for (hosts, status) in [("[]", 403), ("[\"lastword\", \"app.example.com\"]", 201)] {
        let gateway = TestGateway::with(&format!("[server]\nhosts = {hosts}")).await;
        for replace in [&NAMED[..], &PASSED_ON] {
            let proxy = Setup { replace, ..Setup::new(&NGINX) }.before(gateway.address()).await;
            let response = proxy.at().send("POST", "/v1/streams", &[], r#"{"prompt":"x"}"#).await;
            let (got, said) = (response.status, response.text().await);
            assert_eq!(got, status, "{said}");
            assert_eq!(said.contains("[server] hosts"), status == 403, "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_cut_off_is_not_fooled_and_resumes_exactly_behind_nginx() {
    let gateway = TestGateway::with("[server]\nwrite_timeout = \"200ms\"").await;
    // Far more than the sockets on the way hold: the reader stalls, nginx with it, and lastword cuts nginx off.
    let word = format!(" {}", "abcdefgh".repeat(2048));
    let whole = word.repeat(600);
    for setup in setups() {
        let proxy = setup.before(gateway.address()).await;
        let id = proxy.say(&word, json!({ "repeat": 600 }), json!({})).await;
        let mut body = proxy.events(&id, None).await.body;
        let first = until(&mut body, "abcdefgh").await;
        gateway.at().metric_is("lastword_readers", 0).await;
        let (more, ending) = rest(body).await;
        assert_ne!(ending, Ending::Clean, "{}", setup.name());
        let seen = sse::read(&[first, more].concat());
        assert!(text(&seen.events).len() < whole.len(), "{}", setup.name());

        // On a busy machine nginx may be cut off again: it goes on behind what it has, however often.
        let (mut all, mut cursor, mut ending) = (seen.events, seen.cursor, ending);
        while ending != Ending::Clean {
            let (bytes, end) = rest(proxy.events(&id, Some(&cursor)).await.body).await;
            let seen = sse::read(&bytes);
            all.extend(seen.events);
            (cursor, ending) = (if seen.cursor.is_empty() { cursor } else { seen.cursor }, end);
        }
        assert!(text(&all) == whole, "{}: {} of {} bytes", setup.name(), text(&all).len(), whole.len());
        assert_eq!(only(&all, "end")["status"], "completed", "{}", setup.name());
    }
}
