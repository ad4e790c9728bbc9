//! The configuration through its public surface: what each mistake is told, who wins over whom, what stays secret.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use bytesize::ByteSize;
use lastword::{
    cli::check::Summary,
    config::{Backend, Config, Env, Flag},
    store::Engine,
    telemetry::Format,
};

fn env<const N: usize>(variables: [(&str, &str); N]) -> Env {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn parse(text: &str) -> Config {
    Config::parse("lastword.toml", text, &Env::new(), &[]).unwrap()
}

/// What is said of a file.
fn said(text: &str) -> String {
    said_with(text, [])
}

fn said_with<const N: usize>(text: &str, variables: [(&str, &str); N]) -> String {
    Config::parse("lastword.toml", text, &env(variables), &[]).unwrap_err().to_string()
}

fn base_url<'c>(config: &'c Config, backend: &str) -> &'c str {
    match &config.backends[backend] {
        Backend::OpenAi(http) | Backend::Responses(http) | Backend::Anthropic(http) => &http.base_url,
        Backend::Mock(_) | Backend::Relay(_) | Backend::Push(_) => panic!("{backend} has none"),
    }
}

fn names<T>(map: &BTreeMap<String, T>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

// Mistakes.

#[test]
fn a_mistake_of_syntax_has_a_line_and_a_column() {
    assert_eq!(said("[server]\nlisten = \"x\n"), "lastword.toml:2:12: invalid basic string, expected `\"`");
    assert_eq!(said("[server]\n[server]\n"), "lastword.toml:2:2: duplicate key");
}

#[test]
fn an_unknown_key_has_a_line_and_a_neighbour() {
    for (text, message) in [
        ("\n[server]\nlisen = \"x\"", ":3: unknown key `lisen` in [server]; did you mean `listen`?"),
        ("servr = 1", ":1: unknown key `servr`; did you mean `server`?"),
        ("\n[servr]\nlisten = 1", ":2: unknown key `servr`; did you mean `server`?"),
        ("[store]\n\nretian = \"1h\"", ":3: unknown key `retian` in [store]; did you mean `retain`?"),
        ("[log]\nzzz = 1", ":2: unknown key `zzz` in [log]; valid here: format, filter"),
        (
            "[backends.local]\nkind = \"openai\"\nbase_ur = \"http://x\"",
            ":3: unknown key `base_ur` in [backends.local]; did you mean `base_url`?",
        ),
        (
            "[backends.local]\nkind = \"openai\"\nbase_url = \"http://x\"\n[backends.local.timeouts]\nfrist = \"1s\"",
            ":5: unknown key `frist` in [backends.local.timeouts]; did you mean `first`?",
        ),
        (
            "[backends.mock]\nkind = \"mock\"\n[models.\"a-*\"]\nrout = []",
            ":4: unknown key `rout` in [models.\"a-*\"]; did you mean `route`?",
        ),
    ] {
        assert_eq!(said(text), format!("lastword.toml{message}"));
    }
}

#[test]
fn a_wrong_value_has_a_line_a_key_and_a_way_to_write_it() {
    for (text, message) in [
        ("default_model = 5", ":1: default_model: expected a string, not an integer"),
        ("[server]\nlisten = 8080", ":2: server.listen: expected a string, not an integer"),
        (
            "[server]\nlisten = \":8080\"",
            ":2: server.listen: `:8080` is not an address; write \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"",
        ),
        (
            "[server]\ndrain = \"soon\"",
            ":2: server.drain: `soon` is not a duration; write \"30s\", \"250ms\" or \"1h 30m\"",
        ),
        ("[server]\nheartbeat = \"0s\"", ":2: server.heartbeat must be longer than nothing"),
        ("[server]\nmax_body = \"much\"", ":2: server.max_body: expected a size such as \"8MiB\" or 8388608"),
        ("[server]\nmax_connections = -1", ":2: server.max_connections: expected a whole number from 0"),
        ("[server]\nmax_connections = 0", ":2: server.max_connections must be at least 1"),
        (
            "[server]\nretry_max = \"1s\"\nretry_min = \"2s\"",
            ":3: server.retry_min must not be longer than retry_max, which is 1s",
        ),
        ("[server]\nretry_max = \"1ms\"", ":1: server.retry_min must not be longer than retry_max, which is 1ms"),
        ("[server]\ncors = \"*\"", ":2: server.cors: expected a list, not a string"),
        ("[server]\ncors = [\"*\", \"https://a\"]", ":2: server.cors: `*` allows every origin, so it stands alone"),
        (
            "[server]\ncors = [\"https://a\",\n\"https://b/\"]",
            ":2: server.cors: `https://b/` is not an origin; write \"https://app.example.com\", without a path",
        ),
        ("[server]\nhosts = [\"a\", \"*\"]", ":2: server.hosts: `*` stands for every name, so it stands alone"),
        (
            "[server]\nhosts = [\"a:80\"]",
            ":2: server.hosts: `a:80` is not a host's name; write \"app.example.com\", without a scheme and without a port",
        ),
        (
            "[log]\nfilter = \"lastword=loud\"",
            ":2: log.filter: `lastword=loud` is not a filter; write \"info\", \"debug\" or \"warn,lastword=debug\"",
        ),
        ("[log]\nformat = \"jsn\"", ":2: unknown format `jsn` in [log]; did you mean `json`?"),
        ("server = 5", ":1: server: expected a table, not an integer"),
        ("backends = 5", ":1: backends: expected a table, not an integer"),
        ("[backends]\nx = 5", ":2: backends.x: expected a table"),
    ] {
        assert_eq!(said(text), format!("lastword.toml{message}"));
    }
}

#[test]
fn a_kind_or_an_engine_that_is_not_there_is_told_the_ones_that_are() {
    for (text, message) in [
        ("[store]\nengine = \"redis\"", ":2: engine `redis` is not in this build; valid here: memory, disk"),
        ("[store]\nengine = \"memroy\"", ":2: unknown engine `memroy` in [store]; did you mean `memory`?"),
        (
            "[backends.a]\nkind = \"gemini\"",
            ":2: kind `gemini` is not in this build; valid here: mock, openai, responses, anthropic, relay, push",
        ),
        ("[backends.a]\n\nkind = \"opnai\"", ":3: unknown kind `opnai` in [backends.a]; did you mean `openai`?"),
        (
            "\n[backends.a]\nbase_url = \"x\"",
            ":2: [backends.a] has no `kind`; valid here: mock, openai, responses, anthropic, relay, push",
        ),
        ("[backends.a]\nkind = 5", ":2: backends.a.kind: expected a string"),
        ("\n[backends.a]\nkind = \"openai\"", ":2: [backends.a] has no `base_url`"),
    ] {
        assert_eq!(said(text), format!("lastword.toml{message}"));
    }
}

#[test]
fn a_name_that_leads_nowhere_is_found_before_the_start() {
    let mock = "[backends.mock]\nkind = \"mock\"\n";
    for (text, message) in [
        ("[models.a]\nroute = [\"mok/x\"]", ":4: `mok/x`: there is no backend `mok`; did you mean `mock`?"),
        ("[models.a]\nroute = [\"mock/x\", \"b/x\"]", ":4: `b/x`: there is no backend `b`; valid here: mock"),
        ("[models.a]\nroute = [\"words\"]", ":4: models.a.route: `words` names no backend; write \"backend/model\""),
        ("[models.a]\nroute = []", ":4: the route of `a` is empty; write route = [\"backend/model\"]"),
        ("[models.a]", ":3: [models.a] has no `route`"),
        (
            "[models.\"a*b\"]\nroute = [\"mock/x\"]",
            ":3: `a*b` cannot be a model's name: one `*` may stand in it, at the end",
        ),
        (
            "[models.\"a**\"]\nroute = [\"mock/x\"]",
            ":3: `a**` cannot be a model's name: one `*` may stand in it, at the end",
        ),
        (
            "[models.a]\nroute = [\"mock/*\"]",
            ":4: `mock/*` carries over the name that a `*` stands for, and `a` has none",
        ),
        (
            "[backends.\"a/b\"]\nkind = \"mock\"",
            ":3: a backend is asked for as `backend/model`, so `a/b` cannot be its name",
        ),
    ] {
        assert_eq!(said(&format!("{mock}{text}")), format!("lastword.toml{message}"));
    }
}

#[test]
fn the_default_model_must_be_there() {
    let models = "[models.fast]\nroute = [\"mock/words\"]\n[models.\"big-*\"]\nroute = [\"mock/*\"]\n";
    for valid in ["fast", "big-one", "mock/words", "mock/any"] {
        let config = parse(&format!("default_model = \"{valid}\"\n{models}"));
        assert_eq!(config.default_model.unwrap(), valid);
    }
    for (name, why) in [
        ("fats", "there is no such model; did you mean `fast`?"),
        ("zzz", "there is no such model; valid here: big-*, fast"),
        ("mok/words", "there is no backend `mok`; did you mean `mock`?"),
    ] {
        let text = format!("\ndefault_model = \"{name}\"\n{models}");
        assert_eq!(said(&text), format!("lastword.toml:2: default_model `{name}`: {why}"));
    }
}

#[test]
fn any_origin_or_some_may_ask() {
    for origins in ["[]", "[\"*\"]", "[\"https://app.example.com\", \"http://localhost:3000\", \"app://x\"]"] {
        let config = parse(&format!("[server]\ncors = {origins}"));
        assert_eq!(format!("{:?}", config.server.cors), origins);
    }
}

// The environment.

#[test]
fn an_override_is_toml_where_it_can_be_and_else_a_string() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[backends.my-gpu]\nkind = \"openai\"\nbase_url = \"http://a/v1\"";
    let variables = env([
        ("LASTWORD_SERVER__LISTEN", "127.0.0.2:2"),
        ("LASTWORD_SERVER__MAX_CONNECTIONS", "7"),
        ("LASTWORD_SERVER__CORS", "[\"https://a\"]"),
        ("LASTWORD_SERVER__MAX_BODY", "1MiB"),
        ("LASTWORD_STORE__RETAIN", "2h"),
        ("LASTWORD_LOG__FORMAT", "\"json\""),
        ("LASTWORD_DEFAULT_MODEL", "my-gpu/gemma"),
        ("LASTWORD_BACKENDS__MY_GPU__BASE_URL", "http://b/v1"),
        ("LASTWORD_BACKENDS__OTHER__KIND", "openai"),
        ("LASTWORD_BACKENDS__OTHER__BASE_URL", "${HOST}/v1"),
        ("HOST", "http://c"),
    ]);
    let config = Config::parse("lastword.toml", text, &variables, &[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.2:2");
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.server.cors, ["https://a"]);
    assert_eq!(config.server.max_body, ByteSize::mib(1));
    assert_eq!(config.store.retain, Duration::from_secs(7200));
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.default_model.as_deref(), Some("my-gpu/gemma"));
    assert_eq!(names(&config.backends), ["my-gpu", "other"]);
    assert_eq!(base_url(&config, "my-gpu"), "http://b/v1");
    assert_eq!(base_url(&config, "other"), "http://c/v1");
}

#[test]
fn a_mistake_in_an_override_names_the_variable() {
    for (variable, value, message) in [
        ("LASTWORD_SERVER__LISEN", "x", "unknown key `lisen` in [server]; did you mean `listen`?"),
        ("LASTWORD_SERVR__LISTEN", "x", "unknown key `servr`; did you mean `server`?"),
        ("LASTWORD_SERVER__LISTEN__X", "x", "server.listen is not a section"),
        ("LASTWORD_SERVER__DRAIN", "25", "server.drain: expected a string, not an integer; write it as '\"…\"'"),
        (
            "LASTWORD_SERVER__MAX_CONNECTIONS",
            "many",
            "server.max_connections: expected a whole number from 0, not a string",
        ),
        ("LASTWORD_SERVER__HEARTBEAT", "0s", "server.heartbeat must be longer than nothing"),
        (
            "LASTWORD_BACKENDS__A__KIND",
            "gemini",
            "kind `gemini` is not in this build; valid here: mock, openai, responses, anthropic, relay, push",
        ),
        (
            "LASTWORD_BACKENDS__A__API_KEY",
            "k",
            "[backends.a] has no `kind`; valid here: mock, openai, responses, anthropic, relay, push",
        ),
        ("LASTWORD_LOG__FILTER", "${NOT}", "log.filter: the environment variable `NOT` is not set"),
        ("LASTWORD_DEFAULT_MODEL", "x/y", "default_model `x/y`: there is no backend `x`; valid here: mock, push"),
    ] {
        assert_eq!(
            said_with("[server]\nlisten = \"127.0.0.1:1\"", [(variable, value)]),
            format!("{variable}: {message}")
        );
    }
}

#[test]
fn variables_that_a_cluster_sets_for_a_service_are_no_overrides() {
    let variables = env([("LASTWORD_PORT", "tcp://10.0.0.1:80"), ("LASTWORD_SERVICE_HOST", "10.0.0.1")]);
    assert!(Config::parse("lastword.toml", "", &variables, &[]).is_ok());
}

#[test]
fn a_variable_in_a_value_is_filled_in_wherever_the_value_stands() {
    let text = "[backends.a]\nkind = \"openai\"\nbase_url = \"http://${HOST}/$${x}\"\nheaders = { x-a = \"${HOST}\" }\n\
                [server]\ncors = [\"https://${HOST}\"]";
    let config = Config::parse("lastword.toml", text, &env([("HOST", "gpu")]), &[]).unwrap();
    assert_eq!(base_url(&config, "a"), "http://gpu/${x}");
    assert_eq!(config.server.cors, ["https://gpu"]);
    let Backend::OpenAi(http) = &config.backends["a"] else { panic!("of another kind") };
    assert_eq!(http.headers["x-a"].expose(), "gpu");
}

#[test]
fn a_variable_that_is_not_set_is_named_with_its_key_and_line() {
    let text = "[backends.a]\nkind = \"openai\"\nbase_url = \"http://a\"\n";
    assert_eq!(
        said(&format!("{text}api_key = \"${{KEY}}\"")),
        "lastword.toml:4: backends.a.api_key: the environment variable `KEY` is not set"
    );
    assert_eq!(
        said(&format!("{text}\nheaders = {{ a = \"b\", x-c = \"${{KEY}}\" }}")),
        "lastword.toml:5: backends.a.headers.x-c: the environment variable `KEY` is not set"
    );
    assert_eq!(
        said("[server]\ncors = [\"https://a\",\n\"${B\"]"),
        "lastword.toml:3: server.cors: `${` begins the name of a variable, `${NAME}`; write `$${` for the two characters"
    );
}

#[test]
fn how_long_and_how_much_is_kept_depends_on_the_engine_unless_it_is_said() {
    let store = |text| parse(text).store;
    let (hour, gib) = (Duration::from_secs(3600), ByteSize::gib(1));
    let disk = store("");
    assert_eq!((disk.engine, disk.retain, disk.max_bytes), (Engine::Disk, 24 * hour, ByteSize::gib(10)));
    let memory = store("[store]\nengine = \"memory\"");
    assert_eq!((memory.engine, memory.retain, memory.max_bytes), (Engine::Memory, hour, gib));
    let said = store("[store]\nengine = \"memory\"\nretain = \"2h\"\nmax_bytes = \"3GiB\"");
    assert_eq!((said.retain, said.max_bytes), (2 * hour, ByteSize::gib(3)));
}

// Without a file.

#[test]
fn without_anything_there_is_a_mock_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::load(None, folder.path(), &Env::new(), &[]).unwrap();
    assert_eq!(config.file, None);
    assert_eq!(config.server, lastword::server::config::Config::default());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(names(&config.backends), ["mock", "push"]);
    assert_eq!(config.default_model.as_deref(), Some("mock/words"));
    assert_eq!(config.store.path, folder.path().join("data"));
}

#[test]
fn the_file_of_the_working_directory_is_read_and_a_named_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let load = |named: Option<&Path>| Config::load(named, folder.path(), &Env::new(), &[]);
    fs::write(folder.path().join("lastword.toml"), "[server]\nlisten = \"127.0.0.1:1\"").unwrap();
    let other = folder.path().join("other.toml");
    fs::write(&other, "[server]\nlisten = \"127.0.0.1:2\"\n[store]\npath = \"logs\"").unwrap();
    let usual = load(None).unwrap();
    assert_eq!((usual.server.listen.port(), usual.file), (1, Some(folder.path().join("lastword.toml"))));
    let named = load(Some(&other)).unwrap();
    assert_eq!(named.server.listen.port(), 2);
    assert_eq!(named.store.path, folder.path().join("logs"), "a path is relative to its file");
    let missing = load(Some(Path::new("/nowhere/x.toml"))).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/x.toml: cannot be read: "), "{missing}");
}

#[test]
fn a_key_in_the_environment_enables_its_backend_but_is_not_asked_unasked() {
    let variables = env([
        ("OPENAI_API_KEY", "sk-1"),
        ("OLLAMA_HOST", "gpu"),
        ("ANTHROPIC_API_KEY", "sk-2"),
        ("GEMINI_API_KEY", "sk-3"),
    ]);
    let config = Config::parse("none", "", &variables, &[]).unwrap();
    assert_eq!(names(&config.backends), ["anthropic", "mock", "ollama", "openai", "push"]);
    assert_eq!(base_url(&config, "anthropic"), "https://api.anthropic.com/v1");
    assert_eq!(base_url(&config, "openai"), "https://api.openai.com/v1");
    assert_eq!(base_url(&config, "ollama"), "http://gpu:11434/v1");
    assert_eq!(config.default_model, None);
    let Backend::OpenAi(openai) = &config.backends["openai"] else { panic!("of another kind") };
    assert_eq!(openai.api_key.as_ref().unwrap().expose(), "sk-1");
    let Backend::Anthropic(anthropic) = &config.backends["anthropic"] else { panic!("of another kind") };
    assert_eq!(anthropic.api_key.as_ref().unwrap().expose(), "sk-2");

    let empty = Config::parse("none", "", &env([("OPENAI_API_KEY", ""), ("OLLAMA_HOST", " ")]), &[]).unwrap();
    assert_eq!(names(&empty.backends), ["mock", "push"]);
    let named = Config::parse("f", "[backends.m]\nkind = \"mock\"", &variables, &[]).unwrap();
    assert_eq!(names(&named.backends), ["m"], "a file that names backends has only those");
}

#[test]
fn a_kind_with_a_usual_place_needs_no_url() {
    let config =
        parse("[backends.a]\nkind = \"anthropic\"\n[backends.b]\nkind = \"anthropic\"\nbase_url = \"http://b/v1\"");
    assert_eq!(base_url(&config, "a"), "https://api.anthropic.com/v1");
    assert_eq!(base_url(&config, "b"), "http://b/v1");
    let text = "\n[backends.a]\nkind = \"anthropic\"\nauth_header = \"a b\"\napi_key = \"k\"";
    assert_eq!(said(text), "lastword.toml:4: backends.a.auth_header is not a header's name");
    assert_eq!(
        said("\n[backends.a]\nkind = \"anthropic\"\nbase_url = 5"),
        "lastword.toml:4: backends.a.base_url: expected a string, not an integer"
    );
}

#[test]
fn the_only_model_is_the_default_one() {
    let one = "[models.fast]\nroute = [\"mock/words\"]\n[models.\"big-*\"]\nroute = [\"mock/*\"]\n";
    assert_eq!(parse(one).default_model.as_deref(), Some("fast"));
    let two = format!("{one}[models.slow]\nroute = [\"mock/words\"]\n");
    assert_eq!(parse(&two).default_model, None);
    let none = "[models.\"big-*\"]\nroute = [\"mock/*\"]\n";
    assert_eq!(parse(none).default_model, None);
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let flag = |value: &str| [Flag { name: "--listen", key: "server.listen", value: value.to_owned() }];
    let variables = env([("LASTWORD_SERVER__LISTEN", "127.0.0.1:2")]);
    let port = |env: &Env, flags: &[Flag]| {
        Config::parse("f", "[server]\nlisten = \"127.0.0.1:1\"", env, flags).unwrap().server.listen.port()
    };
    assert_eq!(port(&Env::new(), &[]), 1);
    assert_eq!(port(&variables, &[]), 2);
    assert_eq!(port(&variables, &flag("127.0.0.1:3")), 3);
    let error = Config::parse("f", "", &variables, &flag("x")).unwrap_err().to_string();
    assert!(error.starts_with("--listen: server.listen: `x` is not an address"), "{error}");
}

#[test]
fn a_backend_that_cannot_be_meant_is_found_before_the_start() {
    let openai = "[backends.a]\nkind = \"openai\"\n";
    for (text, message) in [
        ("base_url = \"gpu:8000/v1\"", ":3: backends.a.base_url must begin with http:// or https://"),
        (
            "base_url = \"http://me:hush@gpu/v1\"",
            ":3: backends.a.base_url holds a user name or password; give the credential as `api_key` or in `headers`",
        ),
        (
            "base_url = \"http://gpu/v1?key=hush\"",
            ":3: backends.a.base_url holds a query or fragment; parameters belong in `query`",
        ),
        (
            "base_url = \"http://gpu\"\napi_key = \"a\"\napi_key_file = \"b\"",
            ":5: backends.a.api_key_file stands beside `api_key`; remove one of the two",
        ),
        (
            "base_url = \"http://gpu\"\nheaders = { \"x y\" = \"hush\" }",
            ":4: backends.a.headers.x y is not a header's name",
        ),
    ] {
        assert_eq!(said(&format!("{openai}{text}")), format!("lastword.toml{message}"));
    }
    assert_eq!(
        said("[backends.mock]\nkind = \"mock\"\n[backends.mock.fault]\nkind = \"close\"\nstatus = 500"),
        "lastword.toml:5: backends.mock.fault.status belongs to a fault of the kind \"error\"; remove it"
    );
    assert_eq!(
        said("[backends.mock]\nkind = \"mock\"\nfault = { kind = \"colse\" }"),
        "lastword.toml:3: unknown kind `colse` in [backends.mock.fault]; did you mean `close`?"
    );
}

#[test]
fn a_key_file_is_relative_to_the_file_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    fs::write(&file, "[backends.a]\nkind = \"openai\"\nbase_url = \"http://a\"\napi_key_file = \"key\"").unwrap();
    let load = || Config::load(Some(&file), Path::new("/nowhere"), &Env::new(), &[]);
    let missing = load().unwrap_err().to_string();
    assert!(missing.contains("x.toml:4: backends.a.api_key_file cannot be read: "), "{missing}");
    fs::write(folder.path().join("key"), "hush").unwrap();
    assert!(load().is_ok());
}

// Secrets.

#[test]
fn a_secret_is_in_no_text() {
    let text = "[backends.a]\nkind = \"openai\"\nbase_url = \"http://a/v1\"\napi_key = \"${KEY}\"\n\
                headers = { x-key = \"hush-header\" }\n[models.m]\nroute = [\"a/b\"]";
    let config = Config::parse("f", text, &env([("KEY", "hush-key")]), &[]).unwrap();
    assert!(!format!("{config:?}{config:#?}").contains("hush"), "{config:?}");
    assert!(!Summary(&config).to_string().contains("hush"));
    let error = said_with("", [("LASTWORD_BACKENDS__A__KIND", "openai"), ("LASTWORD_BACKENDS__A__API_KEY", "12345")]);
    assert!(!error.contains("12345"), "{error}");
    let key = [
        ("LASTWORD_BACKENDS__A__KIND", "openai"),
        ("LASTWORD_BACKENDS__A__BASE_URL", "http://a"),
        ("LASTWORD_BACKENDS__A__API_KEY", "12345"),
    ];
    assert_eq!(
        said_with("", key),
        "LASTWORD_BACKENDS__A__API_KEY: backends.a.api_key: expected a string, not an integer; write it as '\"…\"'"
    );
}

#[test]
fn check_says_what_a_configuration_comes_to() {
    let text = "[backends.a]\nkind = \"openai\"\nbase_url = \"http://a/v1\"\napi_key = \"hush\"\n\
                [backends.mock]\nkind = \"mock\"\n[models.m]\nroute = [\"a/b\", \"mock/words\"]";
    assert_eq!(
        Summary(&parse(text)).to_string(),
        "no file: the built-in defaults\n\
         listens on  http://127.0.0.1:8080\n\
         default     m\n\
         backend     a: openai, http://a/v1\n\
         backend     mock: mock\n\
         model       m: a/b, mock/words\n"
    );
}

#[test]
fn tls_needs_both_files_and_what_they_should_hold() {
    for (text, words) in [
        ("[server]\ntls_cert = \"c.pem\"", "tls_cert has no tls_key beside it"),
        ("[server]\ntls_key = \"k.pem\"", "tls_key has no tls_cert beside it"),
        ("[server]\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"", "c.pem: "),
        ("[server]\ntls_cert = \"c\"\ntls_key = \"k\"\ntls_self_signed = true", "tls_self_signed stands beside"),
    ] {
        let said = said(text);
        assert!(said.contains(words) && said.starts_with("lastword.toml:"), "{text}: {said}");
    }
    let said = Summary(&parse("[server]\ntls_self_signed = true")).to_string();
    assert!(said.contains("https://127.0.0.1:8080"), "{said}");
}

// Webhooks.

/// 24 bytes.
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn who_is_told_of_answers_must_be_sound_and_what_is_not_is_named_with_its_remedy() {
    let url = "url = \"https://app.example.com/hooks?token=hush\"";
    for (keys, words) in [
        (format!("secret = \"{WHSEC}\""), ":1: [webhooks] has no `url`"),
        (format!("url = \"app.example.com\"\nsecret = \"{WHSEC}\""), ":2: webhooks.url is not a URL"),
        (format!("url = \"ftp://app\"\nsecret = \"{WHSEC}\""), ":2: webhooks.url must begin with http:// or https://"),
        (format!("url = \"https://me:hush@app/\"\nsecret = \"{WHSEC}\""), ":2: webhooks.url holds a user name"),
        (url.to_owned(), ":1: webhooks.secret is missing"),
        (format!("{url}\nsecret = \"hush\""), ":3: webhooks.secret does not begin with `whsec_`; `echo whsec_$("),
        (format!("{url}\nsecret = \"whsec_hush!\""), ":3: webhooks.secret is not base64 behind `whsec_`; "),
        (format!("{url}\nsecret = \"whsec_aHVzaA==\""), ":3: webhooks.secret must be 24 to 64 bytes behind `whsec_`; "),
        (
            format!("{url}\nsecret = \"{WHSEC}\"\nsecret_file = \"hush\""),
            ":4: webhooks.secret_file stands beside `secret`; remove one of the two",
        ),
        (format!("{url}\nsecret_file = \"none\""), ":3: webhooks.secret_file cannot be read: "),
        (format!("{url}\nsecret = \"{WHSEC}\"\nevents = []"), ":4: webhooks.events names none"),
        (format!("{url}\nsecret = \"{WHSEC}\"\nevents = [\"done\"]"), ":4: unknown events `done`"),
        (format!("{url}\nsecret = \"{WHSEC}\"\ntimeout = \"0s\""), ":4: webhooks.timeout must be longer than nothing"),
        (format!("{url}\nsecret = \"{WHSEC}\"\nbackoff = []"), ":4: webhooks.backoff must hold one duration"),
        (format!("{url}\nsecret = \"{WHSEC}\"\nbackoff = [\"0s\"]"), ":4: webhooks.backoff must hold one duration"),
        (format!("{url}\nsecret = \"{WHSEC}\"\nbackoff = [\"5\"]"), ":4: webhooks.backoff: `5` is not a duration"),
        (format!("{url}\nsecret = \"{WHSEC}\"\nretries = 3"), ":4: unknown key `retries` in [webhooks]"),
    ] {
        let said = said(&format!("[webhooks]\n{keys}"));
        assert!(said.contains(words) && !said.contains("hush@") && !said.contains("token"), "{keys}: {said}");
    }
    let config = parse(&format!("[webhooks]\n{url}\nsecret = \"{WHSEC}\""));
    let told = format!("{} {config:?}", Summary(&config));
    assert!(told.contains("webhooks    https://app.example.com\n"), "{told}");
    assert!(!told.contains("hush") && !told.contains("MfKQ") && !told.contains("/hooks"), "{told}");
}

// The example.

/// The example with its examples in force, and files in this folder where it says there are some.
fn example(folder: &Path) -> String {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [
        ("/run/secrets/azure", "hush".to_owned()),
        ("/run/secrets/webhook", WHSEC.to_owned()),
        ("/etc/lastword/cert.pem", certificate.cert.pem()),
        ("/etc/lastword/key.pem", certificate.signing_key.serialize_pem()),
    ];
    let mut text = include_str!("../lastword.example.toml").to_owned();
    for (path, content) in files {
        let file = folder.join(path.rsplit('/').next().unwrap());
        fs::write(&file, content).unwrap();
        text = text.replace(path, file.to_str().unwrap());
    }
    let key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    text.lines().map(|line| if key(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_the_defaults() {
    let as_it_is = parse(include_str!("../lastword.example.toml"));
    let nothing = parse("");
    assert_eq!(format!("{as_it_is:#?}"), format!("{nothing:#?}"));

    let folder = tempfile::tempdir().unwrap();
    // Of what a token, or a webhook, can be signed with, one.
    let text = example(folder.path());
    let others = |line: &&str| {
        !line.starts_with("key_file = ") && !line.contains("${TOKEN_SECRET}") && !line.contains("${WEBHOOK_SECRET}")
    };
    let text: Vec<_> = text.lines().filter(others).collect();
    let variables =
        [("LOCAL_KEY", "k"), ("ANTHROPIC_API_KEY", "k"), ("LASTWORD_SECRET", "0123456789abcdef0123456789abcdef")];
    let config = Config::parse("lastword.example.toml", &text.join("\n"), &env(variables), &[]).unwrap();
    let Backend::OpenAi(local) = &config.backends["local"] else { panic!("of another kind") };
    assert_eq!(local.timeouts, lastword::backend::Clocks::default());
    assert_eq!(local.max_line, lastword::backend::http::Config::new("").max_line);
    assert_eq!(names(&config.models), ["claude-*", "fast", "gemma-*"]);
    let least = parse(&format!("[webhooks]\nurl = \"http://h\"\nsecret = \"{WHSEC}\""));
    assert_eq!(format!("{:?}", config.webhooks), format!("{:?}", least.webhooks));
}

/// The keys that a section takes are asked of its own error message, so that a new one cannot be left out of the example.
#[test]
fn the_example_has_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let example: toml::Table = example(folder.path()).parse().unwrap();
    let mut there: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut valid = there.clone();
    for (section, of) in [
        ("", ""),
        ("server", "server"),
        ("store", "store"),
        ("limits", "limits"),
        ("limits.per_key", "quota"),
        ("limits.keys.web", "quota"),
        ("auth", "auth"),
        ("auth.keys.web", "key"),
        ("auth.jwt", "jwt"),
        ("prompts", "prompts"),
        ("log", "log"),
        ("webhooks", "webhooks"),
        ("backends.mock", "mock"),
        ("backends.mock.tool_call", "tool_call"),
        ("backends.mock.fault", "fault"),
        ("backends.local", "openai"),
        ("backends.azure", "openai"),
        ("backends.anthropic", "openai"),
        ("backends.openai", "openai"),
        ("backends.local.timeouts", "timeouts"),
        ("backends.push", "push"),
        ("backends.app", "relay"),
        ("models.fast", "models"),
    ] {
        let mut with_a_stranger = example.clone();
        let keys = section.split('.').filter(|key| !key.is_empty());
        let table = keys.fold(&mut with_a_stranger, |table, key| table[key].as_table_mut().unwrap());
        there.entry(of).or_default().extend(table.keys().cloned());
        table.insert("0000".to_owned(), 0.into());
        let secret = "0123456789abcdef0123456789abcdef";
        let variables = [
            ("LOCAL_KEY", "k"),
            ("ANTHROPIC_API_KEY", "k"),
            ("LASTWORD_SECRET", secret),
            ("TOKEN_SECRET", secret),
            ("WEBHOOK_SECRET", secret),
        ];
        let said = said_with(&with_a_stranger.to_string(), variables);
        let (_, all) = said.split_once("; valid here: ").expect(&said);
        valid.entry(of).or_default().extend(all.split(", ").map(str::to_owned));
    }
    // Which struct a section is read into is `kind`'s to say, so no struct has it.
    for kind in ["mock", "openai", "push", "relay"] {
        assert!(there.get_mut(kind).unwrap().remove("kind"));
    }
    assert_eq!(there, valid);
}
