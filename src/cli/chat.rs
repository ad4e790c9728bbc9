//! `lastword chat`: ask, and read the answer as it comes.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read, stdin},
    process::ExitCode,
};

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Usage,
    remote::Remote,
    screen::Screen,
    watch::{CtrlC, Watch},
};
use crate::client::{Ask, Lastword};

/// Ask, and read the answer as it comes.
///
/// A connection that breaks is made anew, and the answer goes on where it was; so it does when the server is started again. Ctrl-C
/// stops the answer. What comes on stdin is put behind the prompt. Exits with 0 if the answer completed, 1 if it did not, 130 after Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword chat 'Tell me about rivers'
  git diff | lastword chat 'Write a commit message for this'
  lastword chat --model fast --system 'You are brief.' 'Why is the sky blue?'
  lastword chat --template translate --var to=French 'Good day'
  lastword chat --json 'Tell me about rivers' | jq -j 'select(.event == \"message\").data.text'")]
pub(super) struct Chat {
    /// What to ask; with --template, its one variable that has no default and no --var
    prompt: Option<String>,

    /// Who is asked; else the server's default
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// What the model is told before
    #[arg(long, short, value_name = "TEXT")]
    system: Option<String>,

    /// A named prompt of the server's; `lastword prompts` lists them
    #[arg(long, short, value_name = "NAME")]
    template: Option<String>,

    /// A variable of the template
    #[arg(long, value_name = "KEY=VALUE", requires = "template", value_parser = variable)]
    var: Vec<(String, String)>,

    /// How long the answer may be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,

    /// Each event as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A template, as far as it must be known to fill it in.
#[derive(Deserialize)]
struct Template {
    name: String,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
}

#[derive(Deserialize)]
struct Variable {
    r#type: String,
    default: Option<Value>,
}

#[derive(Deserialize)]
struct Prompts {
    prompts: Vec<Template>,
}

impl Chat {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let lastword = self.remote.lastword()?;
        let prompt = self.prompt()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let answer = lastword.ask(Ask::new(&self.body(&lastword, prompt).await?));
            let patience = self.remote.patience().to_string();
            let screen = Screen::new(self.json);
            Watch { lastword, answer, screen, ctrl_c: CtrlC::Cancels, patience }.run().await
        })
    }

    /// The argument, and what is on stdin behind it.
    fn prompt(&self) -> anyhow::Result<Option<String>> {
        let mut piped = String::new();
        if !stdin().is_terminal() {
            let read = stdin().lock().read_to_string(&mut piped);
            read.map_err(|error| Usage(format!("the prompt on stdin cannot be read: {error}")))?;
        }
        let parts: Vec<_> =
            self.prompt.iter().map(String::as_str).chain([&*piped]).filter(|part| !part.trim().is_empty()).collect();
        match parts.is_empty() {
            false => Ok(Some(parts.join("\n\n"))),
            true if self.template.is_some() => Ok(None),
            true => Err(Usage("there is no prompt; say lastword chat \"…\", or pipe one in".to_owned()).into()),
        }
    }

    async fn body(&self, lastword: &Lastword, prompt: Option<String>) -> anyhow::Result<Value> {
        let mut body = match &self.template {
            None => json!({ "prompt": prompt }),
            Some(name) => {
                let Prompts { prompts } = lastword.get("v1/prompts").await?;
                // Of one that is not there the server has more to say.
                let known = prompts.into_iter().find(|template| template.name == *name);
                let variables = known.map_or(BTreeMap::new(), |template| template.variables);
                json!({ "template": name, "variables": self.filled_in(&variables, prompt)? })
            }
        };
        for (name, value) in [
            ("model", self.model.clone().map(Value::from)),
            ("system", self.system.clone().map(Value::from)),
            ("max_tokens", self.max_tokens.map(Value::from)),
        ] {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        Ok(body)
    }

    fn filled_in(
        &self,
        known: &BTreeMap<String, Variable>,
        prompt: Option<String>,
    ) -> Result<Map<String, Value>, Usage> {
        let typed = |(key, value): &(String, String)| {
            let text = known.get(key).is_none_or(|variable| variable.r#type == "string");
            let read = if text { None } else { serde_json::from_str(value).ok() };
            (key.clone(), read.unwrap_or_else(|| Value::from(value.as_str())))
        };
        let mut variables: Map<_, _> = self.var.iter().map(typed).collect();
        let Some(prompt) = prompt else { return Ok(variables) };
        let mut open =
            known.iter().filter(|(name, variable)| variable.default.is_none() && !variables.contains_key(*name));
        match (open.next().map(|(name, _)| name.clone()), open.next()) {
            (Some(name), None) => {
                variables.insert(name, prompt.into());
                Ok(variables)
            }
            (None, _) if known.is_empty() => Ok(variables),
            (None, _) => Err(Usage("the template has all it needs; leave the prompt out".to_owned())),
            (Some(name), Some((other, _))) => {
                Err(Usage(format!("is the prompt `{name}` or `{other}`? Give all but one of them with --var")))
            }
        }
    }
}
