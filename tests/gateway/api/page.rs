//! `GET /` and the files behind it

use super::problem;
use crate::common::TestGateway;

#[tokio::test(flavor = "multi_thread")]
async fn each_file_of_the_page_has_its_type_and_lets_nothing_else_in() {
    let gateway = TestGateway::start().await;
    let script = "text/javascript; charset=utf-8";
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", script),
        ("/answer.js", script),
        ("/wire.js", script),
        ("/lastword.js", script),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let response = gateway.get(path, &[]).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)), "{path}");
        let policy = response.header("content-security-policy").expect("a policy").to_owned();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        let file = match path {
            "/" => "index.html",
            "/lastword.js" => "client/lastword.js",
            _ => &path[1..],
        };
        let file = std::fs::read_to_string(format!("{}/web/{file}", env!("CARGO_MANIFEST_DIR"))).expect("the file");
        assert_eq!(response.text().await, file);
        assert_eq!(gateway.send("HEAD", path, &[], "").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_page_names_is_there() {
    let gateway = TestGateway::start().await;
    let page = gateway.get("/", &[]).await.text().await;
    let names = page.split("=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end))).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let path = format!("/{}", name.trim_start_matches(['.', '/']));
        assert_eq!(gateway.get(&path, &[]).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_a_file() {
    let gateway = TestGateway::start().await;
    for path in ["/Cargo.toml", "/index.html", "/app.js/", "/..%2fCargo.toml", "/%ff", "/web/app.js"] {
        problem(gateway.get(path, &[]).await, 404, "not_found").await;
    }
}
