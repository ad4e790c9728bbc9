//! `lastword keys`: keys for those who ask.

use std::io::{Read, Write, stdin, stdout};

use clap::{Args, Subcommand};

use super::Usage;
use crate::auth::{Hash, new_key};

/// Make a key for who shall ask, or the hash of one.
///
/// The configuration holds the hash alone: the key is shown once, here, and can be found out from nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword keys new web
  lastword keys new web --json
  printenv LASTWORD_API_KEY | lastword keys hash")]
pub(super) struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key, and the lines that let it in
    New {
        /// Whose it is: letters, digits, `.`, `_`, `-`. Streams belong to this name
        name: String,

        /// As one JSON object: name, key, hash
        #[arg(long)]
        json: bool,
    },
    /// Print the hash of a key that is read from stdin
    Hash,
}

impl Keys {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        match self.what {
            What::New { name, json } => {
                let known = crate::auth::Key { hash: Hash::of("") };
                let config = crate::auth::Config { keys: [(name.clone(), known)].into(), ..Default::default() };
                config.check().map_err(|(_, what)| Usage(format!("`{name}` {what}")))?;
                let key = new_key()?;
                let hash = Hash::of(&key);
                if json {
                    let all = serde_json::json!({ "name": name, "key": key, "hash": hash.to_string() });
                    writeln!(out, "{all}")?;
                } else {
                    // A name with a dot in it is one name.
                    writeln!(
                        out,
                        "# The key, for who shall ask; it is shown this once:\n#   {key}\n[auth.keys.\"{name}\"]\nhash = \"{hash}\""
                    )?;
                }
            }
            What::Hash => {
                let mut key = String::new();
                stdin().lock().take(4096).read_to_string(&mut key)?;
                let key = key.trim();
                if key.len() < 32 {
                    return Err(
                        Usage("a key of fewer than 32 characters can be guessed from its hash".to_owned()).into()
                    );
                }
                writeln!(out, "{}", Hash::of(key))?;
            }
        }
        Ok(())
    }
}
