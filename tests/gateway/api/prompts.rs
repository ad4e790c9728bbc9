//! Named prompts: listed, filled in, refused.

use std::fs;

use super::*;

/// A gateway with these templates beside those that come with it.
async fn with(files: &[(&str, &str)]) -> (TestGateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let gateway = TestGateway::with(&format!(
        "[prompts]\npath = {:?}\n[backends.mock]\nkind = \"mock\"\ndelay = \"0s\"",
        folder.path()
    ))
    .await;
    (gateway, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_by_name_is_filled_in_and_the_request_counts_before_it() {
    let greet = "+++\nmodel = \"mock/echo\"\nmax_tokens = 2\n[variables.who]\n+++\nGood day dear {{ who }}";
    let (gateway, _folder) = with(&[("greet.md", greet)]).await;
    for (more, text) in [(json!({}), "Good day"), (json!({ "max_tokens": 9 }), "Good day dear Ada")] {
        let mut asked = json!({ "template": "greet", "variables": { "who": "Ada" } });
        asked.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let state = gateway.send("POST", "/v1/streams", &[], &asked.to_string()).await.json().await;
        assert_eq!(state["model"], "mock/echo");
        let state = reached(&gateway, state["id"].as_str().expect("an id"), "completed").await;
        assert_eq!(state["text"], text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_filled_in_is_refused_and_says_why() {
    let (gateway, folder) =
        with(&[("broken.md", "{{ nothing }}"), ("greet.md", "+++\n[variables.who]\n+++\n{{ who }}")]).await;
    for (asked, status, code, field, words) in [
        (r#"{"template":"greeet"}"#, 400, "unknown_template", "template", "did you mean `greet`?"),
        (r#"{"template":"../greet"}"#, 400, "unknown_template", "template", ""),
        (r#"{"template":"greet"}"#, 400, "bad_request", "variables.who", "give a text"),
        (r#"{"template":"greet","variables":{"who":1}}"#, 400, "bad_request", "variables.who", "give a text"),
        (
            r#"{"template":"greet","variables":{"who":"a","hwo":"b"}}"#,
            400,
            "bad_request",
            "variables.hwo",
            "valid here: who",
        ),
        (r#"{"template":"broken"}"#, 500, "broken_template", "template", ""),
    ] {
        let problem = problem(gateway.send("POST", "/v1/streams", &[], asked).await, status, code).await;
        assert_eq!(problem["field"], field, "{asked}");
        assert!(problem["remedy"].as_str().unwrap_or_default().contains(words), "{problem}");
    }
    assert!(list(&gateway).await.is_empty(), "nothing was started");
    // Mended without a restart.
    fs::write(folder.path().join("broken.md"), "All is well").expect("written");
    let asked = r#"{"template":"broken","model":"mock/echo"}"#;
    assert_eq!(gateway.send("POST", "/v1/streams", &[], asked).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_can_be_listed() {
    let (gateway, _folder) = with(&[("broken.md", "{{ nothing }}")]).await;
    let prompts = gateway.get("/v1/prompts", &[]).await.json().await;
    let names: Vec<_> = prompts["prompts"].as_array().expect("a list").iter().map(|prompt| &prompt["name"]).collect();
    assert_eq!(names, ["broken", "explain-code", "summarise", "translate"]);
    assert!(prompts["prompts"][0]["error"].as_str().is_some_and(|why| why.contains("`nothing`")), "{prompts}");
    assert_eq!(prompts["prompts"][2]["variables"]["sentences"]["default"], 3);
}
