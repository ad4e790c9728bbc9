//! The configuration, read again while answers run: backends, models, the default and the folder of prompts take the place of those
//! before, all at once, and whatever runs goes on with the backend that it began with.
//!
//! The files are looked at twice a second: the config file, and the files that hold keys. What has changed is looked at again soon;
//! what is the same then is whole, and is read. A configuration that is wrong changes nothing: that is said once, and it is tried
//! again at each look, so that it takes no second change of this file when what was missing is another one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{select, sync::Notify, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use crate::{
    auth::{Auth, Known},
    backend,
    config::{Backend, Config},
    gateway::Gateway,
    route::Router,
    stamp::Stamp,
    template::Templates,
};

/// The time between two looks of a server that is not told another one: a look is a few system calls.
pub const LOOK: Duration = Duration::from_millis(500);

/// The time in which a file that is being written changes again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the configuration comes from, time and again.
pub struct Source {
    /// The file; it need not be there.
    pub file: PathBuf,
    /// Reads it, and lays over it what the command line and the environment say. Blocks.
    pub read: Box<dyn Fn() -> anyhow::Result<Config> + Send>,
    /// The time between two looks.
    pub look: Duration,
}

/// A backend that can be asked, and what it was made of.
pub(super) struct Opened {
    config: Backend,
    /// Of the file that holds its key, before that was read.
    key: Option<Stamp>,
    backend: Arc<dyn backend::Backend>,
}

impl Opened {
    fn new(name: &str, config: &Backend) -> anyhow::Result<Self> {
        let key = config.key_file().and_then(Stamp::of);
        let backend = config.open(name).with_context(|| format!("backend `{name}`"))?;
        Ok(Self { config: config.clone(), key, backend })
    }

    /// The same one, connections and all, if nothing that it was made of has changed.
    fn again(&self, config: &Backend) -> Option<Self> {
        let key = config.key_file().and_then(Stamp::of);
        let same = self.config == *config && self.key == key;
        same.then(|| Self { config: self.config.clone(), key, backend: self.backend.clone() })
    }
}

/// Backends by their names.
pub(super) type AllOpened = BTreeMap<String, Opened>;

/// Makes the backends ready to be asked, those `before` that are meant again as they are.
pub(super) fn open(backends: &BTreeMap<String, Backend>, before: &AllOpened) -> anyhow::Result<AllOpened> {
    let opened = backends.iter().map(|(name, config)| {
        let same = before.get(name).and_then(|before| before.again(config));
        Ok((name.clone(), same.map_or_else(|| Opened::new(name, config), Ok)?))
    });
    opened.collect()
}

/// The way from a model's name to one of these.
pub(super) fn router(opened: &AllOpened, config: &Config) -> Router {
    let backends = opened.iter().map(|(name, opened)| (name.clone(), opened.backend.clone()));
    Router::new(backends.collect(), config.models.clone(), config.default_model.clone())
}

/// The configuration by which a server runs, and what of it can be exchanged.
pub(super) struct InForce {
    pub(super) config: Config,
    pub(super) opened: AllOpened,
    pub(super) gateway: Arc<Gateway>,
    pub(super) templates: Arc<Templates>,
    pub(super) auth: Arc<Auth>,
}

impl InForce {
    /// Puts another one in its place, but for what holds as long as the server runs. Says what has changed.
    fn replace(&mut self, new: Config) -> anyhow::Result<Vec<String>> {
        let opened = open(&new.backends, &self.opened)?;
        let known = Known::new(new.auth.clone())?;
        let mut changes = differences(&self.opened, &opened);
        if new.models != self.config.models {
            changes.push("models changed".to_owned());
        }
        if new.default_model != self.config.default_model {
            let default = new
                .default_model
                .as_deref()
                .map_or("no default model".to_owned(), |it| format!("default model `{it}`"));
            changes.push(default);
        }
        if !changes.is_empty() {
            self.gateway.route_by(router(&opened, &new));
        }
        if new.prompts.path != self.config.prompts.path {
            changes.push(format!("prompts from {}", new.prompts.path.display()));
            self.templates.read_from(new.prompts.path.clone());
        }
        if new.auth != self.config.auth {
            changes.push("who may ask changed".to_owned());
        }
        self.auth.replace(known);
        let Config { server, store, limits, log, webhooks, .. } = self.config.clone();
        self.config = Config { server, store, limits, log, webhooks, ..new };
        self.opened = opened;
        Ok(changes)
    }
}

fn differences(before: &AllOpened, now: &AllOpened) -> Vec<String> {
    let here = now.iter().filter_map(|(name, opened)| match before.get(name) {
        None => Some(format!("backend `{name}` added")),
        Some(before) if !Arc::ptr_eq(&before.backend, &opened.backend) => Some(format!("backend `{name}` changed")),
        Some(_) => None,
    });
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("backend `{name}` removed"));
    here.chain(gone).collect()
}

/// Looks until it is dropped, and at once when it is told to.
pub(super) async fn watch(mut watch: Watch, now: Arc<Notify>) {
    loop {
        let told = select! {
            () = now.notified() => true,
            () = sleep(watch.pause()) => false,
        };
        let look = move || {
            watch.look(told);
            watch
        };
        watch = match spawn_blocking(look).await {
            Ok(watch) => watch,
            Err(why) => return error!(%why, "the configuration is not read again any more: restart to change it"),
        };
    }
}

/// Who looks.
pub(super) struct Watch {
    source: Source,
    in_force: InForce,
    /// What was seen at the last look.
    looked: Vec<Option<Stamp>>,
    /// That was the same as at the look before.
    whole: bool,
    /// What was seen when it was read, unless it may have been half written. At first nothing: it may have changed since the start.
    read: Option<Vec<Option<Stamp>>>,
    /// What is said to be wrong.
    refused: Option<String>,
    /// What is said to wait for a restart.
    waiting: Vec<String>,
}

impl Watch {
    pub(super) fn new(source: Source, in_force: InForce) -> Self {
        Self { source, in_force, looked: Vec::new(), whole: true, read: None, refused: None, waiting: Vec::new() }
    }

    /// Until the next look.
    fn pause(&self) -> Duration {
        if self.whole { self.source.look } else { self.source.look.min(PAUSE) }
    }

    fn look(&mut self, told: bool) {
        let now = self.stamps();
        self.whole = self.looked == now;
        let due = self.read.as_ref() != Some(&now) || self.refused.is_some();
        self.looked.clone_from(&now);
        if told || (self.whole && due) {
            self.read_again(told);
            self.read = self.whole.then_some(now);
        }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let config = &self.in_force.config;
        let keys = config.backends.values().filter_map(Backend::key_file).chain(config.auth.key_file());
        std::iter::once(&*self.source.file).chain(keys).map(Stamp::of).collect()
    }

    /// Says what came of it, but for the same again unasked.
    fn read_again(&mut self, told: bool) {
        let read = self.read();
        let waiting = read.as_ref().map(|new| self.in_force.config.fixed_changes(new)).unwrap_or_default();
        let news = match read.and_then(|new| self.in_force.replace(new)) {
            Ok(changes) => {
                let news = told || !changes.is_empty() || waiting != self.waiting || self.refused.is_some();
                if news {
                    let changes = if changes.is_empty() { "nothing new".to_owned() } else { changes.join(", ") };
                    info!("the configuration is read again: {changes}");
                    if !waiting.is_empty() {
                        warn!("takes effect after a restart: {}", waiting.join(", "));
                    }
                }
                (self.refused, self.waiting) = (None, waiting);
                news
            }
            Err(why) => {
                let why = format!("{why:#}");
                let news = told || self.refused.as_ref() != Some(&why);
                if news {
                    warn!("the configuration was changed and is wrong now, the one before it stays: {why}");
                }
                self.refused = Some(why);
                news
            }
        };
        if news {
            self.in_force.gateway.metrics().reloaded(self.refused.is_none());
        }
    }

    /// A file that is gone is no empty one, and the built-in defaults are not what is wanted then.
    fn read(&self) -> anyhow::Result<Config> {
        if let Some(file) = self.in_force.config.file.as_deref().filter(|file| Stamp::of(file).is_none()) {
            bail!("{}: there is no file there to be read again", Path::display(file));
        }
        (self.source.read)()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::Env, gateway::Limits, store::memory::Memory, telemetry::Metrics};

    /// A file, a server's watch of it, and how often that took it and refused it.
    struct Desk {
        folder: tempfile::TempDir,
        watch: Watch,
    }

    impl Desk {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("lastword.toml");
            fs::write(&file, text).expect("written");
            let home = folder.path().to_owned();
            let read = move || Ok(Config::load(None, &home, &Env::new(), &[])?);
            let config = read().expect("right");
            let opened = open(&config.backends, &BTreeMap::new()).expect("open");
            let store = Arc::new(Memory::new(Duration::MAX, u64::MAX));
            let gateway = Gateway::new(store, router(&opened, &config), Limits::default(), Arc::new(Metrics::new()));
            let templates = Arc::new(Templates::new(config.prompts.path.clone()));
            let auth = Arc::new(Auth::new(config.auth.clone(), None).expect("a secret"));
            let in_force = InForce { config, opened, gateway, templates, auth };
            let watch = Watch::new(Source { file, read: Box::new(read), look: LOOK }, in_force);
            Self { folder, watch }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).expect("written");
        }

        /// Looks so often; what is the default then, and how many were taken and refused in all.
        fn look(&mut self, times: usize) -> (Option<String>, [u64; 2]) {
            (0..times).for_each(|_| self.watch.look(false));
            self.told()
        }

        fn told(&self) -> (Option<String>, [u64; 2]) {
            let gateway = &self.watch.in_force.gateway;
            let metrics = gateway.metrics().render();
            let count = |result: &str| {
                let name = format!("lastword_config_reloads_total{{result=\"{result}\"}} ");
                metrics.lines().find_map(|line| line.strip_prefix(&*name)?.parse().ok()).unwrap_or_default()
            };
            (gateway.router().default_model().map(str::to_owned), [count("applied"), count("refused")])
        }
    }

    fn default(model: &str, counts: [u64; 2]) -> (Option<String>, [u64; 2]) {
        (Some(format!("mock/{model}")), counts)
    }

    #[test]
    fn what_is_being_written_is_not_read() {
        let mut desk = Desk::new("default_model = \"mock/words\"");
        assert_eq!(desk.look(3), default("words", [0, 0]), "nothing has changed");
        assert_eq!(desk.watch.pause(), LOOK);
        for half in ["", "default", "default_model = \"mock/echo\"\n#"] {
            desk.write("lastword.toml", half);
            assert_eq!(desk.look(1), default("words", [0, 0]), "{half}");
            assert_eq!(desk.watch.pause(), PAUSE, "it is looked at again soon");
        }
        assert_eq!(desk.look(1), default("echo", [1, 0]), "nobody has written meanwhile");
        assert_eq!(desk.watch.pause(), LOOK);
        assert_eq!(desk.look(3), default("echo", [1, 0]));
    }

    #[test]
    fn what_is_wrong_is_said_once_and_mended_by_whatever_mends_it() {
        let mut desk = Desk::new("default_model = \"mock/words\"");
        let up = "[backends.mock]\nkind = \"mock\"\n[backends.up]\nkind = \"openai\"\nbase_url = \"http://h\"\n\
            api_key_file = \"key\"\n";
        desk.write("lastword.toml", &format!("default_model = \"mock/echo\"\n{up}"));
        assert_eq!(desk.look(5), default("words", [0, 1]), "there is no key");
        desk.write("lastword.toml", "default_model = \"mock/no");
        assert_eq!(desk.look(5), default("words", [0, 2]), "it is wrong in another way");
        desk.watch.look(true);
        assert_eq!(desk.told(), default("words", [0, 3]), "who asks is told again");
        desk.write("lastword.toml", &format!("default_model = \"mock/echo\"\n{up}"));
        assert_eq!(desk.look(5), default("words", [0, 4]));
        desk.write("key", "secret");
        assert_eq!(desk.look(1), default("echo", [1, 4]), "the file has not changed, and is right now");
        assert_eq!(desk.look(5), default("echo", [1, 4]));
    }

    #[test]
    fn what_comes_back_as_it_was_is_said_to_be_right_again() {
        let mut desk = Desk::new("default_model = \"mock/words\"");
        let file = desk.folder.path().join("lastword.toml");
        fs::remove_file(&file).expect("removed");
        assert_eq!(desk.look(5), default("words", [0, 1]), "no file is not the built-in defaults");
        desk.write("lastword.toml", "default_model = \"mock/words\"");
        assert_eq!(desk.look(5), default("words", [1, 1]));
    }

    #[test]
    fn what_holds_until_a_restart_is_named_once_and_stays() {
        let mut desk = Desk::new("default_model = \"mock/words\"");
        desk.look(2);
        let fixed = "default_model = \"mock/words\"\n[server]\nlisten = \"127.0.0.1:1\"\n[store]\nretain = \"2h\"\n\
            [log]\nfilter = \"debug\"\n[limits]\nforget_all = true\n[webhooks]\nurl = \"http://127.0.0.1:1\"\n\
            secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
        desk.write("lastword.toml", fixed);
        assert_eq!(desk.look(5), default("words", [1, 0]));
        let waiting = ["server.listen", "store.retain", "limits.forget_all", "log.filter", "webhooks"];
        assert_eq!(desk.watch.waiting, waiting);
        assert!(desk.watch.in_force.config.webhooks.is_none());
        assert_eq!(desk.watch.in_force.config.server.listen.port(), 8080);
        desk.write("lastword.toml", "default_model = \"mock/words\"\n[server]\nheartbeat = \"15s\"\n");
        assert_eq!(desk.look(5), default("words", [2, 0]), "a default that is written down is no change");
        assert_eq!(desk.watch.waiting, [""; 0]);
    }
}
