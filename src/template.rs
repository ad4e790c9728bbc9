//! Named prompts: Markdown files in a folder, with variables that a request fills in.
//!
//! ```text
//! +++
//! description = "Say in a few sentences what a text says"
//! temperature = 0.3
//! [variables.text]
//! [variables.sentences]
//! type = "integer"
//! default = 3
//! +++
//! # System
//! You summarise texts.
//! # User
//! In at most {{ sentences }} sentences: {{ text }}
//! ```
//!
//! Between the `+++`, TOML: what it is, how to answer, which variables there are. Below it, Jinja: a part for the system and one for
//! the user, each under its heading; without headings all is the user's. A file is read when it is asked for and has changed
//! since; one that is wrong then is reported, and the one before it stays. Some come with the binary; a file of the same name in the
//! folder takes the place of one of those.

mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::warn;

pub use self::file::{Params, Template, Type, Variable};
use crate::{near::Unknown, stamp::Stamp};

/// Those that come with the binary.
const SHIPPED: [(&str, &str); 3] = [
    ("explain-code", include_str!("../prompts/explain-code.md")),
    ("summarise", include_str!("../prompts/summarise.md")),
    ("translate", include_str!("../prompts/translate.md")),
];
/// The ending of a template's file.
const ENDING: &str = "md";
/// A file larger than this is no prompt.
const LARGEST: u64 = 1 << 20;

/// The section `[prompts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder; relative to the config file. It need not exist.
    pub path: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "prompts".into() }
    }
}

/// A template with its variables filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// For the system.
    pub system: Option<String>,
    /// What the user says.
    pub user: String,
    /// How to answer, where the template says so.
    pub params: Params,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none of this name.
    #[error("there is no template `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What was probably meant, or what there is.
        remedy: String,
    },
    /// Its file is wrong: its author's affair, not the asker's.
    #[error("the template `{name}` is broken: {why}")]
    Broken {
        /// Which.
        name: String,
        /// What is wrong, and where.
        why: String,
    },
    /// A variable is missing, unknown, or of another type.
    #[error("`{variable}` {why}")]
    Variable {
        /// Which.
        variable: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: String,
    },
}

/// All templates there are. Reading a folder can block: see [`Templates::render`].
pub struct Templates(Mutex<Folder>);

/// Where the files are.
#[derive(Default)]
struct Folder {
    path: PathBuf,
    /// What was read of each.
    read: BTreeMap<String, Read>,
}

/// A file as it was when it was read last.
struct Read {
    stamp: Option<Stamp>,
    template: Result<Arc<Template>, String>,
}

impl Templates {
    /// The templates of this folder, and those that come with the binary.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(Mutex::new(Folder { path: folder, ..Folder::default() }))
    }

    /// From now on those of this folder.
    pub fn read_from(&self, folder: PathBuf) {
        *self.folder() = Folder { path: folder, ..Folder::default() };
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let folder = self.folder().path.clone();
        let files = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| {
            let path = entry.path();
            let name = path.file_stem()?.to_str().filter(|name| is_name(name))?.to_owned();
            (path.extension().is_some_and(|ending| ending == ENDING)).then_some(name)
        });
        SHIPPED.iter().map(|(name, _)| (*name).to_owned()).chain(files).collect()
    }

    /// The template of this name, as its file is now. Blocks on the file system.
    ///
    /// # Errors
    /// When there is none, or it never was right.
    pub fn get(&self, name: &str) -> Result<Arc<Template>, Error> {
        let unknown = || {
            let names = self.names();
            let valid = names.iter().map(String::as_str).collect();
            Error::Unknown { name: shown(name), remedy: Unknown { key: name, valid }.remedy() }
        };
        if !is_name(name) {
            return Err(unknown());
        }
        let mut folder = self.folder();
        let file = folder.path.join(name).with_extension(ENDING);
        let stamp = Stamp::of(&file);
        let known = folder.read.get(name);
        if known.is_none_or(|known| known.stamp != stamp) {
            let new = match stamp {
                Some(stamp) if stamp.size() <= LARGEST => read(&file),
                Some(_) => Err(format!("{} is larger than a prompt can be", file.display())),
                None => match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
                    Some((_, text)) => Template::parse(text),
                    None => {
                        folder.read.remove(name);
                        drop(folder);
                        return Err(unknown());
                    }
                },
            };
            let before = known.and_then(|known| known.template.as_ref().ok()).cloned();
            let template = match (new, before) {
                (Ok(new), _) => Ok(Arc::new(new)),
                (Err(why), Some(before)) => {
                    warn!(template = name, why, "a template was changed and is wrong now: the one before it stays");
                    Ok(before)
                }
                (Err(why), None) => Err(why),
            };
            folder.read.insert(name.to_owned(), Read { stamp, template });
        }
        let read = folder.read.get(name);
        let template = read.map(|read| read.template.clone()).unwrap_or_else(|| Err("it is gone".to_owned()));
        template.map_err(|why| Error::Broken { name: name.to_owned(), why })
    }

    /// A template with its variables filled in. Blocks on the file system.
    ///
    /// # Errors
    /// As [`Templates::get`], and when the variables are not those of the template.
    pub fn render(&self, name: &str, variables: &Map<String, Value>) -> Result<Rendered, Error> {
        self.get(name)?.render(name, variables)
    }
}

fn read(file: &Path) -> Result<Template, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Template::parse(&text).map_err(|why| format!("{}: {why}", file.display()))
}

/// A name is a file's, and never a way out of the folder.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=100).contains(&name.len()) && name.bytes().all(plain)
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
