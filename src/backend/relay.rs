//! The kind `relay`: an application of the user's own that answers in server-sent events, whatever it says in them. Requests to its paths
//! go on as they came, and so do its answers; those in events are recorded, and can be resumed.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use bytesize::ByteSize;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::{
    Backend, BackendError, BadConfig, Clocks, ErrorKind, Events, Opened, Opening, Relaying, Request,
    http::{self, Told, Upstream},
};
use crate::{
    client::{self, Secret},
    event::{Attempt, Event},
    prompt::{OnDisconnect, Prompt},
    protocol::{
        Dialect,
        relayed::{self, RelayDecode},
    },
};

/// In a response of the AI SDK's.
const AI_SDK: &str = "x-vercel-ai-ui-message-stream";

/// The section of an application.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where requests go. Without a path of its own, to the path that the client asks for.
    pub url: String,
    /// The paths from which they come, as clients ask for them: one, or with `/*` behind it all below it, which then go below `url`.
    /// The path of `url`, where nothing is said.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Sent with each request, in place of the client's.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The client's headers that go along; all but those of one connection, where nothing is said.
    #[serde(default)]
    pub forward: Option<Vec<String>>,
    /// The client's cookies that go along, by name; all, where nothing is said.
    #[serde(default)]
    pub cookies: Option<Vec<String>>,
    /// By what one person is told from another: `cookie:NAME`, `header:NAME`.
    #[serde(default)]
    pub identify: Vec<String>,
    /// Who looks whether a request may be made: the application, or lastword, to whom a key must be shown.
    #[serde(default)]
    pub access: Access,
    /// The members of a request's body that name a chat.
    #[serde(default = "chats")]
    pub chat: Vec<String>,
    /// What the application speaks, where neither the head of its response nor its first event tells.
    #[serde(default)]
    pub speaks: Option<Dialect>,
    /// What to do when the last reader of an answer leaves.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Clocks,
    /// The most that one event may have.
    #[serde(default = "max_line")]
    pub max_line: ByteSize,
}

/// Who looks at a request's credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The application, at its own.
    #[default]
    App,
    /// lastword, at its own.
    Key,
}

fn chats() -> Vec<String> {
    ["id", "chatId", "chat_id", "threadId", "thread_id"].map(str::to_owned).to_vec()
}

fn max_line() -> ByteSize {
    ByteSize::mib(2)
}

/// Shows no secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("paths", &self.paths).field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

/// See the module.
pub struct Relay {
    upstream: Arc<Upstream>,
    paths: Vec<Path>,
    /// The URL has no path of its own: the client's is kept.
    keeps: bool,
    relaying: Relaying,
    speaks: Option<Dialect>,
}

/// A path from which requests are relayed.
#[derive(Debug, PartialEq)]
struct Path {
    /// Without a slash at its end.
    path: String,
    /// All below it, too.
    below: bool,
}

impl Path {
    fn read(text: &str) -> Result<Self, BadConfig> {
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let good = text.starts_with('/') && !path.contains(['*', '?', '#', '%', ' ']) && !path.ends_with('/');
        let ours = |start: &str| path == start || path.starts_with(&format!("{start}/"));
        if !good {
            let problem =
                format!("has `{text}`, which is no path; write \"/api/chat\", or \"/api/*\" for all below it");
            return Err(BadConfig::new("paths", problem));
        }
        if ours("/v1") {
            let problem = format!("has `{text}`, and what is below /v1 is lastword's own; write another path");
            return Err(BadConfig::new("paths", problem));
        }
        Ok(Self { path: path.to_owned(), below })
    }

    /// What of a client's path goes below the URL.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.path)?;
        match rest.strip_prefix('/') {
            Some(below) if self.below => Some(below),
            None if rest.is_empty() => Some(""),
            _ => None,
        }
    }
}

impl Relay {
    /// The backend of this name in the configuration.
    ///
    /// # Errors
    /// When the section cannot be meant: the error names the key and the remedy.
    pub fn new(name: &str, config: Config) -> Result<Self, BadConfig> {
        for what in &config.identify {
            if !matches!(what.split_once(':'), Some(("cookie" | "header", name)) if !name.is_empty()) {
                let problem = format!("has `{what}`; write \"cookie:NAME\" or \"header:NAME\"");
                return Err(BadConfig::new("identify", problem));
            }
        }
        let relaying = Relaying {
            on_disconnect: config.on_disconnect,
            needs_key: config.access == Access::Key,
            identify: config.identify,
            forward: config.forward.map(|names| names.iter().map(|name| name.to_ascii_lowercase()).collect()),
            cookies: config.cookies,
            chat: config.chat,
        };
        let mut common = http::Config::new(&config.url);
        (common.headers, common.timeouts, common.max_line) = (config.headers, config.timeouts, config.max_line);
        let upstream = Upstream::new(name, common, &[]).map_err(|bad| match &*bad.key {
            "base_url" => BadConfig::new("url", bad.problem),
            _ => bad,
        })?;
        let own = [upstream.client().base_path().trim_end_matches('/').to_owned()];
        let paths = if config.paths.is_empty() { &own[..] } else { &config.paths[..] };
        if paths == [""] {
            let problem = "is not said, and `url` has no path of its own; write the paths that clients ask for, such as [\"/api/*\"]";
            return Err(BadConfig::new("paths", problem));
        }
        let mut paths = paths.iter().map(|path| Path::read(path)).collect::<Result<Vec<_>, _>>()?;
        paths.sort_by_key(|path| path.below); // what is named by itself first
        let keeps = own == [""];
        Ok(Self { upstream: Arc::new(upstream), paths, keeps, relaying, speaks: config.speaks })
    }

    /// Which of the paths this is, and what of it goes below the URL.
    fn find<'p>(&self, path: &'p str) -> Option<(&Path, &'p str)> {
        let (known, rest) = self.paths.iter().find_map(|known| Some((known, known.rest(path)?)))?;
        Some((known, if self.keeps { path.trim_start_matches('/') } else { rest }))
    }
}

impl Backend for Relay {
    /// It says nothing by itself.
    fn generate(&self, _: &Prompt, _: &str) -> Events {
        super::fails(self.no_model())
    }

    fn check(&self, _: &Prompt, _: &str) -> Result<Vec<String>, BackendError> {
        Err(self.no_model())
    }

    fn clocks(&self) -> &Clocks {
        &self.upstream.clocks
    }

    fn relays(&self, path: &str) -> Option<(&Relaying, bool)> {
        self.find(path).map(|(known, _)| (&self.relaying, !known.below))
    }

    fn relay(&self, path: &str, query: Option<&str>) -> Option<Opening> {
        let (below, query) = (self.find(path)?.1.to_owned(), query.map(str::to_owned));
        let (upstream, speaks, path) = (self.upstream.clone(), self.speaks, path.to_owned());
        let open = move |request: Request| {
            async move {
                let response = upstream.relay(&below, query.as_deref(), request).await?;
                let is_answer = response.status().is_success()
                    && response
                        .headers()
                        .get("content-type")
                        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
                if !is_answer {
                    let shown = move |error: client::Error| upstream.presentable(error.into());
                    return Ok(Opened::Other(response.map(|body| body.map_err(shown).boxed())));
                }
                let (head, body) = response.into_parts();
                let speaks = speaks.or_else(|| head.headers.contains_key(AI_SDK).then_some(Dialect::AiSdk));
                let decode = RelayDecode::new(upstream.max_line, speaks);
                let attempt = Attempt {
                    n: 1,
                    backend: upstream.name.clone(),
                    protocol: Cow::Borrowed(relayed::NAME),
                    model: path,
                    ..Attempt::default()
                };
                Ok(Opened::Answer { events: Box::pin(Told::new(upstream, attempt, body, decode)), head: head.headers })
            }
            .boxed()
        };
        Some(Box::new(open))
    }
}

impl Relay {
    fn no_model(&self) -> BackendError {
        let name = &self.upstream.name;
        let message = format!("`{name}` relays requests to its own paths, and has no models; POST to one of them");
        BackendError::new(ErrorKind::UnknownModel, message)
    }
}

impl http::Read for RelayDecode {
    /// An application may say anything behind its answer, and for ever.
    const IN_ALL: bool = true;

    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        Ok(self.feed(bytes, events)?)
    }

    fn finish(&mut self, events: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        Ok(self.finish(events)?)
    }

    /// Once the answer is whole, or its failure is told, it does not matter how what may follow it ends.
    fn broken(&mut self, why: client::Error, events: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        if self.ended() { Ok(self.finish(events)?) } else { Err(why.into()) }
    }

    fn done(&self) -> bool {
        false
    }

    fn whole(&self) -> bool {
        self.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(toml: &str) -> Result<Relay, BadConfig> {
        Relay::new("app", toml::from_str(toml).expect("well-formed"))
    }

    #[test]
    fn a_path_goes_to_the_url_and_what_is_below_it_below() {
        let to =
            |relay: &Relay, path: &'static str| relay.find(path).map(|(known, rest)| (known.below, rest.to_owned()));
        let below = |rest: &str| Some((true, rest.to_owned()));
        let exact = relay("url = \"http://h/api/chat\"").expect("a relay");
        assert_eq!(to(&exact, "/api/chat"), Some((false, String::new())));
        for other in ["/api/chat/", "/api/chats", "/api", "/api/chat/x", "/"] {
            assert_eq!(to(&exact, other), None, "{other}");
        }
        let all = relay("url = \"http://h/base\"\npaths = [\"/x/*\", \"/y\"]").expect("a relay");
        assert_eq!([to(&all, "/x/a/b"), to(&all, "/x")], [below("a/b"), below("")]);
        assert_eq!([to(&all, "/y"), to(&all, "/xa"), to(&all, "/y/a")], [Some((false, String::new())), None, None]);
        let whole = relay("url = \"http://h\"\npaths = [\"/*\", \"/api/chat\"]").expect("a relay");
        assert_eq!([to(&whole, "/"), to(&whole, "/a/b")], [below(""), below("a/b")]);
        assert_eq!(to(&whole, "/api/chat"), Some((false, "api/chat".to_owned())), "named by itself");
    }

    #[test]
    fn a_bad_section_names_the_key_and_the_remedy() {
        for (toml, key, remedy) in [
            ("url = \"h\"", "url", "http://"),
            ("url = \"http://h\"", "paths", "/api/*"),
            ("url = \"http://h\"\npaths = [\"chat\"]", "paths", "\"/api/chat\""),
            ("url = \"http://h\"\npaths = [\"/a*\"]", "paths", "\"/api/*\""),
            ("url = \"http://h\"\npaths = [\"/v1/*\"]", "paths", "another"),
            ("url = \"http://h/a\"\nidentify = [\"session\"]", "identify", "cookie:NAME"),
        ] {
            let error = relay(toml).err().expect(toml);
            assert_eq!(error.key, key, "{toml}");
            assert!(error.problem.contains(remedy), "{toml}: {error}");
        }
    }
}
