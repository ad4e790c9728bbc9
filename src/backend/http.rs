//! The driver of every backend that speaks HTTP: one request, one stream of server-sent events, one decoder.
//!
//! It knows statuses, content types and broken bodies, and nothing of what the frames mean: that is [`Decode`]'s. It knows no
//! clock but the client's connect clock, and how long what may follow a whole answer is waited for. All that an upstream says of an
//! error passes through one door, where it is trimmed and the configured credentials are taken out of it.

mod config;
mod events;
mod pass;

use std::{borrow::Cow, fmt, sync::Arc};

use futures_util::{TryFutureExt, future::BoxFuture};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tracing::warn;

pub use self::config::Config;
pub(super) use self::events::{Read, Told};
use super::{BackendError, BadConfig, Clocks, ErrorKind, Events};
use crate::{
    client::{self, Client, Response, Secret, Secrets, Stage},
    event::{Attempt, Event, Json},
    prompt::Prompt,
    protocol::{Complaint, Decode, DecodeError},
    wire::sse::Parser,
};

const EVENT_STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";
/// How much is read of a body that is not an answer. Complaints are short.
const COMPLAINT_BYTES: usize = 16 * 1024;
/// How much of it is shown, in characters.
const MESSAGE_CHARS: usize = 500;
/// How much is read of an answer that is JSON: a list of models, a count.
const LIST_BYTES: usize = 4 << 20;
/// What is trusted to name a secret: the value of such a header or parameter never reaches a reader.
const SECRET_NAMES: [&str; 7] = ["auth", "cookie", "credential", "key", "password", "secret", "token"];

/// An upstream that is ready to be asked. Shared by the answers that are under way.
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) clocks: Clocks,
    pub(super) models: Vec<String>,
    pub(super) extra_body: Map<String, Value>,
    /// Said after a 404: what may be wrong with the URL.
    pub(super) not_found: Option<String>,
    client: Client,
    secrets: Secrets,
    pub(super) max_line: usize,
    /// The paths to which requests are handed on.
    pass_through: pass::Paths,
}

/// Shows no more than the configuration does.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).field("client", &self.client).finish_non_exhaustive()
    }
}

/// One question.
pub(super) struct Ask {
    /// The protocol's name, for the record.
    pub(super) protocol: &'static str,
    /// Where, below the base URL.
    pub(super) path: &'static str,
    /// The upstream's name for the model, for the record.
    pub(super) model: String,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// More headers than the configured ones, which come first.
    pub(super) headers: Vec<(String, String)>,
}

impl Upstream {
    /// `name` is the backend's in the configuration; `reserved` are the members of a body that are not the operator's to set.
    pub(super) fn new(name: &str, config: Config, reserved: &[&str]) -> Result<Self, BadConfig> {
        let key = config.key()?;
        let mut secrets = Secrets::default();
        let mut client = Client::new(&config.base_url, config.timeouts.connect)
            .map_err(|problem| BadConfig::new("base_url", problem))?;
        if let Some(key) = key {
            secrets.add(&key);
            client = match &config.auth_header {
                Some(name) => {
                    client.header(name, key.expose()).map_err(|problem| BadConfig::new("auth_header", problem))
                }
                None => client
                    .header("authorization", &format!("Bearer {}", key.expose()))
                    .map_err(|problem| BadConfig::new("api_key", problem)),
            }?;
        }
        for (name, value) in &config.headers {
            client = client
                .header(name, value.expose())
                .map_err(|problem| BadConfig::new(format!("headers.{name}"), problem))?;
        }
        for (name, value) in &config.query {
            client = client.query(name, value.expose());
        }
        for (name, value) in config.headers.iter().chain(&config.query) {
            let name = name.to_ascii_lowercase();
            if SECRET_NAMES.iter().any(|secret| name.contains(secret)) {
                secrets.add(value);
                // `Bearer x`, `session=x`: an upstream may well echo the `x` alone.
                value.expose().split([' ', '=', ';']).for_each(|piece| secrets.add(&Secret::new(piece)));
            }
        }
        if let Some(name) = reserved.iter().find(|name| config.extra_body.contains_key(**name)) {
            return Err(BadConfig::new(format!("extra_body.{name}"), "is set by lastword itself; remove it"));
        }
        let max_line = usize::try_from(config.max_line.as_u64()).unwrap_or(usize::MAX);
        if max_line == 0 {
            return Err(BadConfig::new("max_line", "is 0, which no line fits into; write \"2MiB\""));
        }
        let pass_through = pass::Paths::new(config.pass_through)?;
        Ok(Self {
            name: name.to_owned(),
            clocks: config.timeouts,
            models: config.models,
            extra_body: config.extra_body,
            not_found: None,
            client,
            secrets,
            max_line,
            pass_through,
        })
    }

    /// More members for the body of a request: the operator's, and behind them the client's own, of which none may be `reserved`.
    pub(super) fn extras(&self, prompt: &Prompt, reserved: &[&str]) -> Result<[Map<String, Value>; 2], BackendError> {
        let unfit = |message: String| BackendError::new(ErrorKind::Unfit, message);
        let options: Map<String, Value> = match &prompt.backend_options {
            None => Map::new(),
            Some(options) => serde_json::from_str(options.get()).map_err(|_| {
                unfit("backend_options must be an object: members for the body of the upstream's request".to_owned())
            })?,
        };
        if let Some(name) = reserved.iter().find(|name| options.contains_key(**name)) {
            return Err(unfit(format!("backend_options.{name} is set by lastword itself; remove it")));
        }
        Ok([self.extra_body.clone(), options])
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks, and gives the answer's events as they come. Events that arrived in one piece are given back to back.
    pub(super) fn answer<D: Decode + Unpin + 'static>(self: &Arc<Self>, ask: Ask, decode: D) -> Events {
        let upstream = Arc::clone(self);
        let begin = async move {
            let response = upstream.client.post(ask.path, EVENT_STREAM, &ask.headers, ask.body).await;
            let accepted = match response {
                Ok(response) => upstream.accepted(response).await,
                Err(error) => Err(error.into()),
            };
            let response = accepted.map_err(|error| upstream.presentable(error))?;
            let attempt = Attempt {
                n: 1,
                backend: upstream.name.clone(),
                protocol: Cow::Borrowed(ask.protocol),
                model: ask.model,
                request_id: request_id(&response).map(|id| upstream.secrets.scrub(id.to_owned())),
                ..Attempt::default()
            };
            let parser = Parser::new(upstream.max_line).error_field();
            Ok(Told::new(upstream, attempt, response.body(), Decoding { parser, decode }))
        };
        Box::pin(begin.try_flatten_stream())
    }

    /// The models that the upstream lists at `models`, with these headers beside the configured ones. Cancel safe.
    ///
    /// # Errors
    /// When it cannot be reached, refuses, or answers something else than a list of models.
    pub(super) fn list_models(
        self: Arc<Self>,
        headers: Vec<(String, String)>,
    ) -> BoxFuture<'static, Result<Vec<String>, BackendError>> {
        Box::pin(async move {
            let list = async {
                let response = self.client.get("models", JSON, &headers).await?;
                let list: Value = self.json(response, "models").await?;
                let names = list.get("data").and_then(Value::as_array).map(|models| {
                    models.iter().filter_map(|model| model.get("id")?.as_str().map(str::to_owned)).collect()
                });
                names.ok_or_else(|| self.not_what_was_asked("models", "a list of models"))
            };
            list.await.map_err(|error| self.presentable(error))
        })
    }

    /// Posts JSON to a path below the base URL, and gives back the JSON that is answered.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Json, BackendError> {
        let json = async {
            let response = self.client.post(ask.path, JSON, &ask.headers, ask.body).await?;
            self.json(response, ask.path).await
        };
        json.await.map_err(|error| self.presentable(error))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response, path: &str) -> Result<T, BackendError> {
        if response.status() != 200 {
            return Err(self.refusal(response).await);
        }
        let text = response.text(LIST_BYTES).await;
        serde_json::from_str(&text).map_err(|_| self.not_what_was_asked(path, "JSON"))
    }

    fn not_what_was_asked(&self, path: &str, asked: &str) -> BackendError {
        let message = format!("`{}` answered /{path} with something else than {asked}", self.name);
        BackendError::new(ErrorKind::Malformed, message)
    }

    /// Lets a response through that is a stream of events; what else it may be is an error that says so.
    async fn accepted(&self, response: Response) -> Result<Response, BackendError> {
        if !(200..300).contains(&response.status()) {
            return Err(self.refusal(response).await);
        }
        let kind = response.header("content-type").unwrap_or(EVENT_STREAM);
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind == EVENT_STREAM {
            return Ok(response);
        }
        let name = &self.name;
        let request_id = request_id(&response).map(str::to_owned);
        let body = response.text(COMPLAINT_BYTES).await;
        let complaint = serde_json::from_str::<Value>(&body).ok();
        if let Some(complaint) = complaint.as_ref().and_then(|json| Complaint::of(json.get("error")?)) {
            let mut error = BackendError::new(
                ErrorKind::Refused,
                format!("`{name}` answered with an error: {}", complaint.message),
            );
            error.status = complaint.status;
            error.r#type = complaint.code;
            return Err(error);
        }
        let remedy = match &*kind {
            "application/json" => "does it support `stream: true`?",
            _ => "is base_url right?",
        };
        let id = request_id.map(|id| format!(" (request {id})")).unwrap_or_default();
        let message = format!("`{name}` answered with {kind} where a stream of events should be{id}; {remedy}");
        Err(BackendError::new(ErrorKind::Malformed, message))
    }

    /// What a response says that is not a success.
    async fn refusal(&self, response: Response) -> BackendError {
        let (name, status) = (&self.name, response.status());
        let mut error = BackendError::new(ErrorKind::Refused, String::new());
        error.status = Some(status);
        if (300..400).contains(&status) {
            let to = response.location().map(|url| format!(" to {url}")).unwrap_or_default();
            error.message = format!(
                "`{name}` answered {status}, a redirect{to}, which is not followed; write where it really is into base_url"
            );
            return error;
        }
        error.retry_after = response.retry_after();
        error.request_id = request_id(&response).map(str::to_owned);
        error.should_retry = response.header("x-should-retry").and_then(|word| word.parse().ok());
        let complaint = Complaint::read(&response.text(COMPLAINT_BYTES).await);
        let words = if complaint.message.is_empty() { "with no word of why" } else { &complaint.message };
        let hint =
            self.not_found.as_deref().filter(|_| status == 404).map(|hint| format!(" ({hint})")).unwrap_or_default();
        error.message = format!("`{name}` answered {status}: {words}{hint}");
        error.r#type = complaint.code;
        error
    }

    /// The one door for errors: nothing secret, nothing endless.
    pub(super) fn presentable(&self, error: BackendError) -> BackendError {
        if matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Truncated) {
            // The client's own words: no prompt and no answer is in them.
            warn!(backend = self.name, %error, "upstream");
        }
        // Readers know the backend by its name; where it stands is the operator's. Scrubbed first, since half a key is not
        // found any more.
        let (origin, name) = (self.client.origin(), format!("`{}`", self.name));
        let show = |text| trim(&self.secrets.scrub(text).replace(&origin, &name));
        let (message, request_id) = (show(error.message), error.request_id.map(show));
        BackendError { message, r#type: error.r#type.map(show), request_id, ..error }
    }
}

/// Frames, and what a protocol makes of them.
struct Decoding<D> {
    parser: Parser,
    decode: D,
}

impl<D: Decode + Unpin> Read for Decoding<D> {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        let mut frames = self.parser.feed(bytes);
        loop {
            match frames.next() {
                Ok(Some(frame)) => self.decode.frame(frame.event, frame.data, events)?,
                Ok(None) => return Ok(()),
                Err(too_long) => {
                    return Err(BackendError::new(
                        ErrorKind::Malformed,
                        format!("{too_long}; raise `max_line` if that is right"),
                    ));
                }
            }
        }
    }

    fn finish(&mut self, events: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        Ok(self.decode.finish(events)?)
    }

    fn done(&self) -> bool {
        self.decode.done()
    }

    fn whole(&self) -> bool {
        self.decode.whole()
    }
}

impl From<client::Error> for BackendError {
    fn from(error: client::Error) -> Self {
        let kind = match error.stage {
            Stage::Connect if error.timed_out => ErrorKind::Timeout,
            Stage::Connect => ErrorKind::Unreachable,
            Stage::Head | Stage::Body => ErrorKind::Truncated,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DecodeError> for BackendError {
    fn from(error: DecodeError) -> Self {
        let message = error.to_string();
        match error {
            DecodeError::Truncated => Self::new(ErrorKind::Truncated, message),
            DecodeError::Malformed(_) => Self::new(ErrorKind::Malformed, message),
            DecodeError::Upstream(complaint) => {
                let message = format!("the upstream gave up in the middle of the answer: {message}");
                Self { r#type: complaint.code, status: complaint.status, ..Self::new(ErrorKind::Failed, message) }
            }
        }
    }
}

/// What may be wrong after a 404: most servers have their API below a version, and it is easily left out.
pub(super) fn version_hint(base_path: &str) -> Option<String> {
    let version =
        |segment: &str| segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let path = base_path.trim_end_matches('/');
    if path.split('/').any(version) {
        return None;
    }
    Some(format!("base_url has no version in it: should it end with {path}/v1?"))
}

/// The name by which the upstream's operator finds the request.
fn request_id(response: &Response) -> Option<&str> {
    response.header("x-request-id").or_else(|| response.header("request-id"))
}

/// One line of a bounded length.
fn trim(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(toml: &str) -> BadConfig {
        let config: Config = toml::from_str(toml).expect("well-formed");
        Upstream::new("up", config, &["stream"]).expect_err(toml)
    }

    #[test]
    fn a_bad_config_names_the_key_and_the_remedy() {
        for (toml, key, remedy) in [
            (r#"base_url = "localhost:8000""#, "base_url", "http://"),
            ("base_url = \"http://h\"\napi_key = \"a\"\napi_key_file = \"b\"", "api_key_file", "remove one"),
            ("base_url = \"http://h\"\napi_key_file = \"/no/such\"", "api_key_file", "/no/such"),
            ("base_url = \"http://h\"\nheaders = { \"a b\" = \"c\" }", "headers.a b", "name"),
            ("base_url = \"http://h\"\nheaders = { a = \"c\\nd\" }", "headers.a", "line break"),
            ("base_url = \"http://h\"\napi_key = \"k\\nk\"", "api_key", "line break"),
            ("base_url = \"http://h\"\nextra_body = { stream = false }", "extra_body.stream", "remove"),
            ("base_url = \"http://h\"\nmax_line = 0", "max_line", "2MiB"),
            ("base_url = \"http://h\"\npass_through = [\"/files\"]", "pass_through", "\"files\""),
            ("base_url = \"http://h\"\npass_through = [\"v1/files\"]", "pass_through", "\"files\""),
            ("base_url = \"http://h\"\npass_through = [\"audio*\"]", "pass_through", "\"audio/*\""),
            ("base_url = \"http://h\"\npass_through = [\"\"]", "pass_through", "\"files/*\""),
        ] {
            let error = bad(toml);
            assert_eq!(error.key, key, "{toml}");
            assert!(error.problem.contains(remedy), "{toml}: {error}");
        }
    }

    #[test]
    fn a_full_config_is_read_and_shows_no_secret() {
        let config: Config = toml::from_str(
            r#"
            base_url = "https://host/v1/"
            api_key = "sk-secret"
            auth_header = "api-key"
            headers = { "x-team" = "search", authorization = "Bearer other-secret" }
            query = { "api-version" = "2" }
            extra_body = { top_k = 40, chat_template_kwargs = { enable_thinking = false } }
            timeouts = { first = "30s" }
            max_line = "4MiB"
            models = ["a", "b"]
            "#,
        )
        .expect("well-formed");
        assert!(!format!("{config:?}").contains("secret"));
        let upstream = Upstream::new("up", config, &["stream"]).expect("an upstream");
        assert!(!format!("{upstream:?}").contains("secret"));
        assert_eq!((upstream.clocks.first, upstream.max_line), (std::time::Duration::from_secs(30), 4 << 20));
        let error = BackendError::new(ErrorKind::Failed, "sk-secret in search by other-secret");
        assert_eq!(upstream.presentable(error).message, "*** in search by ***");
    }

    #[test]
    fn a_message_is_one_bounded_line_and_a_key_at_its_edge_is_not_cut_in_half() {
        let config = Config { api_key: Some(Secret::new("sk-secret")), ..Config::new("http://h") };
        let upstream = Upstream::new("up", config, &[]).expect("an upstream");
        let long = format!("{}\r\n\u{1b} sk-secret{}", "x".repeat(MESSAGE_CHARS - 5), "é".repeat(MESSAGE_CHARS));
        let shown = upstream.presentable(BackendError::new(ErrorKind::Failed, long)).message;
        assert_eq!(shown.chars().count(), MESSAGE_CHARS + 1);
        assert!(shown.contains("x ***é") && !shown.contains("sk-"), "{shown}");
    }
}
