//! What the environment adds to the file: backends that a well-known variable enables, overrides, `${VARIABLES}` in values.

use toml::de::DeValue;

use super::{
    Env,
    document::{Document, string},
    error::Error,
};

/// A variable of this prefix overrides a key: `LASTWORD_SERVER__LISTEN` is `listen` in `[server]`.
const PREFIX: &str = "LASTWORD_";
/// Between a section and its key, since keys have single ones in them.
const SEPARATOR: &str = "__";
/// The keys that stand in no section. In a Kubernetes cluster a service called lastword sets `LASTWORD_PORT` and its like in
/// every pod, so of the variables without a separator only those that name one of these are overrides.
const TOP: [&str; 1] = ["DEFAULT_MODEL"];

/// Where OpenAI is.
const OPENAI: &str = "https://api.openai.com/v1";
/// Where Anthropic is: the one place of a backend of this kind that names no other.
const ANTHROPIC: &str = "https://api.anthropic.com/v1";
/// Where Ollama listens unless told otherwise.
const OLLAMA_PORT: u16 = 11434;

/// The backends of a file that names none: the mock, the user's own code (`push`), and those whose well-known variable is set.
///
/// `OPENAI_API_KEY` enables `openai`, `ANTHROPIC_API_KEY` `anthropic`; `OLLAMA_HOST` enables `ollama`, through its Chat Completions
/// endpoint.
pub(super) fn builtin_backends(document: &mut Document<'_>, env: &Env) -> Result<(), Error> {
    if document.has("backends") {
        return Ok(());
    }
    let set = |name: &str| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    document.put("built-in defaults", ["backends", "mock", "kind"], string("mock"))?;
    document.put("built-in defaults", ["backends", "push", "kind"], string("push"))?;
    let mut add = |variable, name, key, value: &str| document.put(variable, ["backends", name, key], string(value));
    if set("OPENAI_API_KEY").is_some() {
        add("OPENAI_API_KEY", "openai", "kind", "openai")?;
        add("OPENAI_API_KEY", "openai", "base_url", OPENAI)?;
        add("OPENAI_API_KEY", "openai", "api_key", "${OPENAI_API_KEY}")?;
    }
    if set("ANTHROPIC_API_KEY").is_some() {
        add("ANTHROPIC_API_KEY", "anthropic", "kind", "anthropic")?;
        add("ANTHROPIC_API_KEY", "anthropic", "api_key", "${ANTHROPIC_API_KEY}")?;
    }
    if let Some(host) = set("OLLAMA_HOST") {
        add("OLLAMA_HOST", "ollama", "kind", "openai")?;
        add("OLLAMA_HOST", "ollama", "base_url", &ollama_url(host).replace("${", "$${"))?;
    }
    Ok(())
}

/// `OLLAMA_HOST` in each of the forms that Ollama itself takes: `host`, `host:port`, `:port`, with a scheme, with a path.
fn ollama_url(host: &str) -> String {
    let host = host.trim_end_matches('/');
    if host.contains("://") {
        return format!("{host}/v1");
    }
    let (authority, path) = host.split_at(host.find('/').unwrap_or(host.len()));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (name, port.to_owned()),
        _ => (authority, OLLAMA_PORT.to_string()),
    };
    let name = if name.is_empty() { "127.0.0.1" } else { name };
    format!("http://{name}:{port}{path}/v1")
}

/// Lays `LASTWORD_SECTION__KEY` over the file. A value is TOML where it can be read as such (`10`, `true`, `["*"]`), else a
/// string; `'"10"'` is the string.
pub(super) fn overrides<'a>(document: &mut Document<'a>, env: &'a Env) -> Result<(), Error> {
    for (variable, value) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if !name.contains(SEPARATOR) && !TOP.contains(&name) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        let value = DeValue::parse(value).map_or_else(|_| string(value), |value| value.into_inner());
        document.put(variable, name.split(SEPARATOR), value)?;
    }
    Ok(())
}

/// Fills in the place of each backend whose kind has a usual one.
pub(super) fn usual_places(document: &mut Document<'_>) {
    document.supply_backends("anthropic", "base_url", ANTHROPIC);
}

/// Puts the values of variables in the place of `${NAME}`. `$${` is a literal `${`, and a `$` elsewhere is a `$`.
pub(super) fn fill_in(document: &mut Document<'_>, env: &Env) -> Result<(), Error> {
    document.change_strings(&|text| if text.contains("${") { filled_in(text, env).map(Some) } else { Ok(None) })
}

fn filled_in(text: &str, env: &Env) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &found[2..];
            continue;
        }
        filled.push_str(before);
        let name = found[2..].split_once('}').filter(|(name, _)| is_a_name(name));
        let (name, after) =
            name.ok_or("`${` begins the name of a variable, `${NAME}`; write `$${` for the two characters")?;
        let value = env.get(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_a_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_escapes_taken_off() {
        let env = Env::from([("A".to_owned(), "${B}$".to_owned()), ("EMPTY".to_owned(), String::new())]);
        let filled = |text| filled_in(text, &env);
        assert_eq!(
            filled("x${A}y${EMPTY}${A}").expect("set"),
            "x${B}$y${B}$",
            "what a variable holds is not filled in again"
        );
        assert_eq!(filled("$${A}").expect("escaped"), "${A}");
        assert_eq!(filled("$$${A}").expect("escaped"), "$${A}");
        assert_eq!(filled("5$ $x").expect("no variable"), "5$ $x");
        for wrong in ["${", "${}", "${A", "${A B}", "${-}"] {
            assert!(filled(wrong).expect_err(wrong).contains("write `$${`"), "{wrong}");
        }
        assert_eq!(filled("${NOT}").expect_err("missing"), "the environment variable `NOT` is not set");
    }

    #[test]
    fn ollamas_host_is_read_as_ollama_reads_it() {
        for (host, url) in [
            ("gpu", "http://gpu:11434/v1"),
            ("0.0.0.0", "http://0.0.0.0:11434/v1"),
            ("gpu:80", "http://gpu:80/v1"),
            (":8000", "http://127.0.0.1:8000/v1"),
            ("[::1]", "http://[::1]:11434/v1"),
            ("[::1]:80", "http://[::1]:80/v1"),
            ("gpu/ollama/", "http://gpu:11434/ollama/v1"),
            ("https://gpu", "https://gpu/v1"),
            ("http://gpu:80/", "http://gpu:80/v1"),
        ] {
            assert_eq!(ollama_url(host), url, "{host}");
        }
    }
}
