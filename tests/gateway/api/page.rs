//! `GET /` and the files behind it

use super::problem;
use crate::common::TestGateway;

#[tokio::test(flavor = "multi_thread")]
async fn each_file_of_the_page_has_its_type_and_lets_nothing_else_in() {
    let gateway = TestGateway::start().await;
    let script = "text/javascript; charset=utf-8";
    for (path, kind) in [
        ("/plain.html", "text/html; charset=utf-8"),
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
            "/plain.html" => "index.html",
            "/lastword.js" => "client/lastword.js",
            _ => &path[1..],
        };
        let file = std::fs::read_to_string(format!("{}/web/{file}", env!("CARGO_MANIFEST_DIR"))).expect("the file");
        assert_eq!(response.text().await, file);
        assert_eq!(gateway.send("HEAD", path, &[], "").await.status, 200);
    }
}

/// The one that the build made, or the plain one where it could make none.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_page_names_is_there() {
    let gateway = TestGateway::start().await;
    let page = gateway.get("/", &[]).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert!(page.header("content-security-policy").is_some_and(|policy| !policy.contains("unsafe")));
    let page = page.text().await;
    let names = page.split("=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end))).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let path = format!("/{}", name.trim_start_matches(['.', '/']));
        let whole = gateway.get(&path, &[("accept-encoding", "br, gzip;q=0")]).await;
        assert_eq!((whole.status, whole.header("content-encoding")), (200, None), "{name}");
        // What was built has its content in its name, and is there packed, too.
        let built = name.contains("page-");
        let packed = gateway.get(&path, &[("accept-encoding", "br;q=1.0, GZIP;q=0.5")]).await;
        assert_eq!(packed.header("content-encoding"), built.then_some("gzip"), "{name}");
        assert_eq!(packed.header("vary").is_some_and(|vary| vary.contains("accept-encoding")), built, "{name}");
        let kept = packed.header("cache-control").is_some_and(|how| how.contains("immutable"));
        assert_eq!(kept, built, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_a_file() {
    let gateway = TestGateway::start().await;
    for path in ["/Cargo.toml", "/index.html", "/app.js/", "/..%2fCargo.toml", "/%ff", "/web/app.js"] {
        problem(gateway.get(path, &[]).await, 404, "not_found").await;
    }
}
