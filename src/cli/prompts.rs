//! `lastword prompts`: which named prompts there are, and what each takes.

use std::{
    io::{self, Write, stdout},
    path::PathBuf,
};

use anyhow::bail;
use clap::Args;

use crate::template::{Template, Templates};

/// List the named prompts and their variables.
///
/// Those of the folder that the configuration names, and those that come with the binary. Exits with 1 if one of them is broken.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lastword prompts
  lastword chat --template translate --var to=French 'Good day'")]
pub(super) struct Prompts {
    /// The file; else lastword.toml in the working directory, else the built-in defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Prompts {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = super::configuration(self.config, &[])?;
        let templates = Templates::new(config.prompts.path);
        let (mut out, mut broken) = (stdout().lock(), Vec::new());
        for name in templates.names() {
            match templates.get(&name) {
                Ok(template) if self.json => writeln!(out, "{}", template.describe(&name))?,
                Ok(template) => print(&mut out, &name, &template)?,
                Err(error) => broken.push(error.to_string()),
            }
        }
        match broken.is_empty() {
            true => Ok(()),
            false => bail!(broken.join("\n          ")),
        }
    }
}

fn print(out: &mut impl Write, name: &str, template: &Template) -> io::Result<()> {
    writeln!(out, "{name}: {}", template.description.as_deref().unwrap_or("without a description"))?;
    for (variable, about) in &template.variables {
        let must = match &about.default {
            Some(default) => format!("else {default}"),
            None => "required".to_owned(),
        };
        let what = about.description.clone().unwrap_or_else(|| about.r#type.to_string());
        writeln!(out, "  {variable:12} {what} ({must})")?;
    }
    Ok(())
}
